"""The check that published nets score as published, centre crop and dense; a miss tries other inputs and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.facts import read_statistics
from pipeline.errors import Failure
from pipeline.experiment.modes import MODES
from pipeline.experiment.paper_tables import published_errors
from pipeline.experiment.params import Params, Score
from pipeline.published.agreement import LOST, Checked, Trial
from pipeline.published.convention import CONVENTIONS, Convention
from pipeline.system.devices import check_choice
from pipeline.system.progress import Progress
from stages.common import device, open_shards, posteriors_at, published_normaliser, read_record, scorer_of
from stages.images import ChosenImages, Labels
from vgg.errors import error
from vgg.images import Images
from vgg.score import Scorer

TRIED = 500  # images on which other inputs are tried if the net's own input misses
FEW = 500  # images checked on a CPU if no number is given
SQUARE = 0.9  # above this fraction of images of one square size, the photographs are not as taken


class ImageSubset(ChosenImages):
    """The first `count` of `images`, or, if they are sorted by class, `count` spread evenly over all of them."""

    def __init__(self, images: Images, count: int) -> None:
        count = min(count, len(images))
        by_class = bool((np.diff(images.labels) >= 0).all())
        super().__init__(images, np.linspace(0, len(images) - 1, count).round() if by_class else np.arange(count))


def main(params: Params, runs: Sequence[str], count: int | None) -> list[Checked]:
    """Check each of `runs` on `count` validation images; if `count` is None, on all with a GPU and on FEW without.

    Return the results. Raise Failure if there is nothing published to compare with.
    """
    score = params.active.score
    check_choice(score.device, params.active.net.full_size)
    where = device(score.device, score.threads, score.precision)
    statistics = read_statistics()
    all_images = open_shards(params, "val", statistics)
    images = ImageSubset(all_images, count or (len(all_images) if where.type == "cuda" else FEW))
    results, rules = list[Checked](), params.evidence.cells
    for run in runs:
        scorer, record = scorer_of(params, run, statistics, where), read_record(run)
        for mode, scale, rows in published_errors(params, run, record):
            posteriors = _posteriors(params, scorer, images, mode, scale, run)
            checked = _checked(posteriors, images.labels, run=run, mode=mode, scale=scale, figures=rows, rules=rules)
            if checked.differs and not any(result.better for result in results if result.run == run):
                checked = _with_trials(params, scorer, images, checked, record["input"])
            results.append(checked)
    if not results:
        raise Failure(f"no published errors are known for {', '.join(runs)}, only for nets A, B, D and E")
    return results


def _checked(posteriors: NDArray[np.float32], labels: Labels, **about: Any) -> Checked:
    """Return the errors, with the confidence and the share of classes that the net predicts."""
    named = len(np.unique(posteriors.argmax(1))) / len(np.unique(labels))
    top1, top5 = (error(posteriors, labels, k) for k in (1, 5))
    return Checked(top1=top1, top5=top5, sure=float(posteriors.max(1).mean()), named=named, **about)


def _posteriors(
    params: Params, scorer: Scorer, images: Images, mode: str, scale: int, label: str, resize: str | None = None
) -> NDArray[np.float32]:
    """Return posteriors (images, K) at one scale and show the progress."""
    with Progress(f"{mode} {label} at Q = {scale}", len(images), "images") as progress:
        return posteriors_at(params, scorer, images, mode, scale, progress, resize)


def _with_trials(
    params: Params, scorer: Scorer, images: ImageSubset, missed: Checked, net_input: Mapping[str, Any]
) -> Checked:
    """Return a miss with trials of other inputs and, if none is clearly better, of other settings of `score`.

    An input shows on TRIED images; settings differ by less than a point, so that all images are needed.
    """
    subset = ImageSubset(images, TRIED)
    inputs = _inputs(net_input, scorer) if missed.mode == "centre" else ()
    trials = [_trial(params, words, other, subset, missed) for words, other in inputs]
    checked = replace(missed, trials=trials, square=_square(images))
    if checked.better or checked.top1.error > LOST:
        return checked
    settings = _settings(params.active.score, scorer, missed.mode)
    tried = [_trial(params, words, other, images, missed, resize) for words, other, resize in settings]
    return replace(checked, settings=tried)


def _trial(
    params: Params, words: str, scorer: Scorer, images: ImageSubset, missed: Checked, resize: str | None = None
) -> Trial:
    """Return the top-1 error of another scorer or filter, in the protocol that missed."""
    label = f"{missed.run} with other settings"
    posteriors = _posteriors(params, scorer, images, missed.mode, missed.scale, label, resize)
    return Trial(words, error(posteriors, images.labels, 1))


def _square(images: ImageSubset) -> bool:
    """Return True if nearly all images are squares of one size."""
    sizes, counts = np.unique(np.stack([images.heights, images.widths]), axis=1, return_counts=True)
    height, width = sizes[:, counts.argmax()]
    return bool(height == width and counts.max() > SQUARE * len(images))


def _settings(score: Score, scorer: Scorer, mode: str) -> Iterator[tuple[str, Scorer, str]]:
    """Yield the other settings of `score` that a mode depends on: in words, a scorer and a filter of each."""
    for key in ("mean", "remainder") if MODES[mode].whole_images else ():
        for value in _others(score, key):
            other: dict[str, Any] = {key: value}
            yield f"score.{key}: {value}", replace(scorer, **other), score.resize
    for value in _others(score, "resize"):
        yield f"score.resize: {value}", scorer, value


def _others(score: Score, key: str) -> list[str]:
    """Return the values that a key could also have."""
    return [value for value in get_args(Score.model_fields[key].annotation) if value != getattr(score, key)]


def _inputs(net_input: Mapping[str, Any], scorer: Scorer) -> Iterator[tuple[str, Scorer]]:
    """Yield what may have been meant instead of `net_input`, and its scorer."""
    current = Convention.of(net_input)
    for convention in _conventions():
        turned = convention.channels != current.channels
        if turned or (convention.mean_rgb, convention.std_rgb) != (current.mean_rgb, current.std_rgb):
            yield _options(convention), replace(scorer, normalise=_Input(convention, turned, scorer.device))


def _conventions() -> Iterator[Convention]:
    """Yield the usual conventions, each in both orders of channels."""
    for convention in (CONVENTIONS["caffe"], CONVENTIONS["torchvision"]):
        yield convention.taking("RGB", convention.range)
        yield convention.taking("BGR", convention.range)


def _options(convention: Convention) -> str:
    mean, std = (",".join(f"{value:g}" for value in values) for values in (convention.mean, convention.std))
    return f"--channels {convention.channels} --range {convention.range:g} --mean {mean} --std {std}"


class _Input:
    """Another input for a net whose first convolution takes RGB since its import."""

    def __init__(self, convention: Convention, turned: bool, where: torch.device) -> None:
        self.normalise = published_normaliser(convention.mean_rgb, convention.std_rgb).to(where)
        self.turned = turned

    def __call__(self, pixels: Tensor) -> Tensor:
        values = self.normalise(pixels)
        return values.flip(1) if self.turned else values
