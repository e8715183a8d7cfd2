"""The rows that the charts of the illustrations are drawn from. They are also written next to the charts, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING, Any

from pipeline.experiment.params import CROP
from pipeline.results.chart_data import frame
from pipeline.results.illustrations import Illustrations, Places, ScoredImage, ScoreMap, TrainingCrops
from pipeline.results.profile_results import Results

if TYPE_CHECKING:
    import pandas as pd

DENSE, CROPS = "dense map", "5 x 5 crops"
ABOUT = (
    *("image", "true class", "true number", "other class", "other number"),
    *("Q", "height", "width", "crop"),
)  # columns of rows about one validation image
Values = Mapping[str, Any]


def scoremap_rows(results: Results) -> pd.DataFrame:
    """Return the posteriors of the image's true class and of the other one, at each place of the map and the crops.

    A place is the middle of what its posterior is for, in parts of the image's sides.
    """
    rows: list[Values] = []
    if shown := results.illustrations:
        image = shown.scored
        for source, places in ((DENSE, image.map), (CROPS, image.grid)):
            rows += [
                {
                    **_about(shown),
                    "source": source,
                    "y": (top + shown.crop / 2) / image.height,
                    "x": (left + shown.crop / 2) / image.width,
                    "true": places.true[i][j],
                    "other": places.other[i][j],
                }
                for i, j, top, left in _places(places)
            ]
    return frame(rows, *ABOUT, "source", "y", "x", "true", "other")


def padding_rows(results: Results) -> pd.DataFrame:
    """Return the true class's posterior in each cell of the map and of a crop at the same place.

    Where the crop would reach beyond the image there is no row.
    """
    rows: list[Values] = []
    if shown := results.illustrations:
        dense, cut = shown.scored.map, shown.scored.cut
        for i, j, top, left in _places(dense):
            if (crop := cut.true[i][j]) is not None:
                inside = 0 < i < len(dense.tops) - 1 and 0 < j < len(dense.lefts) - 1
                place = {"row": i, "column": j, "top": top, "left": left, "inside": inside}
                rows.append({**_about(shown), **place, "map": dense.true[i][j], "crop posterior": crop})
    return frame(rows, *ABOUT, "row", "column", "top", "left", "inside", "map", "crop posterior")


def training_crops_rows(results: Results) -> pd.DataFrame:
    """Return how each training crop was drawn, in this profile's pixels; none without the images of the crops."""
    rows: list[Values] = []
    shown = results.illustrations
    if shown and shown.training and shown.images:
        ratio = CROP / shown.crop  # the paper's pixels to this profile's
        for number, series in enumerate(shown.training.series):
            for epoch, draw in enumerate(series.draws):
                red, green, blue = draw.shift
                place = {"height": draw.height, "width": draw.width, "top": draw.top, "left": draw.left}
                shift = {"flip": int(draw.flip), "red": red, "green": green, "blue": blue}
                head = {"image": shown.training.id, "seed": shown.training.seed, "crop": shown.crop}
                scale = {
                    "series": number,
                    "S": _span(series.scales),
                    "drawn": round(min(draw.height, draw.width) * ratio),
                }
                rows.append({**head, **scale, "epoch": epoch + 1, **place, **shift})
    columns = ("image", "seed", "crop", "series", "S", "drawn", "epoch", "height", "width", "top", "left")
    return frame(rows, *columns, "flip", "red", "green", "blue")


def scales_rows(results: Results) -> pd.DataFrame:
    """Return the central crop of the image at two scales, in this profile's pixels; none without the image."""
    rows: list[Values] = []
    shown = results.illustrations
    if shown and shown.images:
        for scale in shown.scored.scales:
            place = {"height": scale.height, "width": scale.width, "top": scale.top, "left": scale.left}
            rows.append({"image": shown.scored.id, "S": scale.scale, **place, "crop": shown.crop,
                         "share": scale.share(shown.crop)})  # fmt: skip
    return frame(rows, "image", "S", "height", "width", "top", "left", "crop", "share")


def largest_shift(crops: TrainingCrops) -> float:
    """Return the largest colour shift of a channel among the crops, in grey levels."""
    return max(abs(level) for series in crops.series for draw in series.draws for level in draw.shift)


def padding_effect(image: ScoredImage) -> float:
    """Return by how much map and crops differ at the same places, in points of the true class's posterior."""
    pairs = zip(image.map.true, image.cut.true, strict=True)
    cells = (cell for rows in pairs for cell in zip(*rows, strict=True))
    return mean(100 * abs(dense - crop) for dense, crop in cells if dense is not None and crop is not None)


def _about(shown: Illustrations) -> dict[str, Any]:
    image, (true, other) = shown.scored, shown.classes
    size = {"height": image.height, "width": image.width, "crop": shown.crop}
    classes = {"true class": true, "true number": image.label, "other class": other, "other number": image.other}
    return {"image": image.id, **classes, "Q": image.test_scale, **size}


def _places(places: Places | ScoreMap) -> Iterator[tuple[int, int, int, int]]:
    """Yield each place's row, column, top and left."""
    for (i, top), (j, left) in product(enumerate(places.tops), enumerate(places.lefts)):
        yield i, j, top, left


def _span(scales: Sequence[int]) -> str:
    low, high = scales
    return str(low) if low == high else f"{low}-{high}"
