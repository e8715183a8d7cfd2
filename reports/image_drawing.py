"""The drawing of charts that show images and score maps, from the rows of their CSV and the images by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pipeline.results.encoded_images import Pixels
from pipeline.results.illustration_data import CROPS, DENSE
from pipeline.results.illustrations import WHOLE, crop_name, scale_name
from reports.chart_style import INK, class_label, new_figure, signed

Images = Mapping[str, Pixels]  # by name, (height, width, 3) each
COLOURS = mpl.colormaps["viridis"]
CHANGES = mpl.colormaps["PuOr"]
COVER = 0.6  # how much of the image a cell's colour covers
CELLS = 48  # a panel of at most so many cells has their numbers
GREY = 200  # level of the ground where the image is not there
NUMBERS = 5  # above frames
SIDE = 360  # of that ground, pixels


def scoremap_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return the image with the map's posteriors and with those of the 5 x 5 crops, for both classes."""
    first = rows.iloc[0]
    ground = images.get(WHOLE, _blank(first["height"], first["width"]))
    norm = Normalize(0, max(1.0, 100 * float(rows[["true", "other"]].to_numpy(float).max())))
    figure = new_figure(1.35 + 2 * 2.75 * float(np.clip(ground.shape[0] / ground.shape[1], 0.4, 1.25)))
    panels = figure.subplots(2, 2)
    figure.set_layout_engine("constrained", h_pad=0.12)  # else the upper edge cuts the titles
    for kind, line in zip(("true", "other"), panels, strict=True):
        for source, axes in zip((DENSE, CROPS), line, strict=True):
            own = rows[rows["source"] == source]
            _cells(axes, ground, own, kind, norm)
            _likeliest(axes, ground, own)
        name = class_label(first[f"{kind} number"], str(first[f"{kind} class"]))
        line[0].set_ylabel(f"{kind} class: {name}")
    for source, axes in zip((DENSE, CROPS), panels[0], strict=True):
        axes.set_title(source)
    _scale_bar(figure, panels, norm, COLOURS, "posterior, %")
    return figure


def _cells(axes: Axes, ground: Pixels, rows: pd.DataFrame, kind: str, norm: Normalize) -> None:
    """Show the image with a coloured cell at each place, and the posteriors in per cent if they are few."""
    height, width = ground.shape[:2]
    ys, xs = np.sort(rows["y"].unique()), np.sort(rows["x"].unique())
    values = 100 * rows.pivot_table(kind, "y", "x").to_numpy(float)  # the mean of equal places
    covered = ground / 255
    tops, lefts = _edges(ys, height), _edges(xs, width)
    for i, j in np.ndindex(values.shape):
        cell = covered[tops[i] : tops[i + 1], lefts[j] : lefts[j + 1]]
        cell[:] = (1 - COVER) * cell.mean(2, keepdims=True) + COVER * np.array(COLOURS(norm(values[i, j]))[:3])
    _photograph(axes, covered)
    for (i, j), value in np.ndenumerate(values):
        if values.size <= CELLS:
            _number(axes, xs[j] * width, ys[i] * height, f"{value:.0f}", COLOURS(norm(value)))


def _edges(middles: NDArray[np.float64], side: int) -> list[int]:
    """Return the borders, in pixels, of cells about `middles`, which are parts of a side."""
    step = np.diff(middles).mean() if len(middles) > 1 else min(middles[0], 1 - middles[0])
    borders = [middles[0] - step / 2, *((middles[1:] + middles[:-1]) / 2), middles[-1] + step / 2]
    return [min(side, max(0, round(border * side))) for border in borders]


def _likeliest(axes: Axes, ground: Pixels, rows: pd.DataFrame) -> None:
    """Outline the crop that the likeliest cell of the true class stands for."""
    height, width = ground.shape[:2]
    best = rows.sort_values("true").iloc[-1]
    size = best["crop"] / best["width"] * width, best["crop"] / best["height"] * height
    outline(axes, best["x"] * width - size[0] / 2, best["y"] * height - size[1] / 2, *size)


