"""vgg-repro doctor: checks for problems that would ruin weeks of work."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipeline.doctor.base import Finding

MARKS = {"ok": "ok", "warning": "warning", "failure": "FAILURE"}
WHAT, MARK = 14, 8  # characters per column


def doctor() -> None:
    """Check packages, GPUs, memory, disks, DVC, images and parameters; print the command that fixes each failure.

    The exit code is 1 if there is a failure, else 0. Warnings do not change it.

    Example: vgg-repro doctor
    """
    from pipeline.doctor import findings

    counts: Counter[str] = Counter()
    for finding in findings():
        counts[finding.state] += 1
        typer.echo(_line(finding))
    typer.echo(f"\n{counts.total()} findings, failures: {counts['failure']}, warnings: {counts['warning']}")
    if counts["failure"]:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    """Return a finding as aligned lines, with its fix below it."""
    margin = "\n" + " " * (WHAT + MARK)
    says = finding.says.strip().replace("\n", margin)
    fix = f"{margin}fix: {finding.fix}" if finding.fix else ""
    return f"{finding.what:{WHAT}}{MARKS[finding.state]:{MARK}}{says}{fix}"
