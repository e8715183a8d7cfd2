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
from pipeline.errors import Failure
from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.paper_tables import GUESSING
from pipeline.experiment.params import Params
from pipeline.results.scores import Scores, average
from pipeline.system.progress import Progress
from stages.boxes import BoxedImages, BoxScores, localiser_of, sizes_of, true_boxes, with_boxes
from stages.common import batches_at, open_shards, scorer_of
from stages.distributed import shared
from vgg.distributed import Ranks
from vgg.draws import Ints
from vgg.errors import top_k
from vgg.localise import all_windows
from vgg.score import Scorer


def main(params: Params, name: str) -> None:
    """Score the windows of localiser `name`, in the number of processes that `params` set."""
    shared(params, params.active.score, f"windows {name}", _score, name)


def _score(params: Params, name: str, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`."""
    started, row = time.monotonic(), params.windows[name]
    statistics = read_statistics()
    val, train = (open_shards(params, split, statistics) for split in ("val", "train"))
    tuned = BoxedImages(train, _spread(with_boxes(train), params.active.localising.tuning_images))
    guesses = _guessed_classes(params, statistics)
    nets = (
        localiser_of(params, name, statistics, where, ranks),
        scorer_of(params, row.scores, statistics, where, ranks),
    )
    torch.backends.cudnn.benchmark = False  # shapes differ
    arrays: dict[str, Any] = {"classes": guesses}
    with Progress(f"windows {name}", (len(val) + len(tuned)) * len(row.scales), "images") as progress:
        for prefix, images, classes in (("", val, guesses), ("train-", tuned, tuned.labels[:, None])):
            truth, of = true_boxes(images)
            arrays |= {f"{prefix}labels": images.labels, f"{prefix}truth": truth, f"{prefix}truth_of": of}
            for scale in row.scales:
                values = _windows(params, nets, images, classes, scale, progress)
                arrays |= dict(zip((f"{prefix}{scale}", f"{prefix}{scale}-counts"), values, strict=True))
    if ranks.first:
        BoxScores(params, name, WINDOWS, statistics, where).write(arrays, len(val), started, ranks.size)


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


def _guessed_classes(params: Params, statistics: Statistics) -> Ints:
    """Return the classes (images, k) that the best classification system guesses, the likeliest first."""
    scores = Scores(params, read_facts(params.profile))
    for run, mode in GUESSING.needs():
        if not scores.has(run, mode):
            raise Failure(f"the classes are guessed from {mode} {run}; make it with: vgg-repro score {mode} {run}")
    posteriors, _ = average(GUESSING, scores)
    classes: Ints = np.argsort(-posteriors, 1, kind="stable")[:, : top_k(statistics.classes)]
    return classes
