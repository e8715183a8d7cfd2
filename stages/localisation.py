"""Stage localisation: boxes on images, the merging of one image, errors by overlap, from the boxes on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import read_facts, read_statistics
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.paper_tables import TableRow, rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import located_images
from pipeline.experiment.targets import LOCATED
from pipeline.results.encoded_images import decoded, encoded
from pipeline.results.localisation import LocatedGuesses, counted_images, located, threshold_of, windows_of
from pipeline.results.located_images import (
    BEST,
    MERGING,
    WORST,
    LocatedImage,
    LocatedImages,
    Merging,
    OverlapCurve,
    example_name,
    write_located_images,
)
from pipeline.results.provenance import record_provenance
from pipeline.results.scores import Scores
from stages.common import open_shards
from vgg.boxes import RIGHT
from vgg.errors import top_k
from vgg.localise import best_overlaps
from vgg.merging import all_merged

SHOWN = 6  # images with the best boxes, and as many with the worst
OVERLAPS = [round(0.05 * step, 2) for step in range(1, 20)]
TRIED = 256  # images whose boxes are merged, until several are left
SMALL, LARGE = 112, 300  # longer side of an example's image and of the merging's, pixels


def main(params: Params) -> None:
    """Choose the images and write them with their boxes. Raise Failure if a score or the threshold is missing."""
    started = time.monotonic()
    facts, statistics = read_facts(params.profile), read_statistics()
    scores, shards = Scores(params, facts), open_shards(params, "val", statistics)
    found = {table: _found(table, guesses, params, scores)
             for table, guesses in (("table8", 1), ("table9", top_k(len(facts.classes))))}  # fmt: skip
    (row, central), (dense, merged) = (by_row[-1] for by_row in found.values())
    counted = counted_images(row, scores)
    examples = _examples(central, counted, shards)
    number, merging = _merging(dense, merged, scores, counted, shards)
    images = {example_name(place): _jpeg(shards, image, SMALL) for place, (image, _) in enumerate(examples)}
    names = sorted({merging.label, *(example.label for _, example in examples)})
    write_located_images(
        LocatedImages(
            profile=params.profile,
            run=row.runs[0],
            manifest=statistics.manifest,
            weights_sha256=scores.weights()[row.runs[0]],
            classes={str(label): facts.classes[label] for label in names},
            images_counted=int(counted.sum()),
            examples=[example for _, example in examples],
            merging=merging,
            curves=list(_curves(found, counted)),
            images={**images, MERGING: _jpeg(shards, number, LARGE)},
        )
    )
    record_provenance(LOCATED, located_images(params.profile), "cpu", 1, time.monotonic() - started)


def _found(table: str, guesses: int, params: Params, scores: Scores) -> list[tuple[TableRow, LocatedGuesses]]:
    """Return the rows of a table with their boxes, at most so many guesses per image."""
    found = [(row, located(row, scores, guesses)) for row in rows(table, params)]
    if lacking := [row.key for row, boxes in found if boxes is None]:
        raise Failure(f"the boxes of {lacking[0]} are missing; make them with: dvc repro {LOCATED}")
    return [(row, boxes) for row, boxes in found if boxes is not None]


def _overlaps(found: LocatedGuesses) -> NDArray[np.float64]:
    return best_overlaps(found.boxes, found.classes, found.labels, found.truth, found.of)


def _examples(found: LocatedGuesses, counted: NDArray[np.bool_], shards: Shards) -> list[tuple[int, LocatedImage]]:
    """Return the images whose boxes overlap the true ones best and worst, the first of equals, with their numbers."""
    overlaps = _overlaps(found)
    order = np.flatnonzero(counted)[np.argsort(-overlaps[counted], kind="stable")]
    count = min(SHOWN, len(order) // 2)
    chosen = [*((int(image), BEST) for image in order[:count]), *((int(image), WORST) for image in order[::-1][:count])]
    return [
        (image, LocatedImage(shards.ids[image], int(found.labels[image]), kind, *_size(shards, image),
                             _true(found, image), _edges(found.boxes[image, 0]), float(overlaps[image])))
        for image, kind in chosen
    ]  # fmt: skip


def _merging(
    row: TableRow, guesses: LocatedGuesses, scores: Scores, counted: NDArray[np.bool_], shards: Shards
) -> tuple[int, Merging]:
    """Return the merging of the first image whose first guess is right and whose boxes become several.

    If there is none, of the first image that is counted.
    """
    found = guesses._replace(boxes=guesses.boxes[:, :1], classes=guesses.classes[:, :1])
    value = threshold_of(row, scores)
    assert value is not None, "else there are no merged boxes"
    right = counted & (found.classes[:, 0] == found.labels) & (_overlaps(found) >= RIGHT)
    tried = [*np.flatnonzero(right)[:TRIED].tolist(), int(np.flatnonzero(counted)[0])]
    firsts = [every[:, 0] for every in windows_of(row, scores, tried)]  # of the first guess
    all_ = [(*each, *all_merged(each[1][:, :4], each[1][:, 4], value)) for each in zip(tried, firsts, strict=True)]
    image, windows, boxes, sums = next((each for each in all_ if len(each[2]) > 1), all_[-1])
    merged = [[*_edges(box), float(total)] for box, total in zip(boxes, sums, strict=True)]
    before = [[*_edges(window[:4]), float(window[4])] for window in windows]
    size = _size(shards, image)
    true = _true(found, image)
    label = int(found.classes[image, 0])
    return image, Merging(shards.ids[image], label, *size, true, before, merged, value, row.parts_key)


def _curves(
    found: Mapping[str, list[tuple[TableRow, LocatedGuesses]]], counted: NDArray[np.bool_]
) -> Iterator[OverlapCurve]:
    """Yield the errors of the rows of Tables 8 and 9 by the overlap from which a box is right."""
    for table, by_row in found.items():
        for row, guesses in by_row:
            overlaps = _overlaps(guesses)[counted]
            errors = [100 * float((overlaps < least).mean()) for least in OVERLAPS]
            yield OverlapCurve(table, row.key, guesses.classes.shape[1], OVERLAPS, errors)


def _size(shards: Shards, image: int) -> tuple[int, int]:
    return int(shards.heights[image]), int(shards.widths[image])


def _true(found: LocatedGuesses, image: int) -> list[list[float]]:
    return [_edges(box) for box in found.truth[found.of == image]]


def _edges(box: Any) -> list[float]:
    return [round(float(edge), 2) for edge in box]


def _jpeg(shards: Shards, image: int, largest: int) -> bytes:
    return encoded(decoded(shards[image].tobytes()), largest)
