"""The measures of appendix B: PASCAL VOC's two kinds of average precision, and mean class recall."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vgg.draws import Floats, Ints

RECALLS = 10  # VOC-2007's recalls are 0, 0.1 .. 1


def _curve(scores: Floats, labels: NDArray[np.int8]) -> tuple[Ints, Floats, int]:
    """Return how many positives are among the first 1, 2 ... examples, their precisions, and the number of positives.

    Examples of label 0 are passed over. Equal scores keep their order, as in the development kit. Raise ValueError if
    no example is positive.
    """
    ranked = labels[np.argsort(-scores, kind="stable")]
    there = ranked[ranked != 0] > 0
    if not there.any():
        raise ValueError("no example is positive")
    found = np.cumsum(there)
    return found, found / np.arange(1, len(found) + 1), int(found[-1])


def average_precision_11(scores: Floats, labels: NDArray[np.int8]) -> float:
    """Return VOC-2007's average precision (0..1) of scores (n,) for labels (n,), which are 1, 0 or -1.

    It is the mean over 11 recalls of the best precision at this recall or above. Recalls are compared as whole numbers,
    because the kit's 0:0.1:1 has rounding errors. Raise ValueError as `_curve`.
    """
    found, precision, positives = _curve(scores, labels)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this many examples or more
    first = [int(np.argmax(found * RECALLS >= step * positives)) for step in range(RECALLS + 1)]
    return float(best[first].mean())


def average_precision(scores: Floats, labels: NDArray[np.int8]) -> float:
    """Return VOC's average precision (0..1) from 2010 on: the area under the precision, made falling.

    Raise ValueError as `_curve`.
    """
    found, precision, positives = _curve(scores, labels)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(found, prepend=0)  # 1 where recall rises
    return float((best * steps).sum() / positives)


def class_recalls(scores: Floats, labels: NDArray[np.int8]) -> Floats:
    """Return each class's share (K,) of examples whose largest score, of scores (n, K), is their only class's.

    The first of equal scores counts. Raise ValueError if a class has no example.
    """
    right = labels[np.arange(len(labels)), scores.argmax(1)] > 0
    counts = (labels > 0).sum(0)
    if not counts.all():
        raise ValueError(f"class {int(np.argmin(counts))} has no example")
    recalls: Floats = (labels[right] > 0).sum(0) / counts
    return recalls


def _of_each_class(measure: Callable[[Floats, NDArray[np.int8]], float]) -> Callable[..., Floats]:
    def values(scores: Floats, labels: NDArray[np.int8]) -> Floats:
        return np.array([measure(*columns) for columns in zip(scores.T, labels.T, strict=True)])

    return values


BY_CLASS: dict[str, Callable[[Floats, NDArray[np.int8]], Floats]] = {  # values (K,) of scores and labels (n, K)
    "ap11": _of_each_class(average_precision_11),
    "ap": _of_each_class(average_precision),
    "recall": class_recalls,
}
