"""The page of the training runs: schedule, error and speed of each, and the learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.experiment.run_names import kind_of, starting_from, train_stage
from pipeline.results.profile_results import Results
from reports.page import Block, Callout, Heading, Opener, Page, Paragraph, Table, Text, left, right
from reports.page_parts import ALL_TABLES, DAGGER, comparability_warning, outdated_warning, run_panel
from reports.phrases import interval
from vgg.stalling import did_not_learn


def training_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page of all runs, with its charts."""
    notes = (
        "Errors are on one centre crop of each validation image, at Q = S or, for jittered S, at the middle of its "
        "range; dense evaluation, as in the tables, gives other errors. "
        "The loss is the last epoch's mean on training crops."
    )
    return (
        Heading(1, "Training"),
        outdated_warning(results),
        comparability_warning(results),
        _runs(results),
        Paragraph(notes),
        *_stalled(results),
        *_more(results),
        *_localisers(results),
        *charts,
        ALL_TABLES,
    )


def _stalled(results: Results) -> Iterator[Block]:
    """Yield a warning that names the runs whose nets did not learn, if there are any, and those that start from one."""
    runs = [run for run, values in results.summaries.items() if did_not_learn(values)]
    if not runs:
        return
    starts = {run: values["init"] for run, values in results.summaries.items()}
    after = {follower for run in runs for follower in starting_from(starts, run)}
    later = ", ".join(run for run in results.summaries if run in after)
    start = f" These runs start from one of them, directly or through others: {later}." if later else ""
    words = "The loss of these runs ended at that of a blind guess, ln K for K classes, so their nets did not learn: "
    yield Callout(f"{words}{', '.join(runs)}.{start}")


def _more(results: Results) -> Iterator[Block]:
    """Yield a sentence on the runs whose curves are not drawn, if there are any."""
    if any(map(kind_of, results.summaries)):
        yield Paragraph("The learning curves are those of the grid, without further seeds and other initial weights.")


def _localisers(results: Results) -> Iterator[Block]:
    """Yield the localisers, if there are any."""
    if not results.localisers:
        return
    columns = (*left("localiser", "S", "from"), *right("epochs", "drops", "loss"), *left("boxes wrong, %"))
    rows = (_run(name, summary, train_stage(name) in results.outdated) for name, summary in results.localisers.items())
    yield Heading(2, "Localisers")
    yield Table(columns, tuple(rows))
    note = "The error is that of the true class's box at one centre crop, as in Table 8; the loss is half the squared "
    lacking = max(summary["without_boxes"]["train"] for summary in results.localisers.values())
    without = f" {lacking:,} training images have no box and are not trained on." if lacking else ""
    yield Paragraph(f"{note}distance of the box to its target, in units of the crop's side.{without}")


def _runs(results: Results) -> Table:
    columns = (
        *left("run", "S", "from"),
        *right("epochs", "drops", "loss"),
        *left("centre-crop top-1 error, %"),
    )
    rows = (_run(run, summary, f"train@{run}" in results.outdated) for run, summary in _grid_first(results))
    return Table(columns, tuple(rows))


def _grid_first(results: Results) -> list[tuple[str, dict[str, Any]]]:
    """Return the summaries of the grid's runs, then of those that the profile adds, by kind."""
    return sorted(results.summaries.items(), key=lambda item: kind_of(item[0]) or "")


def _run(run: str, summary: dict[str, Any], older: bool) -> tuple[Text, ...]:
    crop, scale = summary["centre_crop"], summary["scale"]
    best = {"error": crop["top1"], "low": crop["top1_low"], "high": crop["top1_high"]}
    scale = f"{scale[0]} to {scale[1]}" if isinstance(scale, list) else str(scale)
    schedule = [scale, summary["init"], str(summary["epochs"]), str(summary["drops"]), f"{summary['loss']:.2f}"]
    name = Opener(run, run_panel(run))
    return ((name, f" {DAGGER}") if older else name, *schedule, interval(best))
