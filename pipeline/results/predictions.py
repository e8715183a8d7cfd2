"""The file in which ILSVRC's evaluation server takes predictions, from the scores on disk, and back.

One line per validation image in the order of their names: the guessed classes, the likeliest first, at most five. For
localisation each class is followed by its box: xmin ymin xmax ymax in whole pixels. Classes are the development kit's
ILSVRC2012_ID; of other data sets, the number of the class, counted from 1.
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
from pipeline.errors import Failure
from pipeline.experiment.paper_tables import GUESSING, TableRow, rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.results.localisation import located
from pipeline.results.scores import Scores, average
from pipeline.system.atomic_files import whole
from vgg.draws import Ints
from vgg.errors import error_of, ranks, top_k
from vgg.localise import GUESSES, first_right

Task = Literal["classification", "localisation"]
FIELDS = {"classification": 1, "localisation": 5}  # numbers per guess


class Predictions(NamedTuple):
    """The guesses of all validation images in the order of their names."""

    classes: Ints  # (images, G) as the server numbers them
    boxes: NDArray[np.int64] | None  # (images, G, 4) whole pixels; None for classification


class Written(NamedTuple):
    """A file of predictions, and its error as far as labels are known here."""

    images: int
    guesses: int
    error: float  # per cent, of the guesses that were read back


def write_predictions(params: Params, task: Task, path: Path) -> Written:
    """Write the guesses of the paper's best system to `path`, and read them back.

    Raise Failure if scores are missing, if images are skipped, if the server's class numbers are not known, or if what
    is read back differs.
    """
    facts = read_facts(params.profile)
    scores, k = Scores(params, facts), top_k(len(facts.classes))
    order, numbers = _name_order(facts.val), _server_numbers(params, facts.wnids, len(facts.classes))
    row = GUESSING if task == "classification" else rows("table9", params)[-1]
    _check(row, scores)
    made, wrong = (_classes if task == "classification" else _boxes)(row, scores, numbers, min(k, GUESSES))
    in_order = Predictions(made.classes[order], None if made.boxes is None else made.boxes[order])
    with whole(path) as file:
        file.write(_text(in_order).encode())
    _compare(in_order, read_predictions(path, task), path)
    return Written(len(order), made.classes.shape[1], wrong)


def read_predictions(path: Path, task: Task) -> Predictions:
    """Return the predictions in a file. Raise Failure, naming it, if it is none of this task."""
    try:
        values = np.array([line.split() for line in path.read_text().splitlines()], np.int64)  # (images, G * fields)
        guesses = values.reshape(len(values), -1, FIELDS[task])
    except (OSError, ValueError) as reason:
        raise Failure(f"{path} is no file of predictions for {task}: {reason}") from None
    return Predictions(guesses[..., 0], guesses[..., 1:] if task == "localisation" else None)


def _classes(row: TableRow, scores: Scores, numbers: Ints, guesses: int) -> tuple[Predictions, float]:
    """Return the likeliest classes of each image, and their top-k error."""
    posteriors, labels = average(row, scores)
    guessed = np.argsort(-posteriors, 1, kind="stable")[:, :guesses]
    return Predictions(numbers[guessed], None), error_of(ranks(posteriors, labels), guesses).error


def _boxes(row: TableRow, scores: Scores, numbers: Ints, guesses: int) -> tuple[Predictions, float]:
    """Return the guessed classes with their boxes in whole pixels, and the error of these."""
    found = located(row, scores, guesses)
    if found is None:
        raise Failure("the threshold of merging is missing; make it with: dvc repro threshold")
    boxes = np.rint(found.boxes).astype(np.int64)
    above = scores.params.active.localising.above
    first = first_right(boxes.astype(np.float64), found.classes, found.labels, found.truth, found.of, above)
    return Predictions(numbers[found.classes], boxes), error_of(first, guesses).error


def _check(row: TableRow, scores: Scores) -> None:
    for run, mode in row.needs():
        if not scores.has(run, mode):
            table = "9" if row.scales else "6"
            raise Failure(f"{mode} of {run} is missing; make it with: vgg-repro table {table}")


def _name_order(images: int) -> Ints:
    """Return the places (images,) of the validation images in the order of their names.

    Raise Failure if the manifest has other images, or if some are skipped: every line would be of another image.
    """
    ids = val_ids(CLASSIFICATION.manifest) if CLASSIFICATION.manifest.exists() else []
    if len(ids) != images:
        raise Failure(f"{CLASSIFICATION.manifest} has other images than the scores; make it with: vgg-repro prepare")
    if skipped := skipped_images(CLASSIFICATION.manifest, "val"):
        raise Failure(f"{skipped:,} validation images are skipped, so that the lines would not be those of the server; "
                      f"{CLASSIFICATION.manifest} names them")  # fmt: skip
    return np.array(sorted(range(images), key=lambda place: (ids[place].rpartition("/")[2], ids[place])), np.int64)


def _server_numbers(params: Params, wnids: list[str], classes: int) -> Ints:
    """Return the server's number of each class (classes,). Raise Failure if only the kit says it, and it is missing."""
    if not wnids:
        return np.arange(1, classes + 1)
    data = params.active.data
    root = root_of(data)
    kit = Layout.of(root, params.active.splits).truth.kit
    if kit is None or any(wnid not in kit.wnids for wnid in wnids):
        raise Failure(f"the server's class numbers (ILSVRC2012_ID) are in the development kit, which {root} lacks: "
                      "put ILSVRC2012_devkit_t12.tar.gz there")  # fmt: skip
    return np.array([kit.ids[kit.wnids.index(wnid)] for wnid in wnids], np.int64)


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
