"""The file in which ILSVRC's evaluation server takes predictions, from the scores on disk, and back.

One line per validation or test image in the order of their names: the guessed classes, the likeliest first, at most
five. For localisation each class is followed by its box: xmin ymin xmax ymax in whole pixels. Classes are the
development kit's ILSVRC2012_ID; of other data sets, the number of the class, counted from 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import read_facts
from pipeline.datasets.manifest import skipped_images, val_ids
from pipeline.datasets.sources.base import root_of
from pipeline.datasets.sources.ilsvrc.layout import Layout
from pipeline.datasets.sources.ilsvrc.unlabelled import id_of, missing_numbers, number_of
from pipeline.errors import Failure
from pipeline.experiment.paper_tables import GUESSING, TableRow, rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.results.localisation import guessed_boxes, threshold_of, true_boxes_of
from pipeline.results.scores import Scores, mean_posteriors
from pipeline.system.atomic_files import whole
from vgg.draws import Ints
from vgg.errors import error_of, likeliest, top_k
from vgg.localise import GUESSES, first_right

Task = Literal["classification", "localisation"]
FIELDS = {"classification": 1, "localisation": 5}  # numbers per guess


class Predictions(NamedTuple):
    """The guesses of all images in the order of their names."""

    classes: Ints  # (images, G) as the server numbers them
    boxes: NDArray[np.int64] | None  # (images, G, 4) whole pixels; None for classification


class Written(NamedTuple):
    """A file of predictions, and its error if labels are known here."""

    images: int
    guesses: int
    error: float | None  # per cent, of the guesses that are in the file


def write_predictions(params: Params, task: Task, path: Path, data_set: DataSet = CLASSIFICATION) -> Written:
    """Write the guesses of the paper's best system to `path`, and read them back.

    They are of the validation images, or of a `data_set` without labels. Raise Failure if scores are missing, if images
    are skipped, if the server's class numbers are not known, or if what is read back differs.
    """
    facts, labelled = read_facts(params.profile), data_set == CLASSIFICATION
    of_images = facts if labelled else read_facts(params.profile, data_set)
    scores, guesses = Scores(params, of_images, data_set=data_set), min(top_k(len(facts.classes)), GUESSES)
    order, numbers = _name_order(of_images.val, data_set), server_numbers(params)
    row = GUESSING if task == "classification" else rows("table9", params)[-1]
    _check(row, scores)
    if task == "classification":
        classes, boxes = likeliest(mean_posteriors(row, scores), guesses), None
    else:
        classes, boxes = _whole_boxes(row, scores, Scores(params, facts), guesses)
    made = Predictions(numbers[classes][order], None if boxes is None else boxes[order])
    with whole(path) as file:
        file.write(_text(made).encode())
    _compare(made, read_predictions(path, task), path)
    return Written(len(order), guesses, _error(row, scores, classes, boxes) if labelled else None)


def read_predictions(path: Path, task: Task) -> Predictions:
    """Return the predictions in a file. Raise Failure, naming it, if it is none of this task."""
    try:
        values = np.array([line.split() for line in path.read_text().splitlines()], np.int64)  # (images, G * fields)
        guesses = values.reshape(len(values), -1, FIELDS[task])
    except (OSError, ValueError) as reason:
        raise Failure(f"{path} is no file of predictions for {task}: {reason}") from None
    return Predictions(guesses[..., 0], guesses[..., 1:] if task == "localisation" else None)


def server_numbers(params: Params) -> Ints:
    """Return the server's number of each class (classes,). Raise Failure if only the kit says it, and it is missing."""
    facts = read_facts(params.profile)
    wnids = facts.wnids
    if not wnids:
        return np.arange(1, len(facts.classes) + 1)
    data = params.active.data
    root = root_of(data)
    kit = Layout.of(root, params.active.splits).truth.kit
    if kit is None or any(wnid not in kit.wnids for wnid in wnids):
        raise Failure(f"the server's class numbers (ILSVRC2012_ID) are in the development kit, which {root} lacks: "
                      "put ILSVRC2012_devkit_t12.tar.gz there")  # fmt: skip
    return np.array([kit.ids[kit.wnids.index(wnid)] for wnid in wnids], np.int64)


