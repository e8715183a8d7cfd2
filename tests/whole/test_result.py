"""The committed mini result: every net learnt in the paper's way, and dense and multi-crop evaluation stand near it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.experiment.validation import load
from reports.markdown import markdown
from reports.table_pages import results_table
from tests.support import ROOT

MINI = ROOT / "reports/mini"
RUNS = list(load(ROOT / "params.yaml").runs)


def read(name: str) -> Any:
    """A committed JSON of the mini profile."""
    return json.loads((MINI / f"{name}.json").read_text())


@pytest.mark.parametrize("run", RUNS)
def test_every_run_errs_below_15_per_cent_at_the_centre_crop(run: str) -> None:
    assert read(f"runs/{run}")["centre_crop"]["top1"] < 15


@pytest.mark.parametrize("run", RUNS)
def test_dense_evaluation_over_the_test_scales_stands_near_the_centre_crop(run: str) -> None:
    """Within 8 points: about three standard errors of a difference at such rates, and far below a broken geometry's."""
    dense = min(found["top1"] for found in read(f"scores/dense-{run}")["errors"].values())
    assert dense < read(f"runs/{run}")["centre_crop"]["top1"] + 8


@pytest.mark.parametrize("name", ["table3", "table4", "table5", "table6", "table7", "shallow"])
def test_no_row_of_ours_is_missing(name: str) -> None:
    for row in read(name)["rows"]:
        assert (row["ours"] is None) == (not row["runs"])


def test_the_result_is_one_data_set_and_one_set_of_weights() -> None:
    facts = read("data/classification")
    summaries = {run: read(f"runs/{run}") for run in RUNS}
    assert {one["data"] for one in summaries.values()} == {facts["manifest"]}
    for name in ("table3", "table4", "table5", "table6", "table7", "shallow"):
        for run, weights in read(name)["weights"].items():
            assert weights == summaries[run]["weights_sha256"]


def test_the_readme_shows_the_table_as_it_came_out() -> None:
    assert markdown([results_table(read("table4"), {})]) in (ROOT / "README.md").read_text()
