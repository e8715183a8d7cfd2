"""Verdicts, and a measured error judged against a printed one, of the same images: the equivalence test of cells."""

from __future__ import annotations

from enum import StrEnum
from math import sqrt
from typing import NamedTuple

from vgg.errors import Z

LEVEL = 0.05  # of every two-sided test; intervals cover 1 - LEVEL
POPULATION = 50_000  # section 4: the images of ILSVRC-2012's validation set, of which all printed errors are


class Verdict(StrEnum):
    """Every verdict: on a claim, on a cell of a table, on a published net's error."""

    SUPPORTED = "supported"  # of claims
    CONTRADICTED = "contradicted"
    REPRODUCED = "reproduced"  # of cells
    BETTER = "better"
    WORSE = "worse"
    NOT_COMPARABLE = "not comparable"
    AGREES = "agrees"  # of published nets
    DIFFERS = "DIFFERS"
    UNDECIDED = "undecided"  # of all
    NOT_RUN = "not run"


class Judgement(NamedTuple):
    """The difference of a measured error and a printed one, in percentage points, with its 95 % interval."""

    verdict: Verdict
    difference: float  # measured - printed
    low: float
    high: float


def judge(
    error: float, images: int, printed: float, *, tolerance: float, share: float, rounding: float = 0.05,
    population: int = POPULATION,
) -> Judgement:  # fmt: skip
    """Judge the error of `images` of the `population` images against the printed error of all of them.

    Errors, `tolerance` and `rounding`, half a unit of the printed number's last digit, are in per cent and points.
    The error is reproduced if the interval lies within the tolerance, better or worse if it lies outside.
    """
    difference = error - printed
    share = max(share, abs(difference) / 100)  # at least as many images are decided differently
    half = Z * standard_error(images, printed, share=share, rounding=rounding, population=population)
    low, high = difference - half, difference + half
    if -tolerance < low and high < tolerance:
        return Judgement(Verdict.REPRODUCED, difference, low, high)
    outside = Verdict.WORSE if low > tolerance else Verdict.BETTER if high < -tolerance else Verdict.UNDECIDED
    return Judgement(outside, difference, low, high)


def standard_error(
    images: int, printed: float, *, share: float, rounding: float = 0.05, population: int = POPULATION
) -> float:
    """Return the standard error, in points, of the difference of a measured error and a printed one.

    Both are of the same images, so only the `share` of images that the two nets decide differently is random. It
    grows if the error is of a random part of the images, and by the printed number's rounding. Raise ValueError if
    there are no images.
    """
    if images < 1:
        raise ValueError("an error can only be judged if it is of at least one image")
    rate, rest = printed / 100, max(0.0, 1 - images / population)  # rest: finite population correction
    variance = (share + rate * (1 - rate) * rest) / images
    return sqrt(10_000 * variance + rounding**2 / 3)  # rounding is uniform
