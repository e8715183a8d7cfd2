"""Stage descriptors: test examples of two classes of another data set, and descriptors of six classes in a plane."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.readers.base import WHOLE, Examples, read_examples
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.other_sets import NETS_OF, PROTOCOLS, shown_stage, svm_stage, variants
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified, shown_set
from pipeline.results.array_file import arrays_in
from pipeline.results.encoded_images import decoded, encoded
from pipeline.results.other_sets import current_record, descriptors_of
from pipeline.results.provenance import record_provenance
from pipeline.results.shown_sets import (
    HIGHEST,
    LOWEST,
    DescriptorMap,
    ShownExample,
    ShownSet,
    example_image,
    write_shown_set,
)
from stages.common import open_shards
from vgg.draws import Floats, Ints
from vgg.measures import BY_CLASS

SYSTEM = "DE"
EACH = 3  # examples of a class with the highest scores, and with the lowest
MAPPED, MOST = 6, 100  # classes whose descriptors are mapped, and examples of each
LONGER = 112  # side of an example's image, pixels


class _Tested(NamedTuple):
    """The test examples of the first split."""

    numbers: Ints  # (n,) among all examples
    scores: Floats  # (n, K)
    labels: NDArray[np.int8]  # (n, K)


def main(params: Params, name: str) -> None:
    """Choose the examples of data set `name` and map its descriptors. Raise Failure if its SVMs' scores are missing."""
    started, row, data_set = time.monotonic(), params.datasets[name], DataSet(name)
    protocol, path, made_by = PROTOCOLS[row.source], classified(row.table, name, SYSTEM), svm_stage(name, SYSTEM)
    record = current_record(params, name, path, made_by)
    if not record:
        raise Failure(f"the scores of {name} are missing; make them with: dvc repro {made_by}")
    examples, variant = read_examples(data_set.examples, f"vgg-repro prepare {name}"), variants(protocol.boxed)[-1]
    with arrays_in(path, f"delete it, and make it with: dvc repro {made_by}") as arrays:
        numbers: Ints = arrays["test-0"]
        tested = _Tested(numbers, arrays[f"{variant}-0"], examples.labels[numbers])
    measures = 100 * BY_CLASS[protocol.measure](tested.scores, tested.labels)
    order = np.argsort(-measures, kind="stable").tolist()
    shards = open_shards(params.for_set(name), "val", read_statistics(data_set), data_set)
    shown = [
        (int(examples.images[tested.numbers[place]]), _example(shards, examples, tested, place, label, measures, kind))
        for label in (order[0], order[-1]) for place, kind in _extremes(tested, label)
    ]  # fmt: skip
    mapped = [*order[: MAPPED // 2], *order[max(MAPPED // 2, len(order) - MAPPED // 2) :]]
    rows = descriptors_of(params, name, NETS_OF[SYSTEM], variant, examples)[tested.numbers]
    write_shown_set(
        ShownSet(
            profile=params.profile,
            set=name,
            manifest=record["data"],
            scores_sha256=record["scores_sha256"],
            classes={str(number): label for number, label in enumerate(examples.classes)},
            examples=[example for _, example in shown],
            map=_map(rows, tested.labels, mapped),
            images={example_image(name, place): _jpeg(shards, image) for place, (image, _) in enumerate(shown)},
        )
    )
    record_provenance(shown_stage(name), shown_set(params.profile, name), "cpu", 1, time.monotonic() - started)


def _example(
    shards: Shards, examples: Examples, tested: _Tested, place: int, label: int, measures: Floats, kind: str
) -> ShownExample:
    number = int(tested.numbers[place])
    image = int(examples.images[number])
    classes = np.flatnonzero(tested.labels[place] > 0).tolist()
    score, box = float(tested.scores[place, label]), _box(shards, examples, image, number)
    return ShownExample(shards.ids[image], label, float(measures[label]), kind, score, classes, box)


def _extremes(tested: _Tested, label: int) -> list[tuple[int, str]]:
    """Return the places of the highest scores, and of the lowest ones of examples of the class, the first of equals."""
    scores, labels = tested.scores[:, label], tested.labels[:, label]
    counted, own = np.flatnonzero(labels != 0), np.flatnonzero(labels > 0)
    highest = counted[np.argsort(-scores[counted], kind="stable")][:EACH].tolist()
    lowest = own[np.argsort(scores[own], kind="stable")][:EACH].tolist()
    return [*((place, HIGHEST) for place in highest), *((place, LOWEST) for place in lowest)]


def _jpeg(shards: Shards, image: int) -> bytes:
    return encoded(decoded(shards[image].tobytes()), LONGER)


def _box(shards: Shards, examples: Examples, image: int, number: int) -> list[float] | None:
    """Return the edges of an example's box, relative to its image."""
    if examples.boxes[number] == WHOLE:
        return None
    height, width = int(shards.heights[image]), int(shards.widths[image])
    edges = np.asarray(shards.boxes_of(image)[examples.boxes[number]], float) / [width, height, width, height]
    return [round(float(edge), 4) for edge in edges]


def _map(rows: NDArray[np.float32], labels: NDArray[np.int8], classes: list[int]) -> DescriptorMap:
    """Return examples of `classes` by the two principal components of their descriptors, (examples, numbers).

    An example of several of them is shown as the first.
    """
    own = labels[:, classes] > 0
    first = np.where(own.any(1), own.argmax(1), len(classes))
    shown: Ints = np.concatenate([np.flatnonzero(first == number)[:MOST] for number in range(len(classes))])
    wide = rows[shown].astype(np.float64)
    analysis = PCA(2, svd_solver="full").fit(wide)
    points = analysis.transform(wide)
    return DescriptorMap(
        [classes[number] for number in first[shown]],
        [[round(float(value), 4) for value in point] for point in points],
        [round(float(share), 4) for share in analysis.explained_variance_ratio_],
    )
