"""The rows that the charts of other data sets are drawn from. They are also written next to the charts, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, METHODS
from pipeline.results.chart_data import frame
from pipeline.results.profile_results import Results

if TYPE_CHECKING:
    import pandas as pd

BEST = METHODS["DE"]
Values = Mapping[str, Any]


def class_rows(results: Results) -> pd.DataFrame:
    """Return the measure of each class of each data set by nets D and E, the mean over the splits; best first.

    `chance` is the recall of random guesses. The AP of random scores depends on the class's share of the examples.
    """
    rows: list[Values] = []
    for table in results.other_sets.values():
        for entry in table["rows"]:
            method = entry["label"]["method"]
            if entry["ours"] and method.startswith(BEST):
                variant = IMAGE if method.endswith(IMAGE) else IMAGE_AND_BOX if method.endswith(IMAGE_AND_BOX) else ""
                rows += _classes(entry, table["sets"][entry["set"]], variant)
    return frame(
        rows, "set", "title", "measured", "counted", "variant", "mean", "paper", "chance", "number", "class", "value"
    )


def _classes(entry: Values, of_set: Values, variant: str) -> Iterator[Values]:
    """Yield a row per class of a table's row; `number` is the class's place among all."""
    splits, own = entry["ours"]["splits"], {"set": entry["set"], "variant": variant}
    own |= {name: of_set[name] for name in ("title", "measured", "counted")}
    own |= {"mean": entry["ours"]["value"], "paper": entry["paper"].get("value")}
    own |= {"chance": 100 / len(splits[0]["by_class"]) if of_set["measure"] == "recall" else None}
    values = {name: float(np.mean([split["by_class"][name] for split in splits])) for name in splits[0]["by_class"]}
    numbers = {name: number for number, name in enumerate(values)}
    for name in sorted(values, key=lambda name: -values[name]):
        yield {**own, "number": numbers[name], "class": name, "value": values[name]}


def example_rows(results: Results) -> pd.DataFrame:
    """Return the examples of two classes of each data set with their scores; none of sets without images."""
    rows: list[Values] = []
    for shown, title in _shown(results):
        for number, example in enumerate(shown.examples if shown.images else ()):
            left, top, right, bottom = example.box or [None] * 4
            rows.append({
                "set": shown.set, "title": title, "number": number, "image": example.id, "label": example.label,
                "class": shown.classes[str(example.label)], "value": example.value, "kind": example.kind,
                "score": example.score, "right": example.label in example.classes,
                "classes": " ".join(shown.classes[str(label)] for label in example.classes),
                "left": left, "top": top, "right edge": right, "bottom": bottom,
            })  # fmt: skip
    return frame(rows, "set", "title", "number", "image", "label", "class", "value", "kind", "score", "right",
                 "classes", "left", "top", "right edge", "bottom")  # fmt: skip


def map_rows(results: Results) -> pd.DataFrame:
    """Return the places of descriptors in the plane, per data set, and the shares of the variance."""
    rows: list[Values] = []
    for shown, title in _shown(results):
        own = {"set": shown.set, "title": title, "first": shown.map.shares[0], "second": shown.map.shares[1]}
        for label, (x, y) in zip(shown.map.labels, shown.map.points, strict=True):
            rows.append({**own, "label": label, "class": shown.classes[str(label)], "x": x, "y": y})
    return frame(rows, "set", "title", "first", "second", "label", "class", "x", "y")


def _shown(results: Results) -> Iterator[tuple[Any, str]]:
    """Yield what is shown of each data set, with its title."""
    titles = {name: one["title"] for table in results.other_sets.values() for name, one in table["sets"].items()}
    yield from ((shown, titles[name]) for name, shown in results.shown_sets.items())
