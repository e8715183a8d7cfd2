"""The report's charts, one row each: its file and caption, the page that shows it, and what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.experiment.run_names import kind_of
from pipeline.results.profile_results import Results
from reports.drawing import curves_chart, depth_chart, shallow_chart
from reports.page import Block, Figure, Heading

INDEX = "README"


@dataclass(frozen=True)
class Chart:
    """A chart of the report."""

    figure: Figure
    page: str  # the page that shows it: INDEX, "training" or a table's name
    draw: Callable[[Results, Path], bool]  # draws to a path and returns True, if there are results to draw
    heading: str = ""  # of the section that shows it; none on a page of its own subject


def draw_charts(results: Results, folder: Path, suffix: str = ".png") -> list[Chart]:
    """Draw every chart that there are results for into `folder`, as PNG or SVG. Return those that were drawn."""
    return [chart for chart in CHARTS if chart.draw(results, (folder / chart.figure.path).with_suffix(suffix))]


def charts_on(page: str, drawn: Sequence[Chart]) -> Iterator[Block]:
    """Yield the blocks that show the drawn charts of a page."""
    for chart in drawn:
        if chart.page == page:
            yield from [Heading(2, chart.heading)] * bool(chart.heading)
            yield chart.figure


def _depth(results: Results, path: Path) -> bool:
    drawable = {"table3", "table4"} <= set(results.tables)
    if drawable:
        depth_chart(results.tables["table3"], results.tables["table4"], path)
    return drawable


def _curves(results: Results, path: Path) -> bool:
    histories = {run: rows for run, rows in results.histories.items() if not kind_of(run)}
    if histories:
        curves_chart(histories, path)
    return bool(histories)


def _shallow(results: Results, path: Path) -> bool:
    values = results.tables.get("shallow", {"rows": ()})
    drawable = bool(values["rows"]) and all(row["ours"] for row in values["rows"])
    if drawable:
        shallow_chart(values, path)
    return drawable


CHARTS = (
    Chart(
        Figure(
            "depth.png",
            "Error against depth: the paper's and our results",
            "Open circles: net C, as deep as D with 1x1 filters where D has 3x3. Training at one S is S = 256; "
            "jittered S is drawn from [256, 512].",
        ),
        INDEX,
        _depth,
        heading="Depth and scale",
    ),
    Chart(
        Figure(
            "curves.png",
            "Learning curves; dotted: the learning rate fell by a factor of ten",
            "Dotted lines: the learning rate fell by a factor of ten.",
        ),
        "training",
        _curves,
    ),
    Chart(Figure("shallow.png", "B and the shallow net at the centre crop"), "shallow", _shallow),
)
