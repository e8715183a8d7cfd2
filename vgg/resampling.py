"""The measures of appendix B with a weight for each example, and the weights that resample images and splits.

A weight counts an example so many times, as in a bootstrap. Random weights of the exponential distribution (Rubin's
Bayesian bootstrap) are never 0, so that no resample lacks a class, however few its examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vgg.draws import Floats, Ints
from vgg.measures import RECALLS

PART = 100  # resamples at once, to bound the memory
Labels = NDArray[np.int8]
Weighted = Callable[[Floats, Labels, Floats], Floats]


class SplitScores(NamedTuple):
    """What a split's test examples got by each of several methods: the same examples for all."""

    images: Ints  # (n,) number of the example's image; examples of one image are resampled together
    labels: Labels  # (n, K) 1, 0 or -1
    scores: Mapping[str, Floats]  # by method, (n, K)


def weighted_precision(scores: Floats, labels: Labels, weights: Floats, recalls: int | None = None) -> Floats:
    """Return average precisions (B,) in 0..1 of scores (n,) for labels (n,), by B rows of weights (B, n).

    It is the area under the precision, made falling; with `recalls` the mean over 0, 1 / recalls .. 1. The best
    precision is always at a positive example, so only these are looked at.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[labels[order] != 0]
    places = np.flatnonzero(labels[order] > 0)
    own = weights[:, order[places]]  # (B, positives)
    found = own.cumsum(1)
    precision = found / weights[:, order].cumsum(1)[:, places]
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if recalls is None:
        area: Floats = (best * own).sum(1) / found[:, -1]
        return area
    steps = (np.argmax(found * recalls >= step * found[:, -1:], axis=1) for step in range(recalls + 1))
    mean: Floats = np.mean([best[np.arange(len(best)), first] for first in steps], axis=0)
    return mean


def weighted_recall(scores: Floats, labels: Labels, weights: Floats) -> Floats:
    """Return mean class recalls (B,) in 0..1 of scores (n, K) of examples of one class each, by weights (B, n)."""
    classes = (labels > 0).argmax(1)
    right, order = scores.argmax(1) == classes, np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(labels.shape[1]))
    sums = (np.add.reduceat(part[:, order], starts, axis=1) for part in (weights * right, weights))
    recalls: Floats = np.divide(*sums).mean(1)
    return recalls


def _mean_of_classes(recalls: int | None) -> Weighted:
    def values(scores: Floats, labels: Labels, weights: Floats) -> Floats:
        columns = zip(scores.T, labels.T, strict=True)
        mean: Floats = np.mean([weighted_precision(*column, weights, recalls) for column in columns], axis=0)
        return mean

    return values


WEIGHTED: dict[str, Weighted] = {  # means over the classes (B,) of scores and labels (n, K) by weights (B, n)
    "ap11": _mean_of_classes(RECALLS),
    "ap": _mean_of_classes(None),
    "recall": weighted_recall,
}


def resampled_measures(splits: list[SplitScores], measure: str, times: int, seed: list[int]) -> dict[str, Floats]:
    """Return each method's measure (times,) in 0..1, the mean over the splits, on resampled images and splits.

    All methods and splits have the same weights of the images. Of S > 1 splits S - 1 are drawn with replacement, which
    gives the mean of few splits its right variance; drawing S would give (S - 1) / S of it.
    """
    parts = [_part(splits, measure, *weights) for weights in _weights(splits, times, seed)]
    return {method: np.concatenate([part[method] for part in parts]) for method in splits[0].scores}


def _weights(splits: list[SplitScores], times: int, seed: list[int]) -> Iterator[tuple[Floats, Floats]]:
    """Yield weights of images (b, images) and of splits (b, S), whose sum is 1, of parts of the resamples."""
    rng, images = np.random.default_rng(seed), 1 + max(int(split.images.max()) for split in splits)
    drawn = max(1, len(splits) - 1)
    for start in range(0, times, PART):
        count = min(PART, times - start)
        chosen = rng.multinomial(drawn, np.full(len(splits), 1 / len(splits)), count)
        yield rng.standard_exponential((count, images)), chosen / drawn


def _part(splits: list[SplitScores], measure: str, of_images: Floats, of_splits: Floats) -> dict[str, Floats]:
    """Return each method's measure (b,), by weights of images (b, images) and of splits (b, S)."""
    sums: dict[str, Floats] = {method: np.zeros(len(of_images)) for method in splits[0].scores}
    for split, share in zip(splits, of_splits.T, strict=True):
        weights = of_images[:, split.images]
        for method, scores in split.scores.items():
            sums[method] += share * WEIGHTED[measure](scores, split.labels, weights)
    return sums
