"""The drawing of charts: error against depth and scales, the shallow net against B, learning curves, training crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.system.atomic_files import whole
from vgg.nets import weight_layers

MADE_BY = "vgg-repro"  # in the metadata of every chart's file
INK, PALE = "#222222", "#8a8a8a"
COLOURS = {"single / single": "#4477aa", "jittered / single": "#ee8866", "jittered / several": "#228833"}
STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": PALE,
    "axes.grid": True, "grid.color": "#e6e6e6", "axes.axisbelow": True, "legend.frameon": False,
    "axes.titlesize": 11, "axes.titleweight": "bold",
}  # fmt: skip
Series = dict[str, dict[str, float]]  # name of a line to net to error
Values = Mapping[str, Any]


def depth_chart(table3: Values, table4: Values, path: Path) -> None:
    """Draw error against depth for three pairs of train / test scales, the paper's on the left and ours on the right.

    Below 50 classes top-5 says little, so a row of top-1 is added above it.
    """
    k = table3["k"]
    measures = [("top5_val", "topk", f"top-{k}")] if k > 1 else []
    if table3.get("classes", 1000) < 50:
        measures.insert(0, ("top1_val", "top1", "top-1"))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.6 + 3.4 * len(measures)), layout="constrained")
        panels = figure.subplots(len(measures), 2, squeeze=False)
        for (paper, ours, name), (left, right) in zip(measures, panels, strict=True):
            label = "top-5" if paper == "top5_val" else name
            _depths(left, _series(table3, table4, "paper", paper), f"the paper, ILSVRC-2012, {label}")
            _depths(right, _series(table3, table4, "ours", ours), f"{_whose(table3)}, {table3['data']}, {name}")
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, names, ncols=3, title="train / test scales; open: net C", loc="outside upper center")
        _write(figure, path)


def _whose(table: Values) -> str:
    """Return whose weights the errors belong to."""
    marks = {"published" in row for row in table["rows"] if row["ours"]}
    return {(): "ours", (False,): "ours", (True,): "published weights"}.get((*marks,), "ours and published weights")


def _series(table3: Values, table4: Values, whose: str, measure: str) -> Series:
    lines: Series = {name: {} for name in COLOURS}
    for table, single, jittered in ((table3, "single / single", "jittered / single"),
                                    (table4, None, "jittered / several")):  # fmt: skip
        for row in table["rows"]:
            net, scale = row["label"]["net"], row["label"]["S"]
            line = jittered if scale == "256-512" else single if scale == "256" else None
            if line and net != "A-LRN" and (error := _value(row, whose, measure)) is not None:
                lines[line][net] = error
    return lines


def _value(row: Values, whose: str, measure: str) -> float | None:
    if whose == "paper":
        error: float | None = row["paper"][measure]
        return error
    return None if row["ours"] is None else float(row["ours"][measure]["error"])


def _depths(axes: Axes, lines: Series, title: str) -> None:
    for name, errors in lines.items():
        path = {weight_layers(net): error for net, error in errors.items() if net != "C"}
        axes.plot(list(path), list(path.values()), "o-", color=COLOURS[name], label=name, lw=2)
        if "C" in errors:  # as deep as D, but with 1x1 filters: next to the line
            axes.plot([16], [errors["C"]], "o", mfc="white", color=COLOURS[name])
    axes.set(title=title, xlabel="weight layers", ylabel="error, %")
    axes.set_xlim(10.6, 19.4)
    axes.set_xticks([11, 13, 16, 19], ["11\nA", "13\nB", "16\nD", "19\nE"])
    axes.set_ylim(0, 1.15 * max([1.0, *(error for errors in lines.values() for error in errors.values())]))


def shallow_chart(values: Values, path: Path) -> None:
    """Draw B against the shallow net at the centre crop: our two errors with intervals, and the paper's 7 points."""
    ours = [row["ours"]["top1"] for row in values["rows"]]
    gap = ours[1]["error"] - ours[0]["error"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        errors = [value["error"] for value in ours]
        bounds = [[e - value["low"] for e, value in zip(errors, ours, strict=True)],
                  [value["high"] - e for e, value in zip(errors, ours, strict=True)]]  # fmt: skip
        axes.bar([0, 1], errors, 0.5, yerr=bounds, capsize=4, color=["#4477aa", "#ee8866"], ecolor=INK)
        axes.set_xticks([0, 1], ["B\n3x3 filters", "shallow\n5x5 filters"])
        axes.set(ylabel="top-1 error at the centre crop, %", title=f"ours: {gap:+.1f} points; the paper: +7 points")
        axes.grid(axis="x", visible=False)
        _write(figure, path)


def curves_chart(histories: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draw each run's training loss and validation error by epoch; dotted lines mark drops of the learning rate."""
    columns = 4
    lines = -(-len(histories) // columns)
    with mpl.rc_context({**STYLE, "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(11, 2.3 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes, (run, rows) in zip(panels.flat, histories.items(), strict=False):
            _curve(axes, run, rows)
        for axes in panels.flat[len(histories) :]:
            axes.set_visible(False)
        _write(figure, path)


def _curve(axes: Axes, run: str, rows: pd.DataFrame) -> None:
    epochs = rows["epoch"] + 1
    axes.plot(epochs, rows["top1"], color="#4477aa", lw=1.6)
    axes.set_title(run)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, max(10.0, float(rows["top1"].max()) * 1.05))
    axes.tick_params(axis="y", labelcolor="#4477aa")
    axes.set_ylabel("validation top-1 error, %", color="#4477aa", fontsize=7)
    losses = axes.twinx()
    losses.plot(epochs, rows["loss"], color="#ee8866", lw=1.6)
    losses.set_ylim(bottom=0)
    losses.grid(visible=False)
    losses.tick_params(axis="y", labelcolor="#ee8866")
    losses.set_ylabel("training loss", color="#ee8866", fontsize=7)
    for epoch in epochs[rows["learning_rate"].diff() < 0]:
        axes.axvline(epoch - 0.5, color=INK, lw=0.9, ls=":")


def drawable(name: str) -> bool:
    """Return whether the charts' font has all letters of a name."""
    letters = FT2Font(findfont("DejaVu Sans")).get_charmap()
    return all(ord(letter) in letters for letter in name)


def contact_sheet(crops: NDArray[np.uint8], names: Sequence[str], path: Path) -> None:
    """Draw crops (N, side, side, 3) in rows of eight, each under its class's name."""
    columns = min(8, len(crops))
    lines = -(-len(crops) // columns)
    with mpl.rc_context({**STYLE, "axes.titleweight": "normal", "axes.titlesize": 8}):
        figure = Figure(figsize=(1.1 * columns, 1.3 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, crop, name in zip(panels.flat, crops, names, strict=False):
            axes.imshow(crop)
            axes.set_title(name if len(name) <= 18 else f"{name[:17]}…", parse_math=False)
        _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """Write a chart as its path's suffix says: as PNG, or as a transparent SVG whose text is text."""
    with whole(path) as file:
        if path.suffix == ".png":
            figure.savefig(file, format="png", dpi=120, metadata={"Software": MADE_BY})
            return
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
