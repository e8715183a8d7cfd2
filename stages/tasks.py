"""What a run learns: its images, the outputs of its net, their loss and target, and how it is judged as it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.datasets.facts import Statistics
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS
from pipeline.errors import Failure
from pipeline.experiment.modes import single_scale
from pipeline.experiment.params import Params
from stages.boxes import BoxedImages, true_boxes, with_boxes
from stages.common import open_shards
from vgg.boxes import BoxTargets, box_loss
from vgg.draws import rescaled
from vgg.errors import error, error_of, top_k
from vgg.fit import Loss, train_loss
from vgg.images import Images, Rescaled
from vgg.localise import centre_boxes, first_right
from vgg.score import Scorer, centre
from vgg.stream import Target

Judge = Callable[[Scorer, Iterable[Rescaled]], tuple[float, float]]  # of the validation images: errors in per cent


@dataclass(frozen=True)
class Task:
    """What a run learns."""

    outputs: int  # of the last FC layer
    train_images: Images
    val_images: Shards
    judge: Judge  # top-1 and top-k error; of a localiser twice that of the true class's box
    loss: Loss = train_loss
    target: Target | None = None  # what the loss compares outputs with; None: the labels
    keeps_last: bool = True  # starts from the last FC layer, too, of the run that it starts from
    about: dict[str, Any] = field(default_factory=dict)  # entries of the run's summary


def task_of(params: Params, name: str, statistics: Statistics) -> Task:
    """Return the task of a run or localiser. Raise Failure if its images are missing, or have no boxes to learn."""
    return (_localisation if name in params.localisers else _classification)(params, name, statistics)


def _classification(params: Params, name: str, statistics: Statistics) -> Task:
    train, val = (open_shards(params, split, statistics) for split in SPLITS)

    def judge(scorer: Scorer, batches: Iterable[Rescaled]) -> tuple[float, float]:
        posteriors = scorer.posteriors(batches, len(val), centre)
        top1, topk = (error(posteriors, val.labels, k).error for k in (1, top_k(statistics.classes)))
        return top1, topk

    return Task(statistics.classes, train, val, judge)


def _localisation(params: Params, name: str, statistics: Statistics) -> Task:
    """Return the task of appendix A.1. Images without boxes are not trained on; the error is protocol 1's."""
    train, val = (open_shards(params, split, statistics) for split in SPLITS)
    profile, row = params.active, params.localisers[name]
    trained = BoxedImages(train, with_boxes(train))
    truth, of = true_boxes(val)
    judged = np.bincount(of, minlength=len(val)) > 0
    for split, count in (("training", len(trained)), ("validation", int(judged.sum()))):
        if not count:
            raise Failure(f"{name} cannot be trained: none of the {split} images has a box (docs/paper.md)")
    scale = profile.net.pixels(single_scale(params.localiser_run(name)))
    stored = np.stack([val.heights, val.widths], 1)
    sizes = np.stack(rescaled(val.heights, val.widths, scale), 1)

    def judge(scorer: Scorer, batches: Iterable[Rescaled]) -> tuple[float, float]:
        boxes = centre_boxes(scorer, batches, val.labels, sizes, stored)
        first = first_right(boxes[:, None], val.labels[:, None], val.labels, truth, of, profile.localising.above)
        wrong = error_of(first[judged], 1).error
        return wrong, wrong

    return Task(
        outputs=row.outputs(statistics.classes),
        train_images=trained,
        val_images=val,
        judge=judge,
        loss=box_loss,
        target=BoxTargets(trained, profile.net.crop, profile.localising.min_visible),
        keeps_last=False,
        about={
            "boxes": row.boxes,
            "without_boxes": {"train": len(train) - len(trained), "val": int((~judged).sum())},
        },
    )
