"""The verdict on each error of a table, where the paper prints one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgg.judgement import Verdict

PRINTED = ("top1_val", "top5_val")  # the paper's errors of images whose labels are public


def cell_verdict(table: Mapping[str, Any], row: Mapping[str, Any], printed: str) -> Verdict | None:
    """Return the verdict on a row's error next to the paper's error `printed`.

    It is None if the paper prints none, in rows of other authors' networks, and of a table that was computed without
    rules for verdicts.
    """
    if not row["runs"] or row["paper"].get(printed) is None:
        return None
    if row["ours"] is None:
        return Verdict.NOT_RUN
    if not table["comparable"]:
        return Verdict.NOT_COMPARABLE
    judged = row.get("judged", {}).get(printed)
    return Verdict(judged["verdict"]) if judged else None
