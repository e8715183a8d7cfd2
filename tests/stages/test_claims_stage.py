"""The stage claims, its metrics, and what `vgg-repro claims` shows: from ranks alone, as in a fresh clone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.experiment.claims import CLAIMS, by_method, multiple, single
from pipeline.experiment.paths import claims, metrics, ranks
from pipeline.experiment.validation import load
from pipeline.results.metrics import write_metrics
from pipeline.results.ranks import TableRanks
from stages.claims import main
from tests.support import ROOT
from tests.support.program import program

IMAGES = 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the repository's parameters and no results."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def first_wrong(count: int) -> NDArray[np.int64]:
    """Return the ranks of a row that gets the first `count` images wrong."""
    return (np.arange(IMAGES) < count).astype(np.int64)


def write_ranks(table: str, rows: dict[str, NDArray[np.int64]]) -> None:
    """Write what a table's stage writes."""
    TableRanks(rows, np.zeros(0, np.int64), "m").write(ranks("mini", table))


def write_depth(shallow: int, deep: int) -> None:
    """Write a Table 3 in which A gets `shallow` images wrong, and E `deep` of them."""
    write_ranks("table3", {single("A", "256").row: first_wrong(shallow), single("E", "256").row: first_wrong(deep)})


def entry(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one claim of the ledger."""
    (found,) = (claim for claim in values["claims"] if claim["name"] == name)
    return dict(found)


def test_the_ledger_says_what_the_ranks_say(folder: Path) -> None:
    write_depth(130, 100)
    values = main(load())
    depth = entry(values, "depth-256")
    assert (depth["verdict"], depth["effect"], depth["gained"], depth["lost"]) == ("supported", pytest.approx(3), 30, 0)
    assert json.loads(claims("mini").read_text()) == values
    assert entry(values, "fusion")["verdict"] == "not run"
    write_depth(100, 130)
    assert entry(main(load()), "depth-256")["verdict"] == "contradicted"


def test_the_counts_of_verdicts_are_metrics_until_a_table_changes(folder: Path) -> None:
    write_depth(130, 100)
    main(load())
    counts = {"supported": 1, "contradicted": 0, "undecided": 0, "not run": len(CLAIMS) - 1}
    assert json.loads(metrics("mini").read_text())["claims"] == counts
    write_depth(131, 100)
    write_metrics("mini")
    assert "claims" not in json.loads(metrics("mini").read_text())


def test_the_command_shows_each_claim_with_its_verdict_and_what_is_missing(folder: Path) -> None:
    write_depth(130, 100)
    write_ranks("table4", {multiple("C", "256").row: first_wrong(100)})
    write_ranks("table5", {by_method("D", "dense").row: first_wrong(100)})
    outcome = program(folder, "claims")
    assert outcome.code == 0, outcome
    line = next(line for line in outcome.out.splitlines() if "At S = 256 the deepest net" in line)
    assert all(part in line for part in ("+2.3", "+3.0", "30 / 0", "supported"))
    fused = next(line for line in outcome.out.splitlines() if "D and E together" in line)
    assert "not run" in fused and "vgg-repro table 5" in fused
    assert f"Of the paper's {len(CLAIMS)} claims" in outcome.out and "1 is supported" in outcome.out
    assert "images only" in outcome.out  # one seed


def test_the_command_says_so_if_there_is_nothing_to_test(folder: Path) -> None:
    outcome = program(folder, "claims")
    assert outcome.code == 0 and "dvc repro claims" in outcome.out
    assert "|" not in outcome.out
    unknown = program(folder, "claims", "--profile", "minni")
    assert unknown.code == 2 and "mini" in unknown.error


def test_an_undecided_claim_says_which_effect_would_be_visible(folder: Path) -> None:
    write_depth(101, 100)
    outcome = program(folder, "claims")
    line = next(line for line in outcome.out.splitlines() if "At S = 256 the deepest net" in line)
    visible = entry(json.loads(json.dumps(main(load()))), "depth-256")["smallest_visible"]
    assert f"visible from {visible:.1f} points" in line
