"""The page of the training runs: schedule, error and speed of each, and the learning curves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.results.profile_results import Results
from pipeline.system.progress import duration
from reports.page import Block, Heading, Page, Paragraph, Table, left, right
from reports.page_parts import ALL_TABLES, comparability_warning
from reports.phrases import NONE, interval

SPEEDS = (("images_per_second", 0), ("waited", 1))  # a run's speeds, and their digits after the point


def training_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page of all runs, with its charts."""
    notes = (
        "The centre crop is taken at the run's own Q: S, or the middle of a jittered S. "
        "The loss is the last epoch's mean on training crops. Images a second and the share of the time that the net "
        "waited for images are the epochs' medians."
    )
    return (
        Heading(1, "Training"),
        comparability_warning(results),
        _runs(results),
        Paragraph(notes),
        *charts,
        ALL_TABLES,
    )


def _runs(results: Results) -> Table:
    columns = (
        *left("run", "S", "from"),
        *right("epochs", "drops", "loss"),
        *left("centre-crop top-1 error, %"),
        *right("images/s", "waited, %", "time"),
    )
    return Table(columns, tuple(_run(run, summary) for run, summary in results.summaries.items()))


def _run(run: str, summary: dict[str, Any]) -> tuple[str, ...]:
    crop, source, scale = summary["centre_crop"], summary["provenance"], summary["scale"]
    best = {"error": crop["top1"], "low": crop["top1_low"], "high": crop["top1_high"]}
    scale = f"{scale[0]} to {scale[1]}" if isinstance(scale, list) else str(scale)
    schedule = [scale, summary["init"], str(summary["epochs"]), str(summary["drops"]), f"{summary['loss']:.2f}"]
    speed = [f"{source[key]:.{digits}f}" if key in source else NONE for key, digits in SPEEDS]
    return (run, *schedule, interval(best), *speed, duration(source["seconds"]))
