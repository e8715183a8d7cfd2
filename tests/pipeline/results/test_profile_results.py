"""A profile's results: read from its files, without those of other images, and their seconds added up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.results.profile_results import Results
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
    assert set(results.tables) == {*(f"table{number}" for number in (1, 2, 3, 5, 6, 7)), "shallow"}
    runs = {path.stem for path in (folder / "runs").glob("*.json")} - {"D-384"}
    assert set(results.summaries) == set(results.histories) == runs
    assert len(results.scores) == len([*(folder / "scores").glob("*.json")]) - 1


def test_without_prepared_images_only_tables_without_images_count(folder: Path) -> None:
    (folder / "data/classification.json").unlink()
    results = Results("mini")
    assert set(results.tables) == {"table1", "table2"}
    assert not results.summaries and not results.scores and not results.histories


def test_seconds_are_those_of_all_runs_and_scores(folder: Path) -> None:
    sums = {
        what: sum(json.loads(path.read_text())["provenance"]["seconds"] for path in (folder / place).glob("*.json"))
        for what, place in (("training", "runs"), ("scoring", "scores"))
    }
    assert Results("mini").seconds == pytest.approx(sums)
    shutil.rmtree(folder / "scores")
    assert Results("mini").seconds == {"training": pytest.approx(sums["training"]), "scoring": 0}
