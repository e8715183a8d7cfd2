"""What a report keeps of dvc.lock explains its runs when dvc.lock is of another profile, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.experiment.paths import kept_records, reported, summary
from pipeline.experiment.validation import load
from pipeline.results.explanation import ExplainedRun, Explanation, Files, explain
from pipeline.results.lock_file import LockFile, keep_records
from pipeline.results.row_choice import choose, row_names
from pipeline.results.tables import read_table
from tests.support.committed import change, committed

OTHER = "stages:\n  train@A-256:\n    params: {params.yaml: {profiles.evening.train.batch: 99}}\n"


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini, its records kept, and a dvc.lock of another profile."""
    monkeypatch.chdir(tmp_path)
    folder = committed(tmp_path, "dvc.lock")
    keep_records("mini")
    Path("dvc.lock").write_text(OTHER)
    return folder


def explained() -> Explanation:
    """Explain D at S = 256 of Table 3 of mini."""
    values = read_table("mini", "table3")
    (row,) = choose(["D-256"], row_names(values, {}), values["seed"])
    return explain(load(), Files("mini"), values, {}, row, None)


def runs() -> dict[str, ExplainedRun]:
    """Return the explained runs by name."""
    return {run.name: run for run in explained().runs}


def test_a_profile_that_is_not_active_is_explained_from_the_kept_records(mini: Path) -> None:
    found = explained()
    assert [run.values["batch"] for run in found.runs] == [16, 16] and all(run.continued for run in found.runs)
    assert [(first.seed, first.values["init"]) for first in found.first] == [(11, "he")]


def test_without_kept_records_nothing_is_taken_from_another_profiles(mini: Path) -> None:
    kept_records("mini").unlink()
    assert [run.values.get("batch") for run in explained().runs] == [None, None]
    assert explained().first[0].seed is None


def test_records_of_other_results_are_not_used(mini: Path) -> None:
    change(reported("mini", summary("A-256")), lambda values: values.update(steps=1))
    assert "batch" not in runs()["A-256"].values and runs()["D-256"].values["batch"] == 16


def test_another_profiles_lock_leaves_the_kept_records(mini: Path) -> None:
    before = kept_records("mini").read_bytes()
    keep_records("mini")
    assert kept_records("mini").read_bytes() == before
    keep_records("evening")
    assert json.loads(kept_records("evening").read_text()).keys() == {"train@A-256"}


def test_the_newest_lock_of_the_profile_is_taken_first(mini: Path) -> None:
    Path("dvc.lock").write_text(OTHER.replace("evening", "mini"))
    assert LockFile("mini").values("train@A-256") == {"train.batch": 99}
    assert LockFile("mini").values("train@D-256")["train.batch"] == 16
    keep_records("mini")
    assert len(json.loads(kept_records("mini").read_text())) == 17


def test_damaged_kept_records_count_as_none(mini: Path) -> None:
    kept_records("mini").write_text("{")
    assert "batch" not in runs()["A-256"].values
