"""The drawing of the charts of other data sets, from the rows of their CSV and the images by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.experiment.other_sets import MEASURES
from pipeline.results.encoded_images import Pixels
from pipeline.results.shown_sets import example_image
from reports.chart_style import BLUE, INK, ORANGE, PALE, class_label, new_figure, series, shortened, signed
from reports.image_drawing import outline

Images = Mapping[str, Pixels]  # by name, (height, width, 3) each
COLUMNS, FEW = 3, 2  # panels of data sets next to each other; so few if classes have long names
SHORT, LONG = 12, 24  # letters of a class's name next to so many panels, and next to few
ABOVE = 10  # letters of the true classes above an example
LISTED = 18  # letters of a name in a legend of two columns in one of few panels
MOST, ENDS = 26, 12  # classes of a panel; of more, so many of the best and of the worst
LINE = 0.155  # inches per class
PAIR = 6  # examples of a class


def _columns(rows: pd.DataFrame) -> int:
    """Return how many panels stand next to each other."""
    return COLUMNS if rows["class"].str.len().max() <= SHORT else FEW


def class_chart(rows: pd.DataFrame) -> Figure:
    """Return the measure of each class, a panel per data set, with our mean and the paper's."""
    panels, columns = [own for _, own in rows.groupby("set", sort=False)], _columns(rows)
    tall = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    heights = [1.15 + LINE * max(len(_shown_classes(own)) for own in line) for line in tall]
    figure = new_figure(sum(heights))
    grid = figure.subplots(len(tall), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for own, axes in zip(panels, grid.flat, strict=False):
        _class_panel(axes, own, SHORT if columns == COLUMNS else LONG)
    return figure


def _shown_classes(rows: pd.DataFrame) -> list[int]:
    """Return the numbers of the classes that a panel shows, in the order of the last variant, -1 for those between."""
    numbers: list[int] = rows[rows["variant"] == rows["variant"].iloc[-1]]["number"].tolist()
    return numbers if len(numbers) <= MOST else [*numbers[:ENDS], -1, *numbers[-ENDS:]]


def _class_panel(axes: Axes, rows: pd.DataFrame, letters: int) -> None:
    numbers, last = _shown_classes(rows), rows["variant"].iloc[-1]
    places, names = (
        {number: place for place, number in enumerate(numbers)},
        dict(zip(rows["number"], rows["class"], strict=True)),
    )
    for variant, own in rows[rows["number"].isin(numbers)].groupby("variant", sort=False):
        face = BLUE if variant == last else "none"
        axes.scatter(own["value"], own["number"].map(places), s=16, color=BLUE, facecolors=face, zorder=3,
                     clip_on=False)  # fmt: skip
    main = rows[rows["variant"] == last].iloc[0]
    axes.axvline(main["mean"], color=INK, lw=1.2)
    if pd.notna(main["paper"]):
        axes.axvline(main["paper"], color=ORANGE, lw=1.4, ls=(0, (4, 2)))
    if pd.notna(main["chance"]):
        axes.axvline(main["chance"], color=PALE, lw=1.2, ls=":")
    labels = ["…" if number < 0 else class_label(number, names[number], letters) for number in numbers]
    axes.set_yticks(range(len(numbers)), labels, fontsize=7)
    axes.set(xlim=(-3, 103), ylim=(len(numbers) - 0.4, -0.6), xticks=(0, 50, 100))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(shortened(main["title"], 24), fontsize=8.5)
    axes.set_xlabel(_means(main), fontsize=7.5)


def _means(main: pd.Series) -> str:
    """Return the measure, our mean and the paper's, in lines."""
    what = "recall" if main["measured"] == MEASURES["recall"] else "AP"
    lines = [f"{what}, %; mean {main['mean']:.1f}"]
    if pd.notna(main["paper"]):
        lines.append(f"paper {main['paper']:.1f}" + (", of test" if main["counted"] != "test" else ""))
    return "\n".join(lines)


def example_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return the examples of each class in a line: those of the highest scores, then those of the lowest."""
    lines = [own for _, own in rows.groupby(["set", "label"], sort=False)]
    figure = new_figure(1.22 * len(lines))
    figure.set_layout_engine("constrained", h_pad=0.06)
    for own, line in zip(lines, figure.subplots(len(lines), PAIR, squeeze=False), strict=True):
        for axes in line:
            _bare(axes)
        highest, lowest = own[own["kind"] == "highest"], own[own["kind"] == "lowest"]
        for part, first in ((highest, 0), (lowest, PAIR // 2)):
            for row, axes in zip(part.to_dict("records"), line[first:], strict=False):
                _example(axes, row, images[example_image(row["set"], row["number"])])
        top = own.iloc[0]
        name = class_label(top["label"], top["class"], LONG)
        line[0].set_ylabel(f"{shortened(top['title'], 22)}\n{name}\n{top['value']:.0f} %", fontsize=6.5)
    return figure


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.patch.set_visible(False)


def _example(axes: Axes, row: Mapping[Any, Any], pixels: Pixels) -> None:
    """Show an image with its score, bold and with the true classes if the class is not there, and with its box."""
    height, width = pixels.shape[:2]
    axes.imshow(pixels)
    title = signed(row["score"], 2)
    if not row["right"]:
        title += f"\n({class_label(-1, row['classes'] or 'none', ABOVE)})"
    axes.set_title(title, fontsize=7, fontweight="normal" if row["right"] else "bold", pad=2.5)
    if pd.notna(row["left"]):
        corner = row["left"] * width - 0.5, row["top"] * height - 0.5
        size = (row["right edge"] - row["left"]) * width, (row["bottom"] - row["top"]) * height
        outline(axes, *corner, *size, "-")


def map_chart(rows: pd.DataFrame) -> Figure:
    """Return descriptors in the plane, a panel per data set; each class has a colour and a mark of its own."""
    panels, columns = [own for _, own in rows.groupby("set", sort=False)], _columns(rows)
    lines = -(-len(panels) // columns)
    figure = new_figure(2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for own, axes in zip(panels, grid.flat, strict=False):
        for number, (_, points) in enumerate(own.groupby("label", sort=False)):
            look, one = series(number), points.iloc[0]
            name = class_label(one["label"], one["class"], SHORT if columns == COLUMNS else LISTED)
            axes.scatter(points["x"], points["y"], s=11, color=look["color"], marker=look["marker"], alpha=0.75,
                         linewidths=0, label=name)  # fmt: skip
        first = own.iloc[0]
        axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.set_title(shortened(first["title"], 24), fontsize=8.5)
        axes.set_xlabel(f"{100 * first['first']:.0f} % of the variance", fontsize=7.5)
        axes.set_ylabel(f"{100 * first['second']:.0f} %", fontsize=7.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(PALE)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=7.5, handletextpad=0.1,
                    columnspacing=0.8, borderpad=0)  # fmt: skip
    return figure
