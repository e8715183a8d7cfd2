"""What one sees in each chart, in words and numbers, generated from its rows: the image's text alternative."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.system.progress import duration
from reports.chart_style import signed


def depth_text(rows: pd.DataFrame) -> str:
    """Return the errors of each panel and line, by net."""
    main = rows[rows["low"].notna() | rows["seed"].isna()]
    panels = (
        f"{source}, {measure} error in per cent: {'; '.join(_lines(own))}."
        for (source, measure), own in main.groupby(["source", "measure"], sort=False)
    )
    return "Error against depth. " + " ".join(panels)


def _lines(rows: pd.DataFrame) -> Iterator[str]:
    for line, own in rows.groupby("line", sort=False):
        yield f"{line}: " + ", ".join(f"{net} {error:.1f}" for net, error in zip(own["net"], own["error"], strict=True))


def waterfall_text(rows: pd.DataFrame) -> str:
    """Return the error after each step of the evaluation, with its change."""
    parts = []
    for (net, source), own in rows.groupby(["net", "source"], sort=False):
        steps = (
            f"{step} {error:.1f}" + ("" if np.isnan(change) else f" ({signed(change)})")
            for step, error, change in zip(own["step"], own["error"], own["change"], strict=True)
        )
        parts.append(f"{net}, {source}: {', '.join(steps)}.")
    return "Top-1 error in per cent after each step of the evaluation, with the change in points. " + " ".join(parts)


def shallow_text(rows: pd.DataFrame) -> str:
    """Return both errors and their difference."""
    (first, second), bounds = rows["error"], [f"({row.low:.1f} to {row.high:.1f})" for row in rows.itertuples()]
    return (
        f"Top-1 error at the centre crop in per cent: B {first:.1f} {bounds[0]}, the shallow net {second:.1f} "
        f"{bounds[1]}, a difference of {signed(second - first)} points; the paper: +7 points."
    )


def curves_text(rows: pd.DataFrame) -> str:
    """Return each run's first and last error, and the epochs in which its learning rate fell."""
    parts = []
    for family, members in rows.groupby("family", sort=False):
        runs = (f"{run} {_course(own)}" for run, own in members.groupby("run", sort=False))
        parts.append(f"{family}: {', '.join(runs)}.")
    return "Learning curves; validation top-1 error in per cent after the first and the last epoch. " + " ".join(parts)


def _course(rows: pd.DataFrame) -> str:
    drops = rows.loc[rows["drop"] == 1, "epoch"].astype(str)
    fell = f", lower rate from epoch {' and '.join(drops)}" if len(drops) else ""
    return f"{rows['top1'].iloc[0]:.1f} to {rows['top1'].iloc[-1]:.1f} in {len(rows)} epochs{fell}"


def timeline_text(rows: pd.DataFrame) -> str:
    """Return the number of stages and their hours by work, the whole span, and the longest stage."""
    works = (
        f"{work}: {len(own)} in {duration(3600 * own['took'].sum())}" for work, own in rows.groupby("work", sort=False)
    )
    longest = rows.sort_values("took").iloc[-1]
    most = f"{longest['work']} {longest['run']}, {duration(3600 * longest['took'])}"
    span = (rows["hours"] + rows["took"]).max()
    devices = len(rows.drop_duplicates(["machine", "device"]))
    several = ", several at a time" if rows["took"].sum() > 1.01 * span else ""  # starts are rounded
    where = f"{devices} device{'s' * (devices > 1)}"
    return (
        f"Time line of {len(rows)} stages in {duration(3600 * span)} on {where}{several} "
        f"(added up, {'; '.join(works)}). The longest: {most}."
    )


def confusion_text(rows: pd.DataFrame) -> str:
    """Return the share of right guesses, and the pairs that are confused most often."""
    names = rows["true class"].tolist()
    counts = rows.iloc[:, 1:].to_numpy(int)
    wrong = counts * ~np.eye(len(names), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:5]
    pairs = [(*np.unravel_index(place, wrong.shape), wrong.flat[place]) for place in order if wrong.flat[place]]
    most = ", ".join(f"{names[true]} as {names[guess]} ({images})" for true, guess, images in pairs)
    right = counts.trace()
    return (
        f"Confusion matrix of {len(names)} classes: {right:,} of {counts.sum():,} images are on the diagonal. "
        f"Most often confused: {most or 'none'}."
    )


