"""Whether published nets score as published, at the centre crop and densely, and what else was tried at a miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.facts import read_statistics
from pipeline.errors import Failure
from pipeline.experiment.grid import figures
from pipeline.experiment.params import Params
from pipeline.published.agreement import Checked, Trial
from pipeline.published.convention import CONVENTIONS, Convention
from pipeline.system.progress import Progress
from stages.common import device, open_shards, posteriors_at, published_normaliser, read_record, scorer_of
from vgg.errors import error
from vgg.images import Images
from vgg.score import Scorer

TRIED = 500  # images that other inputs are tried on, where the net's own has missed
FEW = 500  # images that are looked at on a CPU unless somebody says how many
SQUARE = 0.9  # so many images of one square size are no photographs as they were taken
Labels = NDArray[np.int64]


class ImageSubset:
    """The first `count` of `images`; of images that come class by class, so many spread over all of them."""

    def __init__(self, images: Images, count: int) -> None:
        count = min(count, len(images))
        by_class = bool((np.diff(images.labels) >= 0).all())
        self.numbers = np.linspace(0, len(images) - 1, count).round().astype(int) if by_class else np.arange(count)
        self.images = images
        self.heights, self.widths = images.heights[self.numbers], images.widths[self.numbers]
        self.labels: Labels = images.labels[self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, image: int) -> NDArray[np.uint8]:
        return self.images[int(self.numbers[image])]


def main(params: Params, runs: Sequence[str], count: int | None) -> list[Checked]:
    """Check each of `runs` on `count` validation images: if it is none, on all with a GPU, on FEW without.

    Failure if there is nothing published to compare with.
    """
    score = params.active.score
    where = device(score.device, score.threads, score.precision)
    statistics = read_statistics()
    every = open_shards(params, "val", statistics)
    images = ImageSubset(every, count or (len(every) if where.type == "cuda" else FEW))
    some, found = ImageSubset(images, TRIED), list[Checked]()
    for run in runs:
        scorer, record = scorer_of(params, run, statistics, where), read_record(run)
        for mode, scale, rows in figures(params, run, record):
            posteriors = _posteriors(params, scorer, images, mode, scale, run)
            checked = _checked(posteriors, images.labels, run=run, mode=mode, scale=scale, figures=rows)
            if not checked.agrees and not any(one.better for one in found if one.run == run):
                others = _others(record["input"], scorer, mode)
                tried = [_tried(params, words, other, some, checked) for words, other in others]
                checked = replace(checked, trials=tried, square=_square(images))
            found.append(checked)
    if not found:
        raise Failure(f"nobody has published figures for {', '.join(runs)}: those known here are of nets A, B, D and E")
    return found


def _checked(posteriors: NDArray[np.float32], labels: Labels, **about: Any) -> Checked:
    """The errors, and how the net came to them."""
    named = len(np.unique(posteriors.argmax(1))) / len(np.unique(labels))
    top1, top5 = (error(posteriors, labels, k) for k in (1, 5))
    return Checked(top1=top1, top5=top5, sure=float(posteriors.max(1).mean()), named=named, **about)


def _posteriors(
    params: Params, scorer: Scorer, images: Images, mode: str, scale: int, called: str
) -> NDArray[np.float32]:
    """Posteriors (images, K) at one scale, with a line that says how far it is."""
    with Progress(f"{mode} {called} at Q = {scale}", len(images), "images") as progress:
        return posteriors_at(params, scorer, images, mode, scale, progress)


def _tried(params: Params, words: str, other: Scorer, some: ImageSubset, missed: Checked) -> Trial:
    """The top-1 error that comes of something else, in the protocol that has missed."""
    called = f"{missed.run}, tried otherwise,"
    return Trial(words, error(_posteriors(params, other, some, missed.mode, missed.scale, called), some.labels, 1))


def _square(images: ImageSubset) -> bool:
    """Whether nearly all images are squares of one size."""
    sizes, counts = np.unique(np.stack([images.heights, images.widths]), axis=1, return_counts=True)
    height, width = sizes[:, counts.argmax()]
    return bool(height == width and counts.max() > SQUARE * len(images))


def _others(said: Mapping[str, Any], scorer: Scorer, mode: str) -> Iterator[tuple[str, Scorer]]:
    """What may have been meant in the place of the input `said`, or of the order of mean and soft-max, in words."""
    if mode == "dense":
        other = {"before_softmax": "after_softmax", "after_softmax": "before_softmax"}[scorer.mean]
        yield f"score.mean: {other}", replace(scorer, mean=other)
        return
    now = Convention.of(said)
    for one in _conventions():
        turned = one.channels != now.channels
        if turned or (one.mean_rgb, one.deviation_rgb) != (now.mean_rgb, now.deviation_rgb):
            yield _options(one), replace(scorer, normalise=_Input(one, turned, scorer.device))


def _conventions() -> Iterator[Convention]:
    """The usual ones, each in both orders of channels."""
    for convention in (CONVENTIONS["caffe"], CONVENTIONS["torchvision"]):
        yield convention.taking("RGB", convention.range)
        yield convention.taking("BGR", convention.range)


def _options(convention: Convention) -> str:
    mean, deviation = (",".join(f"{one:g}" for one in values) for values in (convention.mean, convention.deviation))
    return f"--channels {convention.channels} --range {convention.range:g} --mean {mean} --deviation {deviation}"


class _Input:
    """Another input for a net that takes RGB by its first convolution as it was imported."""

    def __init__(self, taken: Convention, turned: bool, where: torch.device) -> None:
        self.normalise = published_normaliser(taken.mean_rgb, taken.deviation_rgb).to(where)
        self.turned = turned

    def __call__(self, pixels: Tensor) -> Tensor:
        found = self.normalise(pixels)
        return found.flip(1) if self.turned else found
