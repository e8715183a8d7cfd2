"""Localisation from the boxes on disk: the rank of each image's first right guess, and the thresholds of merging."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import val_ids
from pipeline.errors import Failure
from pipeline.experiment.modes import CENTRE_BOXES
from pipeline.experiment.paper_tables import TableRow, other_localisers, rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, threshold
from pipeline.results.scores import Scores
from pipeline.system.atomic_files import read_json
from vgg.draws import Ints
from vgg.errors import error_of
from vgg.localise import first_right, merged_boxes


class LocatedGuesses(NamedTuple):
    """The guesses of a row and the true boxes of its images, as `first_right` takes them."""

    boxes: NDArray[np.float64]  # (images, G, 4)
    classes: Ints  # (images, G)
    labels: Ints  # (images,)
    truth: NDArray[np.float64]  # (m, 4)
    of: Ints  # (m,) each true box's image


TUNED = "train-"  # prefix of the arrays of the training images on which thresholds are chosen


def chosen_thresholds(params: Params, scores: Scores) -> dict[str, Any]:
    """Return the threshold of each row of Table 9, and the error of its true class's box for all, on training images.

    Of equal errors the first threshold is chosen. Raise Failure if a score file is missing.
    """
    choices, chosen, images = params.active.localising, {}, 0
    for row in rows("table9", params):
        truth = true_boxes_of(row, scores, TUNED)
        labels = scores.array(row.runs[0], row.modes[0], f"{TUNED}labels")
        images = len(labels)
        errors = {}
        for value in choices.thresholds:
            boxes = merged_boxes(_parts(row, scores, TUNED), value, params.active.score.threads)
            first = first_right(boxes, labels[:, None], labels, *truth, choices.above)
            errors[f"{value:g}"] = error_of(first, 1).error
        best = min(choices.thresholds, key=lambda value: errors[f"{value:g}"])
        chosen[row.parts_key] = {"threshold": best, "errors": errors}
    return {"profile": params.profile, "images": images, "data": scores.facts.manifest, "rows": chosen}


def localised_ranks(row: TableRow, scores: Scores, guesses: int) -> Ints | None:
    """Return the number, from 0, of each image's first right guess, `guesses` or more if none is right, (images,).

    None if a score or the threshold is missing, and for other people's rows.
    """
    found = located(row, scores, guesses)
    return first_right(*found, scores.params.active.localising.above) if found else None


def located(row: TableRow, scores: Scores, guesses: int) -> LocatedGuesses | None:
    """Return the guesses of a row, at most so many per image, and the true boxes; None as `localised_ranks`."""
    if not row.runs or not all(scores.has(*need) for need in row.needs()):
        return None
    run, mode = row.runs[0], row.modes[0]
    labels, truth = scores.array(run, mode, "labels"), true_boxes_of(row, scores)
    if mode == CENTRE_BOXES:
        boxes = scores.array(run, mode, "boxes")[:, None].astype(np.float64)
        return LocatedGuesses(boxes, labels[:, None], labels, *truth)
    value = threshold_of(row, scores)
    if value is None:
        return None
    return LocatedGuesses(*guessed_boxes(row, scores, value, guesses), labels, *truth)


def guessed_boxes(row: TableRow, scores: Scores, threshold: float, guesses: int) -> tuple[NDArray[np.float64], Ints]:
    """Return the boxes (images, G, 4) and classes (images, G) of a row's dense evaluation, at most `guesses` each."""
    boxes = merged_boxes(_parts(row, scores), threshold, scores.params.active.score.threads)[:, :guesses]
    return boxes, scores.array(row.runs[0], row.modes[0], "classes")[:, :guesses]


def windows_of(row: TableRow, scores: Scores, images: Sequence[int]) -> list[NDArray[np.float64]]:
    """Return the windows (n, C, 5) of some images, of all parts of a row: boxes and scores of each guessed class."""
    parts = [(windows, np.concatenate([[0], np.cumsum(counts)])) for windows, counts in _parts(row, scores)]
    return [np.concatenate([all_[at[i] : at[i + 1]] for all_, at in parts]).astype(np.float64) for i in images]


def threshold_of(row: TableRow, scores: Scores) -> float | None:
    """Return the threshold that was chosen for a row's windows on the images of `scores`; None if there is none."""
    values = read_json(threshold(), "dvc repro threshold") if threshold().exists() else {}
    if (values.get("profile"), values.get("data")) != (scores.params.profile, scores.facts.manifest):
        return None
    chosen = values["rows"].get(row.parts_key)
    return float(chosen["threshold"]) if chosen else None


def counted_images(row: TableRow, scores: Scores) -> NDArray[np.bool_]:
    """Return which images (images,) count: those with a true box that the profile's list does not exclude."""
    labels = scores.array(row.runs[0], row.modes[0], "labels")
    _, of = true_boxes_of(row, scores)
    counted: NDArray[np.bool_] = np.bincount(of, minlength=len(labels)) > 0
    listed = scores.params.active.localising.excluded
    return counted & ~_excluded(Path(listed), len(labels)) if listed else counted


def _excluded(path: Path, images: int) -> NDArray[np.bool_]:
    """Return which images (images,) a list names, by their id or by the number that it ends with.

    Raise Failure if the list cannot be read, or names an image that is not there.
    """
    try:
        words = path.read_text().split()
    except (OSError, UnicodeDecodeError) as reason:
        raise Failure(f"{path}, the list of excluded images, cannot be read: {reason}") from None
    ids = list(val_ids(CLASSIFICATION.manifest))
    if len(ids) != images:
        raise Failure(f"{CLASSIFICATION.manifest} has other images than the scores; make it with: vgg-repro prepare")
    stems = {id.rpartition("/")[2].partition(".")[0]: place for place, id in enumerate(ids)}
    numbers = {int(match[0]): place for stem, place in stems.items() if (match := re.search(r"\d+$", stem))}
    excluded = np.zeros(images, bool)
    for word in words:
        place = numbers.get(int(word)) if word.isdigit() else stems.get(word.rpartition("/")[2].partition(".")[0])
        if place is None:
            raise Failure(f"{path} excludes {word}, which is not among the validation images")
        excluded[place] = True
    return excluded


def true_boxes_of(row: TableRow, scores: Scores, prefix: str = "") -> tuple[NDArray[np.float64], Ints]:
    """Return all true boxes (m, 4) and their images (m,)."""
    run, mode = row.runs[0], row.modes[0]
    return scores.array(run, mode, f"{prefix}truth"), scores.array(run, mode, f"{prefix}truth_of")


def _parts(row: TableRow, scores: Scores, prefix: str = "") -> list[tuple[Any, Any]]:
    """Return the windows of a row, one set per localiser and Q, as `merged_boxes` takes them."""
    mode = row.modes[0]
    names = [(run, f"{prefix}{scale}") for run, scales in row.scales.items() for scale in scales]
    return [(scores.array(run, mode, name), scores.array(run, mode, f"{name}-counts")) for run, name in names]


def localisation_notes(params: Params, table: str, scores: Scores) -> dict[str, Any]:
    """Return what a table of localisation says besides its errors: the measure, the thresholds, other localisers."""
    choices = params.active.localising
    values = {row.parts_key: threshold_of(row, scores) for row in rows(table, params) if row.scales}
    return {
        "above": choices.above,
        "excluded": choices.excluded,
        "thresholds": {key: value for key, value in values.items() if value is not None},
        "tuning_images": choices.tuning_images,
        "others": other_localisers(params, table),
    }
