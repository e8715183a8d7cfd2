"""The drawing of charts, each from the rows of its CSV, and of contact sheets of training crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reports.chart_style import (
    BLUE,
    GRID,
    INK,
    PALE,
    WIDTH,
    class_label,
    in_style,
    new_figure,
    series,
    shortened,
    signed,
    write_figure,
)

NETS = ("A", "B", "C", "D", "E")  # in the order of their depth
DODGE = 0.16  # between the lines of a net, in columns
HATCHES = {"train": "", "dense": "////", "crops": "----", "centre": "xxxx", "localiser": "\\\\", "windows": "++"}
FILLS = {"train": BLUE, "dense": "#ffffff", "crops": "#eebb88", "centre": GRID, "localiser": BLUE, "windows": "#ffffff"}


def depth_chart(rows: pd.DataFrame) -> Figure:
    """Return error against depth, a row of panels for each measure: the paper's on the left and ours on the right."""
    sources, top1 = rows["source"].unique(), rows["measure"] == "top-1"
    parts = [part for part in (rows[top1], rows[~top1]) if len(part)]
    figure = new_figure(0.8 + 2.7 * len(parts))
    for part, panels in zip(parts, figure.subplots(len(parts), len(sources), squeeze=False), strict=True):
        for source, axes in zip(sources, panels, strict=True):
            own = part[part["source"] == source]
            if len(own):
                _depths(axes, own, list(rows["line"].unique()))
    for source, axes in zip(sources, figure.axes, strict=False):  # the upper panels
        axes.set_title(source.replace(", ", "\n", 1))
    figure.supxlabel("net, weight layers", fontsize=10)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=4, loc="outside upper center", columnspacing=1.2)
    return figure


def _depths(axes: Axes, rows: pd.DataFrame, lines: Sequence[str]) -> None:
    """Draw the errors of one panel; C, which has 1x1 filters, is not on the line."""
    places = _columns(rows, lines)
    for number, line in enumerate(lines):
        style = series(number)
        own = rows[rows["line"] == line]
        single = own["seed"].notna() & own["low"].isna()
        at = own["net"].map(lambda net, line=line: places[net, line])
        axes.plot(at[single], own["error"][single], ls="", marker="_", ms=6, color=style["color"])
        main = own[~single]
        bounds = np.abs(main[["low", "high"]].to_numpy(float).T - main["error"].to_numpy(float))
        axes.errorbar(at[~single], main["error"], np.nan_to_num(bounds), fmt="none", ecolor=style["color"], lw=1.1)
        deep = ~single & (own["net"] != "C")
        axes.plot(at[deep], own["error"][deep], **style, label=line)
        axes.plot(at[~single & ~deep], own["error"][~single & ~deep], **{**style, "ls": ""}, mfc="white")
    layers = {net: own["layers"].iloc[0] for net, own in rows.groupby("net")}
    axes.set_xticks(range(len(NETS)), [f"{net}\n{layers.get(net, '')}" for net in NETS])
    axes.set(xlim=(-0.5, 4.5), ylabel=f"{rows['measure'].iloc[0]} error, %")
    axes.grid(axis="x", visible=False)


def _columns(rows: pd.DataFrame, lines: Sequence[str]) -> dict[tuple[str, str], float]:
    """Return where each net's mark on each line is: next to each other about the net's column."""
    places = {}
    for net, own in rows.groupby("net"):
        there = [line for line in lines if line in set(own["line"])]
        for number, line in enumerate(there):
            places[str(net), line] = NETS.index(str(net)) + DODGE * (number - (len(there) - 1) / 2)
    return places


def waterfall_chart(rows: pd.DataFrame) -> Figure:
    """Return the steps of the evaluation of each net as a waterfall, the paper's on the left and ours on the right."""
    nets, sources = rows["net"].unique(), rows["source"].unique()
    figure = new_figure(0.4 + 2.3 * len(nets))
    panels = figure.subplots(len(nets), len(sources), squeeze=False, sharey=True, sharex="col")
    steps = list(dict.fromkeys(rows.loc[rows["source"] == "ours", "step"]))
    for net, line in zip(nets, panels, strict=True):
        for source, axes in zip(sources, line, strict=True):
            _waterfall(axes, rows[(rows["net"] == net) & (rows["source"] == source)], steps)
            axes.set_title(f"{net}, {source}")
    for axes in panels[-1]:
        axes.set_xlabel("top-1 error, %")
    return figure


