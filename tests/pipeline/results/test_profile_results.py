"""A profile's results: read from its files, without those of other images, runs and profiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.experiment.paths import errors, history, summary
from pipeline.experiment.validation import load
from pipeline.results.profile_results import Results, collect
from pipeline.system.atomic_files import write_json
from tests.support import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed results of profile mini, in the current folder."""
    shutil.copytree(ROOT / "reports/mini", tmp_path / "reports/mini", ignore=shutil.ignore_patterns("*.md", "*.png"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports/mini"


def test_the_results_of_other_images_are_set_apart(folder: Path) -> None:
    for name, key in (("table4", "manifest"), ("runs/D-384", "data"), ("scores/dense-D-384", "data")):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: "another"}))
    results = Results("mini")
    assert results.others == ["table4", "D-384", "dense-D-384"]
    assert set(results.tables) == {*(f"table{number}" for number in range(1, 11) if number != 4), "shallow"}
    runs = {path.stem for path in (folder / "runs").glob("*.json")} - {"D-384", *results.localisers}
    assert set(results.summaries) == set(results.histories) == runs
    assert len(results.scores) == len([*(folder / "scores").glob("*.json")]) - 1


def test_without_prepared_images_only_tables_without_images_count(folder: Path) -> None:
    (folder / "data/classification.json").unlink()
    results = Results("mini")
    assert set(results.tables) == {"table1", "table2"}
    assert not results.summaries and not results.scores and not results.histories


def test_what_is_shown_has_one_hash(folder: Path) -> None:
    before = Results("mini").digest
    assert Results("mini").digest == before
    path = folder / "runs/D-384.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loss": 9.0}))
    assert Results("mini").digest != before


def test_a_renamed_run_leaves_nothing_behind_that_is_shown(folder: Path) -> None:
    params = load(ROOT / "params.yaml")
    collect(params)
    assert "E-jitter" in Results("mini").summaries
    fewer = {name: run for name, run in params.runs.items() if name != "E-jitter"}
    changed = {"runs": fewer, "crops": ["D-jitter"]}
    collect(params.model_copy(update=changed))
    assert "E-jitter" not in Results("mini").summaries
    assert not list(folder.rglob("*E-jitter*"))


def test_results_of_this_profile_alone_are_collected(folder: Path) -> None:
    params = load(ROOT / "params.yaml")
    for profile in ("paper", "mini"):
        write_json(summary("A-256"), {"profile": profile, "loss": 9.0})
        write_json(errors("A-256", "dense"), {"profile": profile, "k": 9})
        history("A-256").write_text("step,epoch\n")
        collect(params)
        copied = json.loads((folder / "runs/A-256.json").read_text())["loss"] == 9.0
        assert copied == (profile == "mini")
        assert (json.loads((folder / "scores/dense-A-256.json").read_text())["k"] == 9) == copied
        assert ((folder / "runs/A-256.csv").read_text() == "step,epoch\n") == copied


def test_a_run_made_with_other_parameters_is_named(folder: Path) -> None:
    results = Results("mini", {"train@A-256": "its rate", "train@nobody": "", "table3": "after train@A-256"})
    assert list(results.outdated.items()) == [("train@A-256", "its rate"), ("table3", "after train@A-256")]
