"""Top-k error and its uncertainty, in per cent (section 4)."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOGETHER = 4096  # images whose classes are sorted at a time
Z = 1.959963984540054  # two-sided 95 % of a normal


class Error(NamedTuple):
    """An error rate in per cent with its 95 % Wilson interval."""

    error: float
    low: float
    high: float
    wrong: int
    images: int


def top_k(classes: int) -> int:
    """Return the k of "top-5" for this number of classes: at most 5, and always below the number of classes."""
    return min(5, classes - 1)


def ranks(posteriors: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each image's label among its classes, (N,): 0 if it is the likeliest class.

    `posteriors` is (N, K), `labels` (N,). Of equally likely classes the lower number comes first. Raise
    ValueError if a posterior is not finite.
    """
    if not np.isfinite(posteriors).all():
        raise ValueError("posteriors that are not finite cannot be ranked")
    of_label = np.take_along_axis(posteriors, labels[:, None], 1)  # (N, 1)
    classes = np.arange(posteriors.shape[1])
    ahead = (posteriors > of_label) | ((posteriors == of_label) & (classes < labels[:, None]))  # (N, K)
    return np.asarray(ahead.sum(1))


def likeliest(posteriors: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the `count` likeliest classes (images, count) by posteriors (images, K), the likeliest first.

    Of equally likely classes the lower number comes first. Some images at a time are sorted, to bound the memory.
    """
    parts = np.split(posteriors, range(TOGETHER, len(posteriors), TOGETHER))
    return np.concatenate([np.argsort(-part, 1, kind="stable")[:, :count] for part in parts])


def error(posteriors: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> Error:
    """Return the top-k error of posteriors (N, K) against labels (N,), with its interval."""
    return error_of(ranks(posteriors, labels), k)


def error_of(ranks: NDArray[np.integer], k: int) -> Error:
    """Return the top-k error of images whose labels have these ranks (N,), with its interval."""
    return wilson(int((ranks >= k).sum()), len(ranks))


def error_of_rate(rate: float, images: int) -> Error:
    """Return an error rate in per cent, of so many images, with its interval."""
    return wilson(round(rate * images / 100), images)


def wilson(wrong: int, images: int) -> Error:
    """Return the 95 % Wilson score interval of `wrong` out of `images`. Raise ValueError if there are no images."""
    if images < 1:
        raise ValueError("an error rate needs at least one image")
    rate, square = wrong / images, Z * Z
    middle = (rate + square / (2 * images)) / (1 + square / images)
    half = Z / (1 + square / images) * sqrt(rate * (1 - rate) / images + square / (4 * images * images))
    return Error(100 * rate, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half), wrong, images)