def padding_chart(rows: pd.DataFrame) -> Figure:
    """Return the map's posteriors, those of crops at the same places, and their differences in points."""
    dense, cut = (100 * _grid(rows, name) for name in ("map", "crop posterior"))
    most, largest = max(1.0, np.nanmax([dense, cut])), max(1.0, np.nanmax(np.abs(cut - dense)))
    figure = new_figure(0.9 + 1.9 * float(np.clip(len(dense) / dense.shape[1], 0.4, 1.4)))
    panels = figure.subplots(1, 3)
    _heat(panels[0], "dense map", dense, COLOURS, Normalize(0, most))
    _heat(panels[1], "crops", cut, COLOURS, Normalize(0, most))
    _heat(panels[2], "crops − map", cut - dense, CHANGES, Normalize(-largest, largest))
    _scale_bar(figure, panels[:2], Normalize(0, most), COLOURS, "posterior, %")
    _scale_bar(figure, panels[2:], Normalize(-largest, largest), CHANGES, "points")
    return figure


def _heat(axes: Axes, title: str, values: NDArray[np.float64], colours: Colormap, norm: Normalize) -> None:
    """Show values as coloured cells, with numbers if they are few."""
    axes.imshow(values, cmap=colours, norm=norm, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    if values.size > CELLS:
        return
    for (i, j), value in np.ndenumerate(values):
        text = signed(value, 0) if norm.vmin and round(value) else f"{abs(value):.0f}"
        _number(axes, j, i, text, colours(norm(value)))


def _number(axes: Axes, x: float, y: float, text: str, ground: Sequence[float]) -> None:
    """Write a number in the middle of a cell, on a plate of its colour above dark parts of the image and frames."""
    plate = {"boxstyle": "round,pad=0.15", "facecolor": ground, "edgecolor": "none"}
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=_on(ground), bbox=plate, zorder=NUMBERS)


def _grid(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return rows.pivot(index="row", columns="column", values=name).to_numpy(float)


def training_crops_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return the training crops of one image: a line for each training scale, a column for each epoch."""
    epochs, lines = rows["epoch"].max(), rows["series"].nunique()
    figure = new_figure(0.3 + 0.68 * lines)
    panels = figure.subplots(lines, epochs, squeeze=False)
    for row in rows.to_dict("records"):
        axes: Axes = panels[row["series"], row["epoch"] - 1]
        _photograph(axes, images[crop_name(row["series"], row["epoch"] - 1)])
        if row["series"] == 0:
            name = "epoch 1" if row["epoch"] == 1 else str(row["epoch"])
            axes.set_title(name, fontsize=8, fontweight="normal")
        if row["epoch"] == 1:
            axes.set_ylabel(f"S = {row['S']}".replace("-", "\nto "), fontsize=8)
        if "-" in row["S"]:
            axes.set_xlabel(str(row["drawn"]), fontsize=8)
    return figure


def scales_chart(rows: pd.DataFrame, images: Images) -> Figure:
    """Return the image with the central crop of each scale outlined, and the crops."""
    ground = images[WHOLE]
    figure = new_figure(2.3)
    whole, *panels = figure.subplots(1, 1 + len(rows))
    _photograph(whole, ground)
    whole.set_title("the image")
    for axes, row, line in zip(panels, rows.to_dict("records"), ("-", (0, (4, 2))), strict=True):
        _photograph(axes, images[scale_name(row["S"])])
        axes.set_title(f"S = {row['S']}: {100 * row['share']:.0f} %")
        left, top, side = (row[key] * ground.shape[0] / row["height"] for key in ("left", "top", "crop"))
        outline(whole, left, top, side, side, line)
    return figure


def _photograph(axes: Axes, pixels: NDArray[Any]) -> None:
    """Show an image without axes; their labels stay."""
    axes.imshow(pixels)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def outline(axes: Axes, left: float, top: float, width: float, height: float, line: Any = (0, (4, 3))) -> None:
    """Outline a part of an image, visibly on any ground."""
    for colour, style, thick in ((INK, "-", 2.2), ("white", line, 1.1)):
        axes.add_patch(Rectangle((left, top), width, height, fill=False, ec=colour, ls=style, lw=thick))


def _blank(height: int, width: int) -> Pixels:
    """Return a grey ground of an image's shape."""
    scale = SIDE / max(height, width)
    return np.full((round(height * scale), round(width * scale), 3), GREY, np.uint8)


def _on(colour: Sequence[float]) -> str:
    """Return the colour of text on a ground of `colour`."""
    red, green, blue = colour[:3]
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"


def _scale_bar(figure: Figure, panels: NDArray[Any], norm: Normalize, colours: Colormap, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=panels, location="bottom", shrink=0.6, aspect=30)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