def confused_text(rows: pd.DataFrame) -> str:
    """Return the pairs of classes that are confused most often."""
    pairs = (
        f"{row['true class']} as {row['first guess']} ({row['images']} of {row['of']})" for _, row in rows.iterrows()
    )
    return f"The {len(rows)} most confused pairs of classes, in images: {', '.join(pairs)}."


def filters_text(rows: pd.DataFrame) -> str:
    """Return the number of filters and how strong they are."""
    return (
        f"The {len(rows)} filters of the first layer of {rows['run'].iloc[0]}, each 3x3 pixels in three colours, "
        f"with norms from {rows['norm'].max():.2f} to {rows['norm'].min():.2f}."
    )


def receptive_text(rows: pd.DataFrame) -> str:
    """Return the side of each field, and how much more its middle counts than its corner."""
    parts = []
    for name, own in rows[rows["gradient"] > 0].groupby("layers", sort=False):
        side = own["x"].nunique()
        ratio = own["gradient"].max() / own["gradient"].min()
        middle = "all pixels alike" if ratio < 1.01 else f"the middle pixel {ratio:.0f} times as much as a corner"
        parts.append(f"{name}: {side} x {side} pixels, {middle}")
    return f"The input pixels on which one output of stacked layers depends. {'; '.join(parts)}."


def scoremap_text(rows: pd.DataFrame) -> str:
    """Return the ranges of both classes' posteriors on the map and over the crops, and where the true class is best."""
    first = rows.iloc[0]
    parts = []
    for source, own in rows.groupby("source", sort=False):
        best = own.sort_values("true").iloc[-1]
        ranges = (
            f"class {first[f'{kind} class']} {100 * own[kind].min():.0f} to {100 * own[kind].max():.0f}"
            for kind in ("true", "other")
        )
        place = f"{100 * best['x']:.0f} % from the left and {100 * best['y']:.0f} % from the top"
        parts.append(f"{source}, {len(own)} places: {', '.join(ranges)}; the true class is likeliest {place}.")
    return f"Posteriors in per cent on image {first['image']} at Q = {first['Q']}. " + " ".join(parts)


def padding_text(rows: pd.DataFrame) -> str:
    """Return the mean difference of the true class's posterior between map and crops, and the largest."""
    dense, cut = 100 * rows["map"], 100 * rows["crop posterior"]
    change = cut - dense
    return (
        f"Posterior of class {rows['true class'].iloc[0]} at {len(rows)} places of the score map and of crops at the "
        f"same places: on average {dense.mean():.0f} and {cut.mean():.0f} per cent. They "
        f"differ by {change.abs().mean():.1f} points on average and by {change.abs().max():.1f} at most."
    )


def training_crops_text(rows: pd.DataFrame) -> str:
    """Return what was drawn for each training scale: which parts of the image, flips and S."""
    parts = []
    for span, own in rows.groupby("S", sort=False):
        shares = 100 * own["crop"] ** 2 / (own["height"] * own["width"])
        drawn = f"S from {own['drawn'].min()} to {own['drawn'].max()}, " if own["drawn"].nunique() > 1 else ""
        shown = f"{shares.min():.0f}" if shares.nunique() == 1 else f"{shares.min():.0f} to {shares.max():.0f}"
        parts.append(f"S = {span}: {drawn}{shown} % of the image, {own['flip'].sum()} of {len(own)} crops flipped.")
    first = rows.iloc[0]
    return f"Training crops of image {first['image']} in {rows['epoch'].max()} epochs. {' '.join(parts)}"


def scales_text(rows: pd.DataFrame) -> str:
    """Return how much of the image a central crop shows at each scale."""
    parts = (f"{100 * row['share']:.0f} % of its area at S = {row['S']}" for row in rows.to_dict("records"))
    return f"Image {rows['image'].iloc[0]} and its central crop, which shows {' and '.join(parts)}."


