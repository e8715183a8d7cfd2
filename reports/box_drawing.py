"""The drawing of the charts of localisation, from the rows of their CSV and the images by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.results.box_chart_data import MERGED, PREDICTED, TRUE, WINDOW
from pipeline.results.illustrations import Pixels
from pipeline.results.located_images import MERGING, example_name
from reports.chart_style import INK, ORANGE, class_label, new_figure, series

Images = Mapping[str, Pixels]  # by name, (height, width, 3) each
COLUMNS = 6
DASHED = (0, (3, 1.5))


def located_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return the images with their true and predicted boxes, the best first."""
    count = rows["number"].max() + 1
    lines = -(-count // COLUMNS)
    figure = new_figure(1.3 * lines)
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for (_, own), axes in zip(rows.groupby("number"), panels.flat, strict=False):
        _photograph(axes, images[example_name(int(own["number"].iloc[0]))])
        for row in own.to_dict("records"):
            predicted = row["box"] == PREDICTED
            _box(axes, row, ORANGE if predicted else "white", DASHED if predicted else "-")
        first = own.iloc[0]
        axes.set_title(f"{class_label(first['label'], first['class'], 10)}: {first['overlap']:.2f}", fontsize=8)
    return figure


def merging_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return one image with its boxes before and after merging; the stronger a line, the higher the box's score."""
    first = rows.iloc[0]
    figure = new_figure(0.3 + 2.2 * float(np.clip(first["height"] / first["width"], 0.4, 1.5)), 4.6)
    for axes, kind in zip(figure.subplots(1, 2), (WINDOW, MERGED), strict=True):
        _photograph(axes, images[MERGING])
        boxes = rows[rows["box"] == kind].sort_values("score", kind="stable")
        for row in boxes.to_dict("records"):
            share = row["score"] / max(boxes["score"].max(), 1e-12)
            _box(axes, row, ORANGE, "-", width=0.6 + 1.4 * share, case=bool(share == 1 and kind == MERGED))
        for row in rows[rows["box"] == TRUE].to_dict("records"):
            _box(axes, row, "white", DASHED)
        axes.set_title(f"{'all windows' if kind == WINDOW else 'merged'}: {len(boxes)} boxes")
    return figure


def overlap_chart(rows: pd.DataFrame) -> Figure:
    """Return error against the overlap from which a box is right, a panel per table."""
    tables = rows["table"].unique()
    figure = new_figure(3.6)
    for table, axes in zip(tables, figure.subplots(1, len(tables), squeeze=False, sharey=True)[0], strict=True):
        own = rows[rows["table"] == table]
        for number, (name, line) in enumerate(own.groupby("row", sort=False)):
            axes.plot(line["overlap"], line["error"], **series(number), label=str(name), markevery=3, ms=4.5)
        axes.axvline(0.5, color=INK, lw=0.8, ls=":")
        guesses = own["guesses"].iloc[0]
        measure = "true class" if guesses == 1 else f"{guesses} guesses"
        axes.set(title=f"Table {table}, {measure}", xlabel="overlap", xlim=(0, 1), ylim=(0, 102))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8, handlelength=3)
    figure.axes[0].set_ylabel("error, %")
    return figure


def _photograph(axes: Axes, pixels: Pixels) -> None:
    """Show an image without axes, in coordinates from 0 to 1."""
    axes.imshow(pixels, extent=(0, 1, 1, 0), aspect=pixels.shape[0] / pixels.shape[1])
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(1, 0))


def _box(axes: Axes, row: Mapping[Any, Any], colour: str, line: Any, width: float = 1.3, case: bool = True) -> None:
    """Draw a box of the stored image, visibly on any ground if it has a `case`; parts beyond the image are cut."""
    left, right = (row[key] / row["width"] for key in ("left", "right"))
    top, bottom = (row[key] / row["height"] for key in ("top", "bottom"))
    for edge, style, thick in [(INK, "-", width + 1.1)] * case + [(colour, line, width)]:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=edge, ls=style, lw=thick))
