"""The rows that the charts of localisation are drawn from. They are also written next to the charts, as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.experiment.paper_tables import number_of
from pipeline.results.chart_data import frame
from pipeline.results.located_images import LocatedImage, Merging
from pipeline.results.profile_results import Results

if TYPE_CHECKING:
    import pandas as pd

TRUE, PREDICTED = "true", "predicted"
WINDOW, MERGED = "window", "merged"  # boxes before and after
EDGES = ("left", "top", "right", "bottom")
Values = Mapping[str, Any]


def located_rows(results: Results) -> pd.DataFrame:
    """Return the true and predicted boxes on single images, in pixels of the stored images; none without images."""
    rows: list[Values] = []
    shown = results.located
    if shown and shown.images:
        for number, example in enumerate(shown.examples):
            own = {"number": number, "kind": example.kind, "overlap": example.overlap}
            rows += [{**own, **row} for row in _boxes(example, shown.classes, (TRUE, example.true))]
            rows += [{**own, **row} for row in _boxes(example, shown.classes, (PREDICTED, [example.box]))]
    return frame(rows, "number", "kind", "overlap", "image", "class", "label", "height", "width", "box", *EDGES)


def merging_rows(results: Results) -> pd.DataFrame:
    """Return one image's boxes before and after merging, with their scores; none without the image."""
    rows: list[Values] = []
    shown = results.located
    if shown and shown.images:
        merging = shown.merging
        own = {"threshold": merging.threshold, "windows": merging.windows_of}
        for kind, boxes in ((TRUE, merging.true), (WINDOW, merging.windows), (MERGED, merging.merged)):
            rows += [{**own, **row} for row in _boxes(merging, shown.classes, (kind, boxes))]
    return frame(rows, "threshold", "windows", "image", "class", "label", "height", "width", "box", *EDGES, "score")


def overlap_rows(results: Results) -> pd.DataFrame:
    """Return the errors of the rows of Tables 8 and 9 by the overlap from which a box is right."""
    rows: list[Values] = []
    for curve in results.located.curves if results.located else ():
        own = {"table": number_of(curve.table), "row": curve.row, "guesses": curve.guesses}
        pairs = zip(curve.overlaps, curve.errors, strict=True)
        rows += [{**own, "overlap": overlap, "error": error} for overlap, error in pairs]
    return frame(rows, "table", "row", "guesses", "overlap", "error")


def _boxes(
    image: LocatedImage | Merging, classes: Mapping[str, str], kind: tuple[str, Sequence[Sequence[float]]]
) -> Iterator[Values]:
    """Yield a row for each box of one kind; a fifth number is its score."""
    name, boxes = kind
    about = {"image": image.id, "class": classes[str(image.label)], "label": image.label}
    about |= {"height": image.height, "width": image.width, "box": name}
    for box in boxes:
        score = {"score": box[4]} if len(box) > 4 else {}
        yield {**about, **dict(zip(EDGES, box, strict=False)), **score}