def _whole_boxes(row: TableRow, scores: Scores, chosen: Scores, guesses: int) -> tuple[Ints, NDArray[np.int64]]:
    """Return the guessed classes and their boxes in whole pixels, merged by the threshold that `chosen` are of.

    Raise Failure if there is no threshold.
    """
    threshold = threshold_of(row, chosen)
    if threshold is None:
        raise Failure("the threshold of merging is missing; make it with: dvc repro threshold")
    boxes, classes = guessed_boxes(row, scores, threshold, guesses)
    return classes, np.rint(boxes).astype(np.int64)


def _error(row: TableRow, scores: Scores, classes: Ints, boxes: NDArray[np.int64] | None) -> float:
    """Return the error of the validation images' guesses, with boxes if there are any."""
    guesses = classes.shape[1]
    labels = scores.array(row.runs[0], row.modes[0], "labels")
    if boxes is None:
        right = classes == labels[:, None]
        return error_of(np.where(right.any(1), right.argmax(1), guesses), guesses).error
    above, truth = scores.params.active.localising.above, true_boxes_of(row, scores)
    return error_of(first_right(boxes.astype(np.float64), classes, labels, *truth, above), guesses).error


def _check(row: TableRow, scores: Scores) -> None:
    for run, mode in row.needs():
        if not scores.has(run, mode):
            of_validation = f"make it with: vgg-repro table {'9' if row.scales else '6'}"
            make = of_validation if scores.data_set == CLASSIFICATION else scores.make(run, mode)
            raise Failure(f"{mode} of {run} is missing; {make}")


def _name_order(images: int, data_set: DataSet) -> Ints:
    """Return the places (images,) of the images in the order of their names.

    Raise Failure if the manifest has other images, or if some are skipped: every line would be of another image.
    """
    manifest = data_set.manifest
    ids = val_ids(manifest) if manifest.exists() else []
    if len(ids) != images:
        name = "" if data_set == CLASSIFICATION else f" {data_set.name}"
        raise Failure(f"{manifest} has other images than the scores; make it with: vgg-repro prepare{name}")
    skipped = _skipped(data_set, ids)
    if skipped:
        raise Failure(f"{skipped}, so that the lines would not be those of the server; {manifest} names them")
    return np.array(sorted(range(images), key=lambda place: (ids[place].rpartition("/")[2], ids[place])), np.int64)


def _skipped(data_set: DataSet, ids: list[str]) -> str:
    """Return how many images that the server knows are skipped, or an empty string if none is."""
    if data_set == CLASSIFICATION:
        count = skipped_images(data_set.manifest, "val")
        return f"{count:,} validation images are skipped" if count else ""
    lacking = missing_numbers(set(map(number_of, ids)))  # among the skipped files are others than test images
    return f"{len(lacking):,} test images are skipped, the first {id_of(lacking[0])}" if lacking else ""


def _text(made: Predictions) -> str:
    guesses = made.classes[..., None]
    if made.boxes is not None:
        guesses = np.concatenate([guesses, made.boxes], -1)
    return "".join(f"{' '.join(map(str, line))}\n" for line in guesses.reshape(len(guesses), -1).tolist())


def _compare(made: Predictions, read: Predictions, path: Path) -> None:
    """Raise Failure unless the predictions that were read are those that were made."""
    pairs = [(made.classes, read.classes)]
    pairs += [] if made.boxes is None or read.boxes is None else [(made.boxes, read.boxes)]
    if not all(np.array_equal(*pair) for pair in pairs):
        raise Failure(f"{path} does not hold what was written to it")