def _waterfall(axes: Axes, rows: pd.DataFrame, steps: Sequence[str]) -> None:
    """Draw bars from each step's error to the next: filled where the error falls, hatched where it rises."""
    at, errors, changes = rows["step"].map(steps.index), rows["error"], rows["change"].fillna(0)
    rises = changes > 0
    for chosen, fill, hatch in ((~rises, BLUE, ""), (rises, "white", "/////")):
        axes.barh(at[chosen], changes[chosen], 0.55, (errors - changes)[chosen], fc=fill, ec=BLUE, hatch=hatch)
    axes.plot(errors, at, ls="", marker="|", ms=17, mew=2, color=INK)
    right_end = (errors - changes.clip(upper=0)).where(~rises, errors)
    for y, end, error, change in zip(at, right_end, errors, rows["change"], strict=True):
        text = f"{error:.1f}" if np.isnan(change) else f"{error:.1f} ({signed(change)})"
        axes.annotate(text, (end, y), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(steps)), steps)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.use_sticky_edges = False
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(low, max(high, high + 0.65 * (high - low)))
    axes.grid(axis="y", visible=False)


def shallow_chart(rows: pd.DataFrame) -> Figure:
    """Return B against the shallow net at the centre crop: our two errors with intervals, and the paper's 7 points."""
    figure = new_figure(3.4, 4.6)
    axes = figure.subplots()
    errors = rows["error"].to_numpy(float)
    bounds = np.abs(rows[["low", "high"]].to_numpy(float).T - errors)
    bars = axes.bar([0, 1], errors, 0.5, yerr=bounds, capsize=4, color=[BLUE, "white"], ec=BLUE, ecolor=INK)
    bars.patches[1].set_hatch("////")
    for x, (error, high) in enumerate(zip(errors, rows["high"], strict=True)):
        axes.annotate(f"{error:.1f}", (x, high), (0, 3), textcoords="offset points", ha="center")
    axes.set_xticks([0, 1], ["B\n3x3 filters", "shallow\n5x5 filters"])
    gap = errors[1] - errors[0]
    axes.set(ylabel="top-1 error, centre crop, %", title=f"ours: {signed(gap)} points; the paper: +7 points")
    axes.margins(y=0.1)
    axes.grid(axis="x", visible=False)
    return figure


