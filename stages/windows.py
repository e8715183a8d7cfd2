"""Stage windows: a localiser applied densely, the boxes of all its windows and their class scores (appendix A.2).

Of each validation image it keeps the boxes of the classes that the best classification system guesses. Merging them is
arithmetic on what is kept. Of some training images it keeps the box of the true class: the threshold is chosen on them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from pipeline.datasets.facts import Statistics, read_facts, read_statistics
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.paper_tables import GUESSING
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.results.scores import Scores, mean_posteriors
from pipeline.system.progress import Progress
from stages.boxes import BoxedImages, BoxScores, localiser_of, sizes_of, true_boxes, with_boxes
from stages.common import batches_at, evaluated_images, open_shards, scorer_of
from stages.distributed import shared
from vgg.distributed import Ranks
from vgg.draws import Ints
from vgg.errors import likeliest, top_k
from vgg.localise import all_windows
from vgg.score import Scorer


def main(params: Params, name: str, data_set: DataSet = CLASSIFICATION) -> None:
    """Score the windows of localiser `name`, in the number of processes that `params` set.

    Of another `data_set`, which has no labels, only the windows are kept, and none of training images.
    """
    shared(params, params.active.score, f"windows {name}", _score, name, data_set)


def _score(params: Params, name: str, data_set: DataSet, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`."""
    started, row = time.monotonic(), params.windows[name]
    statistics, labelled = read_statistics(), data_set == CLASSIFICATION
    val, manifest = evaluated_images(params, data_set)
    guesses = _guessed_classes(params, statistics, data_set)
    parts: list[tuple[str, Shards | BoxedImages, Ints]] = [("", val, guesses)]
    if labelled:
        train = open_shards(params, "train", statistics)
        tuned = BoxedImages(train, _spread(with_boxes(train), params.active.localising.tuning_images))
        parts.append(("train-", tuned, tuned.labels[:, None]))
    nets = (
        localiser_of(params, name, statistics, where, ranks),
        scorer_of(params, row.scores, statistics, where, ranks),
    )
    torch.backends.cudnn.benchmark = False  # shapes differ
    arrays: dict[str, Any] = {"classes": guesses}
    count = sum(len(images) for _, images, _ in parts)
    with Progress(f"windows {name}", count * len(row.scales), "images") as progress:
        for prefix, images, classes in parts:
            if labelled:
                truth, of = true_boxes(images)
                arrays |= {f"{prefix}labels": images.labels, f"{prefix}truth": truth, f"{prefix}truth_of": of}
            for scale in row.scales:
                values = _windows(params, nets, images, classes, scale, progress)
                arrays |= dict(zip((f"{prefix}{scale}", f"{prefix}{scale}-counts"), values, strict=True))
    if ranks.first:
        BoxScores(params, name, WINDOWS, manifest, where, data_set).write(arrays, len(val), started, ranks.size)


def _windows(
    params: Params, nets: tuple[Scorer, Scorer], images: Any, classes: Ints, scale: int, progress: Progress
) -> tuple[Any, Ints]:
    """Return the windows of images at one Q, the paper's pixels, as `all_windows` does."""
    batches = batches_at(params, nets[0], images, scale, progress)
    try:
        return all_windows(*nets, batches, classes, *sizes_of(images, params.active.net.pixels(scale)))
    except ValueError as reason:
        raise Failure(f"the windows cannot be scored at Q = {scale}: {reason}") from None


def _spread(numbers: Ints, count: int) -> Ints:
    """Return at most `count` of the numbers, spread evenly over all of them, because images may be sorted by class."""
    chosen: Ints = numbers[np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)]
    return chosen


def _guessed_classes(params: Params, statistics: Statistics, data_set: DataSet) -> Ints:
    """Return the classes (images, k) that the best classification system guesses, the likeliest first."""
    scores = Scores(params, read_facts(params.profile, data_set), data_set=data_set)
    for need in GUESSING.needs():
        if not scores.has(*need):
            raise Failure(f"the classes are guessed from {' '.join(reversed(need))}; {scores.make(*need)}")
    return likeliest(mean_posteriors(GUESSING, scores), top_k(statistics.classes))
