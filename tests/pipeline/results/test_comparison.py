"""The comparison with the committed tables: of what was computed here, and with the reason for a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiment.paths import classified, errors, table
from pipeline.results.comparison import compared_with_head
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import write_json
from tests.support.clones import call

AUTHOR = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")


def write_table(*values: float) -> None:
    """Write a table of as many runs, each of one score."""
    rows: list[dict[str, Any]] = [
        {"label": {"net": str(number)}, "scores": [f"dense@{number}"], "ours": {"top1": {"error": value}}}
        for number, value in enumerate(values)
    ]
    write_json(table("mini", "table3"), {"table": "table3", "rows": [*rows, {"label": {}, "scores": [], "ours": None}]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a committed table."""
    monkeypatch.chdir(tmp_path)
    write_table(1.0, 2.0)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "git", "add", "--all")
    call(tmp_path, *AUTHOR, "commit", "--quiet", "--message", "Results")
    return tmp_path


def computed(*runs: int) -> None:
    """Leave what a score stage leaves here."""
    for run in runs:
        write_json(errors(str(run), "dense"), {})
        record_provenance(f"dense@{run}", errors(str(run), "dense"), "cpu", 1, 1.0)


def test_what_was_not_computed_here_is_not_compared(folder: Path) -> None:
    assert "none of them was computed again here" in compared_with_head("mini")
    computed(1)
    assert "all 1 errors that were computed here (of 2) are equal" in compared_with_head("mini")
    computed(0)
    assert "all 2 errors are equal" in compared_with_head("mini")
    assert "no results of profile paper are committed" in compared_with_head("paper")


def test_what_was_computed_here_but_is_not_committed_is_not_said_to_be_missing(folder: Path) -> None:
    row = {"label": {"data set": "VOC-2007", "method": "D"}, "scores": ["svm-D@voc2007"], "ours": {"value": 50.0}}
    write_json(table("mini", "table11"), {"table": "table11", "rows": [row]})
    record = classified("table11", "voc2007", "D").with_suffix(".json")
    write_json(record, {})
    record_provenance("svm-D@voc2007", record, "cpu", 1, 1.0)
    said = compared_with_head("mini")
    assert said == "Nothing to compare: the committed results do not have the measures that were computed here."


def test_measures_of_other_data_sets_are_compared_if_their_svms_were_trained_here(folder: Path) -> None:
    computed(0, 1)
    row = {"label": {"data set": "drawn scenes", "method": "D"}, "scores": ["svm-D@scenes"], "ours": {"value": 50.0}}
    write_json(table("mini", "table11"), {"table": "table11", "rows": [row]})
    call(folder, "git", "add", "--all")
    call(folder, *AUTHOR, "commit", "--quiet", "--message", "Table 11")
    assert "all 2 errors that were computed here (of 3) are equal" in compared_with_head("mini")
    record = classified("table11", "scenes", "D").with_suffix(".json")
    write_json(record, {})
    record_provenance("svm-D@scenes", record, "cpu", 1, 1.0)
    assert "all 3 errors and measures are equal" in compared_with_head("mini")
    write_json(table("mini", "table11"), {"table": "table11", "rows": [row | {"ours": {"value": 51.5}}]})
    assert "1 of 3 errors and measures differ, by up to 1.5 points" in compared_with_head("mini")


def test_a_difference_comes_with_its_size_and_the_likely_reason(folder: Path) -> None:
    computed(0, 1)
    write_table(1.0, 4.5)
    assert "1 of 2 errors differ, by up to 2.5 points. The usual reason" in compared_with_head("mini")
    assert "points. Some are older than params.yaml." in compared_with_head("mini", outdated=True)
    assert json.loads(table("mini", "table3").read_text())["rows"][1]["ours"]["top1"]["error"] == 4.5


def test_without_git_it_says_that_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(1.0)
    assert "there is no git repository" in compared_with_head("mini")
