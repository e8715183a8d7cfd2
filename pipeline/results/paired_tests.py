"""Paired tests of error rates on the same images: effect, interval, p-value, and the verdict on a claim (section 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import convolve
from scipy.stats import binom, t

from pipeline.experiment.claims import Kind
from vgg.judgement import LEVEL, Verdict

Pair = tuple[NDArray[Any], NDArray[Any]]  # worse and better (seeds, images), True where the image was wrong
POWER = 0.8  # of the smallest visible effect
EDGE = 1e-9  # nearest distance to a difference of 100 points, at which no test exists


class SeedVariance(NamedTuple):
    """How much an error rate varies from seed to seed, as variances of proportions."""

    total: float  # mean square from seed to seed
    residual: float  # the part of it that the sampling of images explains; the variance of the images has it, too
    degrees: float


class MarginTest(Protocol):
    """Tests of a mean difference against any other one; all values are proportions."""

    def above(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true mean is at most `difference`."""

    def below(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true mean is at least `difference`."""


@dataclass(frozen=True)
class ScoreTest:
    """Tango's score test of a mean paired difference, with the variance from seed to seed added to that of the images.

    All values are proportions. The variance of the images is computed under each hypothesis, so that few differing
    images do not make the interval too short.
    """

    gained: float  # mean of the positive differences
    lost: float  # mean of the negative differences, as a positive number
    images: float  # number of independent images that would give the same variance
    between: float = 0.0  # variance of the mean from seed to seed
    counted: float = 0.0  # the part of it that the variance of the images has, too
    degrees: float = inf

    @property
    def difference(self) -> float:
        """Return the mean difference."""
        return self.gained - self.lost

    def image_variance(self, difference: float) -> float:
        """Return the variance from the images if the true mean difference is `difference` (Tango 1998)."""
        linear = -self.gained - self.lost + (2 - self.difference) * difference
        constant = -self.lost * difference * (1 - difference)
        lost = (sqrt(max(0.0, linear * linear - 8 * constant)) - linear) / 4
        return max(0.0, 2 * lost + difference * (1 - difference)) / self.images

    def variance(self, images: float) -> float:
        """Return the variance of the mean from that of the `images`: residuals, which seeds have, too, count once."""
        return max(0.0, images - self.counted) + self.between

    def statistic(self, difference: float) -> float:
        """Return the number of standard errors between the mean difference and `difference`."""
        distance = self.difference - difference
        error = sqrt(self.variance(self.image_variance(difference)))
        return distance / error if error else float(np.sign(distance)) * inf if distance else 0.0

    def above(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true mean is at most `difference`."""
        return float(t.sf(self.statistic(difference), self.degrees))

    def below(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true mean is at least `difference`."""
        return float(t.cdf(self.statistic(difference), self.degrees))

    def interval(self) -> tuple[float, float]:
        """Return the differences that a two-sided test at LEVEL does not reject: lowest and highest."""
        bound = float(t.ppf(1 - LEVEL / 2, self.degrees))
        low = self._root(lambda difference: self.statistic(difference) - bound, -1 + EDGE)
        return low, self._root(lambda difference: self.statistic(difference) + bound, 1 - EDGE)

    def _root(self, function: Any, edge: float) -> float:
        """Return the root between the mean difference and `edge`; `edge` if there is none."""
        middle = min(max(self.difference, -1 + EDGE), 1 - EDGE)
        if middle == edge or function(middle) * function(edge) >= 0:
            return float(np.sign(edge))
        return float(brentq(function, middle, edge, xtol=1e-12))


@dataclass(frozen=True)
class Comparison:
    """The difference of two error rates on the same images, worse - better, in percentage points.

    Of other data sets it is that of their measures, better - worse. With several pairs it is the mean over the pairs,
    and in each pair the mean over its seeds.
    """

    effect: float
    standard_error: float
    low: float  # 95 % interval
    high: float
    p: float  # two-sided, of the hypothesis of no effect
    smallest_visible: float  # effect found with a power of 80 %
    gained: int | None  # images that only the worse side got wrong, counted over all pairs and seeds; None of measures
    lost: int | None  # images that only the better side got wrong, counted likewise
    images: int
    groups: int
    seeds: tuple[int, ...]  # of each pair
    counts: Literal["images only", "images and seeds", "images and splits"]  # sources of the variance
    degrees: float | None  # of Student's t; None: normal
    test: MarginTest

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        return len(self.seeds)


def compare(pairs: Sequence[Pair], groups: NDArray[Any] | None = None, seeds: SeedVariance | None = None) -> Comparison:
    """Compare the worse with the better side of each pair of bool arrays (seeds, images), True for a wrong image.

    All pairs have the same images; both sides of a pair have the same seeds. Images of the same number in `groups`
    (images,) are not independent of each other. `seeds` is the variance from seed to seed; without it, it is
    estimated from the pairs that have several seeds. Raise ValueError if shapes do not match.
    """
    cells = _differences(pairs)
    sizes, sums = _group_sums(np.stack([cell.mean(0) for cell in cells]).mean(0), groups)
    if seeds is None and any(len(cell) > 1 for cell in cells):
        seeds = pooled([seed_variance(pair, groups) for pair in pairs if len(pair[0]) > 1])
    test = _score_test(sums, sizes, _smallest_step(cells), seeds, _contrast(pairs) if seeds else 0.0)
    low, high = test.interval()
    error = sqrt(test.variance(_cluster_variance(sums, sizes)))
    return Comparison(
        effect=100 * test.difference, standard_error=100 * error, low=100 * low, high=100 * high,
        p=min(1.0, 2 * min(test.above(0), test.below(0))) if seeds else _flipped(cells, groups),
        smallest_visible=100 * _smallest_visible(test, error),
        gained=sum(int((cell > 0).sum()) for cell in cells), lost=sum(int((cell < 0).sum()) for cell in cells),
        images=int(sizes.sum()), groups=len(sizes), seeds=tuple(len(cell) for cell in cells),
        counts="images and seeds" if seeds else "images only",
        degrees=test.degrees if seeds else None, test=test,
    )  # fmt: skip


def _differences(pairs: Sequence[Pair]) -> list[NDArray[np.int8]]:
    """Return each pair's differences (seeds, images): 1, 0 or -1. Raise ValueError for shapes that do not match."""
    shapes = {np.shape(side)[1:] for pair in pairs for side in pair}
    if len(shapes) != 1 or len(*shapes) != 1 or not all(np.size(worse) for worse, _ in pairs):
        raise ValueError("a comparison needs at least one pair of arrays (seeds, images) of the same images")
    if any(np.shape(worse) != np.shape(better) for worse, better in pairs):
        raise ValueError("both sides of a pair need the same seeds")
    return [np.asarray(worse, bool).astype(np.int8) - np.asarray(better, bool) for worse, better in pairs]


def _group_sums(values: NDArray[Any], groups: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of images of each group (G,) and the groups' sums of `values` (..., images): (..., G)."""
    if groups is None:
        return np.ones(values.shape[-1]), values
    if np.shape(groups) != values.shape[-1:]:
        raise ValueError(f"groups need the shape {values.shape[-1:]} of the images, not {np.shape(groups)}")
    sizes = np.unique_counts(groups).counts
    order, starts = np.argsort(groups, kind="stable"), np.r_[0, sizes.cumsum()[:-1]]
    return sizes, np.add.reduceat(values[..., order], starts, axis=-1)


def _cluster_variance(sums: NDArray[Any], sizes: NDArray[Any]) -> float:
    """Return the variance of the mean over all images from the groups' sums (..., G), added over leading axes."""
    number, images = len(sizes), sizes.sum()
    if number == 1:
        return 0.0
    deviations = sums - sizes * (sums.sum(-1, keepdims=True) / images)
    return float((deviations**2).sum() / images**2 * number / (number - 1))


def _smallest_step(cells: Sequence[NDArray[Any]]) -> float:
    """Return the effect of one image that one pair and one seed decide differently, times the number of images."""
    return 1 / (len(cells) * max(len(cell) for cell in cells))


def _score_test(
    sums: NDArray[Any], sizes: NDArray[Any], step: float, seeds: SeedVariance | None, contrast: float
) -> ScoreTest:
    """Return the test of the groups' sums (G,), with the number of single images that would vary as much.

    Without a difference, and with one group, a group counts as one image.
    """
    total, number = float(sizes.sum()), len(sizes)
    gained, lost = float(sums.clip(0).sum()) / total, float((-sums).clip(0).sum()) / total
    variance, of_one = _cluster_variance(sums, sizes), gained + lost - (gained - lost) ** 2
    images = float(number)
    if number > 1 and gained + lost > EDGE / total and of_one > 0:
        images = of_one / max(variance * (number - 1) / number, of_one * step / total)
    if seeds is None:
        return ScoreTest(gained, lost, images)
    test = ScoreTest(gained, lost, images, contrast * seeds.total, contrast * seeds.residual)
    return replace(test, degrees=_degrees(test, variance, seeds.degrees, number - 1))


def _degrees(test: ScoreTest, variance: float, seeds: float, groups: int) -> float:
    """Return Satterthwaite's degrees of freedom of the whole variance from those of the seeds and of the groups.

    The spread of the seeds' mean square is raised by the factor 1 + 2 / degrees: where few seeds happen to be alike,
    the degrees would otherwise be too many, and intervals that should cover 95 % would cover 92 %.
    """
    spread = test.between**2 * (seeds + 2) / seeds**2 + variance**2 / max(1, groups)
    return max(test.variance(variance) ** 2 / spread if spread > EDGE**4 else inf, min(seeds, groups), 1.0)


def _contrast(pairs: Sequence[Pair]) -> float:
    """Return the sum of the squared weights that the effect gives to its runs, one by one.

    A run is identified by its outcomes, so that a run of several pairs counts once, with the sum of its weights.
    """
    weights = defaultdict[tuple[int, bytes], float](float)
    for pair in pairs:
        for sign, side in zip((1, -1), pair, strict=True):
            for seed, outcome in enumerate(np.asarray(side, bool)):
                weights[seed, np.packbits(outcome).tobytes()] += sign / (len(pairs) * len(side))
    return sum(weight**2 for weight in weights.values())


def seed_variance(runs: Sequence[NDArray[Any]], groups: NDArray[Any] | None = None) -> SeedVariance:
    """Return the variance of an error rate from seed to seed, pooled over at least two runs (seeds, images).

    What a seed changes alike in all runs cancels in their differences, so it is removed: the variance is that of the
    interaction of run and seed, with (runs - 1) x (seeds - 1) degrees of freedom. `groups` are those of `compare`.
    Raise ValueError if no two runs have two seeds in common.
    """
    outcomes = np.concatenate([np.asarray(run, bool) for run in runs]).astype(float)  # (C, images)
    run_of = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    seed_of = np.concatenate([np.arange(len(run)) for run in runs])
    design = np.concatenate([np.eye(len(runs))[run_of], np.eye(seed_of.max() + 1)[seed_of]], 1)
    degrees = float(len(outcomes) - np.linalg.matrix_rank(design))
    if not degrees:
        raise ValueError("the variance from seed to seed needs at least two runs with two seeds each")
    interaction = outcomes - design @ (np.linalg.pinv(design) @ outcomes)
    sizes, sums = _group_sums(interaction, groups)
    total = float((interaction.mean(1) ** 2).sum() / degrees)
    return SeedVariance(total, _cluster_variance(sums, sizes) / degrees, degrees)


def pooled(variances: Sequence[SeedVariance]) -> SeedVariance:
    """Return the mean of independent estimates of one variance, weighted by their degrees of freedom."""
    degrees = sum(variance.degrees for variance in variances)
    total = sum(variance.total * variance.degrees for variance in variances) / degrees
    return SeedVariance(total, sum(variance.residual * variance.degrees for variance in variances) / degrees, degrees)


def _flipped(cells: Sequence[NDArray[Any]], groups: NDArray[Any] | None) -> float:
    """Return the exact two-sided p of the sum of the groups' differences if each may have either sign."""
    _, sums = _group_sums(np.stack([cell[0].astype(np.int64) for cell in cells]).sum(0), groups)
    distances, counts = np.unique_counts(abs(sums[sums != 0]))
    chances = np.ones(1)  # of 0, 1, ... images with a positive difference
    for distance, count in zip(distances.tolist(), counts.tolist(), strict=True):
        step = np.zeros(distance * count + 1)
        step[::distance] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = convolve(chances, step).clip(0)  # of many images by FFT, exact to 1e-15
    totals = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[abs(totals) >= abs(sums.sum())].sum()))


def _smallest_visible(test: ScoreTest, error: float) -> float:
    """Return the effect that is found with a probability of POWER if as many images differ as here.

    At least as many must differ as the effect has; this bounds the effect from below where hardly any image differs.
    """
    quantiles = float(t.ppf(1 - LEVEL / 2, test.degrees) + t.ppf(POWER, test.degrees))
    return min(1.0, max(quantiles * error, quantiles**2 / test.images))


def verdict(kind: Kind, comparison: Comparison, margin: float, p: float | None = None) -> Verdict:
    """Return whether the comparison supports or contradicts a claim of this kind; `margin` is in points.

    `p` replaces the p-value of `verdict_p`, to adjust it for other tests (`holm`).
    """
    for_it, against = _sides(kind, comparison, margin)
    if (min(for_it, against) if p is None else p) > LEVEL:
        return Verdict.UNDECIDED
    return Verdict.SUPPORTED if for_it < against else Verdict.CONTRADICTED


def verdict_p(kind: Kind, comparison: Comparison, margin: float) -> float:
    """Return the two-sided p-value that the verdict rests on; it is decided if this is at most LEVEL."""
    return min(1.0, *_sides(kind, comparison, margin))


def _sides(kind: Kind, comparison: Comparison, margin: float) -> tuple[float, float]:
    """Return the two-sided p of the evidence for a claim and of that against it."""
    test, limit = comparison.test, margin / 100
    if kind == "better":
        return (comparison.p, inf) if comparison.effect > 0 else (inf, comparison.p)
    if kind == "no better":
        return 2 * test.below(limit), 2 * test.above(limit)
    within = max(test.below(limit), test.above(-limit))
    return 2 * within, 2 * min(test.above(limit), test.below(-limit))


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm's method, in the same order."""
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(scaled).clip(None, 1)
    return [float(value) for value in adjusted]