def curves_chart(rows: pd.DataFrame) -> Figure:
    """Return the learning curves: validation error and training loss of each family on shared axes."""
    families = rows["family"].unique()
    figure = new_figure(0.4 + 2.1 * len(families), 6.6)
    panels = figure.subplots(len(families), 2, squeeze=False, sharex=True, sharey="col")
    for family, (errors, losses) in zip(families, panels, strict=True):
        for number, (run, own) in enumerate(rows[rows["family"] == family].groupby("run", sort=False)):
            _curve(errors, own, "top1", number, str(run))
            _curve(losses, own, "loss", number, str(run))
        errors.set_title(family, loc="left")
        losses.legend(loc="upper right", handlelength=3, labelspacing=0.25)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylim(0, max(10.0, 1.05 * rows["top1"].max()))
    panels[0, 1].set_ylim(0, 1.05 * rows["loss"].max())
    for errors, losses in panels:
        errors.set_ylabel("top-1 error, %")
        losses.set_ylabel("training loss")
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, what: str, number: int, run: str) -> None:
    """Draw a run's curve; an upright dash marks the first epoch at each lower learning rate."""
    every = max(1, len(rows) // 8)
    axes.plot(rows["epoch"], rows[what], **series(number), ms=4.5, label=run, markevery=every)
    drops = rows[rows["drop"] == 1]
    axes.plot(drops["epoch"], drops[what], ls="", marker="|", ms=15, mec=INK, mew=1.4)


def timeline_chart(rows: pd.DataFrame) -> Figure:
    """Return when each run was trained and scored, a lane for each run, grouped by place."""
    places = (rows["machine"] + ", " + rows["device"]).rename("place")
    lanes = list(dict.fromkeys(zip(places, rows["run"], strict=True)))
    figure = new_figure(1.2 + 0.17 * len(lanes) + 0.3 * places.nunique(), 6.6)
    heights = [sum(place == own for own, _ in lanes) + 1 for place in places.unique()]
    panels = figure.subplots(places.nunique(), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    scale, unit = (1, "hours") if (rows["hours"] + rows["took"]).max() > 2 else (60, "minutes")
    for place, axes in zip(places.unique(), panels, strict=True):
        _lanes(axes, rows[places == place], scale)
        axes.set_title(place, loc="left")
    panels[-1].set_xlabel(f"{unit} since {rows['started'].min()[:16].replace('T', ' ')} UTC")
    handles = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    works = [work for work in HATCHES if work in handles]
    figure.legend([handles[work] for work in works], works, ncols=4, loc="outside upper center")
    return figure


def _lanes(axes: Axes, rows: pd.DataFrame, scale: float) -> None:
    runs = list(dict.fromkeys(rows["run"]))
    for work, own in rows.groupby("work", sort=False):
        at = own["run"].map(runs.index)
        style: dict[str, Any] = {"fc": FILLS[str(work)], "hatch": HATCHES[str(work)], "ec": INK, "lw": 0.6}
        axes.barh(at, scale * own["took"], 0.7, scale * own["hours"], **style, label=work)
    axes.set_yticks(range(len(runs)), runs, fontsize=8)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)


def confusion_chart(rows: pd.DataFrame) -> Figure:
    """Return the confusion matrix: shares of each class's images, and their numbers if the classes are few."""
    names = [class_label(number, name, 14) for number, name in enumerate(rows["true class"])]
    counts = rows.iloc[:, 1:].to_numpy(float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = new_figure(min(6.6, 3.6 + 0.12 * len(names)))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 100), interpolation="nearest")  # few are seen, too
    bar = figure.colorbar(image, label="% of the class's images", location="top", shrink=0.6, aspect=30)
    bar.set_ticks([0, 5, 20, 50, 100])
    size = 9 if len(names) <= 20 else 6
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set(xlabel="first guess", ylabel="true class")
    axes.grid(visible=False)
    if len(names) <= 12:
        for (y, x), count in np.ndenumerate(counts):
            if count:
                axes.text(x, y, f"{count:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if shares[y, x] > 40 else INK)  # fmt: skip
    return figure


def confused_chart(rows: pd.DataFrame) -> Figure:
    """Return the pairs of classes that are confused most often as bars."""
    figure = new_figure(0.9 + 0.24 * len(rows))
    axes = figure.subplots()
    trues, guesses = (
        [class_label(number, name) for number, name in zip(rows[key], rows[names], strict=True)]
        for key, names in (("true", "true class"), ("guess", "first guess"))
    )
    pairs = [f"{true} → {guess}" for true, guess in zip(trues, guesses, strict=True)]
    axes.barh(range(len(rows)), rows["images"], 0.6, color=BLUE)
    for y, (images, of) in enumerate(zip(rows["images"], rows["of"], strict=True)):
        axes.annotate(f"{images} of {of}", (images, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), pairs)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(right=1.2 * rows["images"].max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="images", title="true class → first guess")
    axes.grid(axis="y", visible=False)
    return figure


def filters_chart(rows: pd.DataFrame) -> Figure:
    """Return the first layer's filters as 3x3 images in RGB, each scaled on its own; grey: no weight."""
    columns = min(16 if len(rows) > 32 else 8, len(rows))
    lines = -(-len(rows) // columns)
    tiles = rows.iloc[:, 3:].to_numpy(float).reshape(-1, 3, 3, 3).transpose(0, 2, 3, 1)
    largest = np.maximum(np.abs(tiles).max((1, 2, 3), keepdims=True), 1e-12)
    figure = new_figure(0.2 + lines * WIDTH / columns)
    for axes in (panels := figure.subplots(lines, columns, squeeze=False)).flat:
        axes.set_axis_off()
    for axes, tile in zip(panels.flat, 0.5 + tiles / (2 * largest), strict=False):
        axes.imshow(tile, interpolation="nearest")
    return figure


def receptive_chart(rows: pd.DataFrame) -> Figure:
    """Return the input pixels that each stack of layers sees; darker: the output depends more on the pixel."""
    names = list(rows["layers"].unique())
    figure = new_figure(0.5 + WIDTH / len(names))
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        own = rows[rows["layers"] == name]
        side = own["x"].max() + 1
        axes.add_patch(Rectangle((0, 0), side, side, fc="none", ec=PALE, lw=0.5))
        for x, y, gradient in own.loc[own["gradient"] > 0, ["x", "y", "gradient"]].to_numpy():
            share = 0.15 + 0.85 * gradient / own["gradient"].max()
            axes.add_patch(Rectangle((x, y), 1, 1, fc=BLUE, alpha=share, ec=PALE, lw=0.5, clip_on=False))
        axes.set(title=name, xlim=(0, side), ylim=(side, 0), aspect="equal")
        axes.set_axis_off()
    return figure


def contact_sheet(crops: NDArray[np.uint8], names: Sequence[str], path: Path) -> None:
    """Draw crops (N, side, side, 3) in rows of eight, each under its class's name."""
    columns = min(8, len(crops))
    lines = -(-len(crops) // columns)
    with in_style():
        figure = new_figure(1.3 * lines, 1.1 * columns)
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, crop, name in zip(panels.flat, crops, names, strict=False):
            axes.imshow(crop)
            axes.set_title(shortened(name), fontsize=8, fontweight="normal")
        write_figure(figure, path)
