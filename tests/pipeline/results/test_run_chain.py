"""The chain of initial weights, from params.yaml or from what trained runs say."""

from __future__ import annotations

from typing import Any

from pipeline.experiment.validation import load
from pipeline.results.run_chain import chance, run_chain, stalled
from tests.support import ROOT


def test_every_run_of_the_grid_hangs_on_the_run_it_starts_from() -> None:
    params = load(ROOT / "params.yaml")
    chain = run_chain(params, {"D-384": {"epochs": 4}})
    runs = [run for first in chain for run in first.everyone()]
    assert [run.name for run in chain] == ["A-256", "A-LRN-256", "shallow-256"]
    assert {run.name for run in runs} == params.runs.keys() and len(runs) == len(params.runs)
    assert {run.name: [child.name for child in run.followers] for run in runs}["D-384"] == ["D-jitter", "D-jitter-fc"]
    assert [run.name for run in runs if run.summary] == ["D-384"]


def test_without_parameters_a_start_that_is_not_trained_is_a_beginning_too() -> None:
    summaries = {
        "D-384": {"init": "D-256"},
        "D-jitter": {"init": "D-384"},
        "B-256": {"init": "A-256"},
        "A-256-seed1": {"init": "random-A-seed1"},
    }
    chain = run_chain(None, summaries)
    assert [(run.name, run.summary is None) for run in chain] == [("D-256", True), ("A-256", True)]
    assert [run.name for run in chain[0].everyone()] == ["D-256", "D-384", "D-jitter"]
    assert run_chain(None, {}) == ()


def test_a_net_whose_interval_has_the_error_of_guessing_has_learnt_nothing() -> None:
    def row(net: str, low: float, high: float) -> dict[str, Any]:
        return {"label": {"net": net}, "ours": {"top1": {"low": low, "high": high}}}

    rows = [row("A", 74.0, 76.0), row("B", 60.0, 74.9), row("C", 75.1, 90.0), {"label": {"net": "D"}, "ours": None}]
    table = {"classes": 4, "rows": rows}
    assert chance(table) == 75 and stalled(table) == [{"net": "A"}]
