"""The verdict of a cell: one per error that the paper prints, of all kinds, each with a word and a mark."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.results.cell_verdicts import cell_verdict
from reports.page import VERDICT_MARKS
from vgg.judgement import Verdict

JUDGED = {"top1_val": {"verdict": "worse"}}


def row(**values: Any) -> dict[str, Any]:
    """Return a row of a run net whose top-1 error the paper prints, with `values`."""
    return {"runs": ["A-256"], "paper": {"top1_val": 29.6, "top5_val": None}, "ours": {}} | values


@pytest.mark.parametrize(
    ("values", "comparable", "verdict"),
    [
        (row(judged=JUDGED), True, Verdict.WORSE),
        (row(), False, Verdict.NOT_COMPARABLE),
        (row(ours=None), True, Verdict.NOT_RUN),
        (row(ours=None), False, Verdict.NOT_RUN),
        (row(runs=[]), True, None),
        (row(paper={}), True, None),
        (row(), True, None),  # of a table computed without rules
    ],
)
def test_a_cell_has_the_verdict_of_its_state(values: dict[str, Any], comparable: bool, verdict: Verdict | None) -> None:
    assert cell_verdict({"comparable": comparable}, values, "top1_val") is verdict


def test_an_error_that_the_paper_does_not_print_has_none() -> None:
    assert cell_verdict({"comparable": True}, row(judged=JUDGED), "top5_val") is None


def test_every_verdict_has_a_mark() -> None:
    assert set(VERDICT_MARKS) == set(Verdict) and all(VERDICT_MARKS.values())
