"""vgg-repro doctor: what would break weeks of work, found out beforehand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.health.base import Finding

MARKS = {"ok": "ok", "warning": "warning", "failure": "FAILURE"}
WHAT, MARK = 14, 8  # characters a column


def doctor(
    md5: Annotated[
        bool, typer.Option("--md5", help="Compare the archives' check sums too: reads all of ILSVRC-2012.")
    ] = False,
) -> None:
    """Look at GPU, disk, memory, limits, DVC, data and parameters; for each failure, say the command that mends it.

    The exit code is 0 without a failure, whatever the warnings, and 1 with one.

    Example: vgg-repro doctor
    """
    from pipeline.health import findings

    seen: Counter[str] = Counter()
    for finding in findings(md5):
        seen[finding.state] += 1
        typer.echo(_line(finding))
    typer.echo(_sum(seen))
    if seen["failure"]:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    """A finding, aligned, and below it what mends it."""
    margin = "\n" + " " * (WHAT + MARK)
    says = finding.says.strip().replace("\n", margin)
    mend = f"{margin}mend: {finding.mend}" if finding.mend else ""
    return f"{finding.what:{WHAT}}{MARKS[finding.state]:{MARK}}{says}{mend}"


def _sum(seen: Counter[str]) -> str:
    counted = [
        f"{seen[state]} {name if seen[state] == 1 else name + 's'}"
        for state, name in (("failure", "failure"), ("warning", "warning"))
        if seen[state]
    ]
    return f"\n{seen.total()} findings: {', '.join(counted) or 'all well'}"