def located_text(rows: pd.DataFrame) -> str:
    """Return the overlaps of the best and of the worst boxes."""
    parts = []
    for kind, own in rows.groupby("kind", sort=False):
        overlaps = own.groupby("number", sort=False)["overlap"].first()
        parts.append(f"{len(overlaps)} {kind} boxes: {', '.join(f'{value:.2f}' for value in overlaps)}")
    return f"Images with true and predicted boxes. Overlaps of the {'; of the '.join(parts)}."


def set_classes_text(rows: pd.DataFrame) -> str:
    """Return the mean of each data set, and its best and worst classes."""
    parts = []
    for (title, variant), own in rows.groupby(["title", "variant"], sort=False):
        name, first = f"{title}, {variant}" if variant else title, own.iloc[0]
        paper = f", the paper's {first['paper']:.1f}" if pd.notna(first["paper"]) else ""
        chance = f", of random guesses {first['chance']:.1f}" if pd.notna(first["chance"]) else ""
        parts.append(f"{name}: mean {first['mean']:.1f}{paper}{chance}, {_best_and_worst(own)}")
    return f"Mean AP or recall by class, in per cent. {'; '.join(parts)}."


def _best_and_worst(rows: pd.DataFrame) -> str:
    """Return the best and the worst class, and how many others are equally good; that all classes are, if so."""
    values = rows["value"].round(1)
    high, low = values.iloc[0], values.iloc[-1]
    if high == low:
        return f"all {len(rows)} classes {high:.1f}"
    best, worst = (_with_equals(rows["class"][values == value]) for value in (high, low))
    return f"best {best} {high:.1f}, worst {worst} {low:.1f}"


def _with_equals(names: pd.Series) -> str:
    """Return the first of several classes, and how many others there are."""
    return f"{names.iloc[0]} and {len(names) - 1} more" if len(names) > 1 else f"{names.iloc[0]}"


def set_examples_text(rows: pd.DataFrame) -> str:
    """Return the scores of the examples of each class, and how many of the highest are right."""
    parts = []
    for (title, name, value), own in rows.groupby(["title", "class", "value"], sort=False):
        high, low = own[own["kind"] == "highest"], own[own["kind"] == "lowest"]
        highest, lowest = (", ".join(signed(score, 2) for score in part["score"]) for part in (high, low))
        parts.append(
            f"{title}, class {name}, {value:.1f} % in the first split: highest scores {highest}, "
            f"{high['right'].sum()} of them right; lowest of the class {lowest}"
        )
    return f"Test examples with their scores. {'. '.join(parts)}."


def set_descriptors_text(rows: pd.DataFrame) -> str:
    """Return the classes of each panel, and how much of the variance the plane has."""
    parts = []
    for title, own in rows.groupby("title", sort=False):
        share = 100 * (own["first"].iloc[0] + own["second"].iloc[0])
        names = ", ".join(own["class"].unique())
        parts.append(f"{title}: {len(own)} examples of {names}; the plane has {share:.0f} % of the variance")
    return f"Descriptors in a plane. {'. '.join(parts)}."


def merging_text(rows: pd.DataFrame) -> str:
    """Return how many boxes there are before and after merging, and which share of the scores the best one has."""
    counts, merged = rows["box"].value_counts(), rows[rows["box"] == "merged"]
    share = 100 * merged["score"].max() / max(merged["score"].sum(), 1e-12)
    return (
        f"Image {rows['image'].iloc[0]} with the boxes of its class in {counts['window']} windows, and with the "
        f"{counts['merged']} that are left after merging. The best of these has {share:.0f} % of all scores."
    )


def overlap_text(rows: pd.DataFrame) -> str:
    """Return each row's errors at three overlaps."""
    parts = []
    for (table, name), own in rows.groupby(["table", "row"], sort=False):
        errors = own.set_index("overlap")["error"]
        values = ", ".join(f"{errors[least]:.1f} from {least:g} on" for least in (0.3, 0.5, 0.7))
        parts.append(f"Table {table}, {name}: {values}.")
    return "Error in per cent, if a box is right from an overlap on. " + " ".join(parts)
