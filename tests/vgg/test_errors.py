"""Top-k error and its Wilson interval against a sort and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vgg.errors import Z, error, ranks, top_k, wilson


def by_sorting(posteriors: np.ndarray, labels: np.ndarray, k: int) -> int:
    """The images whose label is not among the first k classes, sorted by falling posterior and rising number."""
    missed = 0
    for row, label in zip(posteriors.tolist(), labels.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda place: (-row[place], place))
        missed += label not in ranked[:k]
    return missed


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_the_error_is_that_of_a_sort(levels: int, rng: np.random.Generator) -> None:
    for _ in range(20):
        images, classes = int(rng.integers(1, 60)), int(rng.integers(2, 12))
        posteriors = (rng.integers(0, levels, (images, classes)) / levels).astype(np.float32)  # few levels: many ties
        labels = rng.integers(0, classes, images)
        for k in range(1, classes + 1):
            expected = by_sorting(posteriors, labels, k)
            assert int((ranks(posteriors, labels) >= k).sum()) == expected, (images, classes, k)
            assert error(posteriors, labels, k)[3:] == (expected, images)
            assert error(posteriors, labels, k).error == pytest.approx(100 * expected / images, rel=1e-12)


def test_of_equal_posteriors_the_lower_class_comes_first() -> None:
    posteriors, labels = np.full((4, 4), 0.25, np.float32), np.arange(4)
    assert [int((ranks(posteriors, labels) >= k).sum()) for k in (1, 2, 3, 4)] == [3, 2, 1, 0]


def test_top_5_is_5_and_leaves_a_class_to_be_missed() -> None:
    assert [top_k(classes) for classes in (2, 3, 4, 5, 6, 7, 10, 1000)] == [1, 2, 3, 4, 5, 5, 5, 5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_posteriors_that_are_not_finite_are_refused(value: float, rng: np.random.Generator) -> None:
    posteriors, labels = rng.dirichlet([1] * 6, 9).astype(np.float32), rng.integers(0, 6, 9)
    ranks(posteriors, labels)
    posteriors[rng.integers(9), rng.integers(6)] = value
    with pytest.raises(ValueError, match="not finite"):
        ranks(posteriors, labels)


def test_the_interval_is_scipys(rng: np.random.Generator) -> None:
    cases = [(0, 1), (1, 1), (0, 50000), (50000, 50000), (1, 50000), (12345, 50000)]
    cases += [(int(rng.integers(0, images + 1)), images) for images in map(int, rng.integers(1, 3000, 40))]
    for missed, images in cases:
        got = wilson(missed, images)
        interval = stats.binomtest(missed, images).proportion_ci(0.95, method="wilson")
        # per cent; float64, two formulas of one value
        assert got.low == pytest.approx(100 * interval.low, rel=1e-9, abs=1e-9), (missed, images)
        assert got.high == pytest.approx(100 * interval.high, rel=1e-9, abs=1e-9), (missed, images)
        assert got.error == pytest.approx(100 * missed / images, rel=1e-12)
        assert (got.wrong, got.images) == (missed, images)


def test_the_interval_holds_the_rate_and_stays_within_0_and_100(rng: np.random.Generator) -> None:
    for images in (1, 2, 10, int(rng.integers(3, 10**6))):
        none, all_of_them = wilson(0, images), wilson(images, images)
        assert none.error == 0 and none.low == pytest.approx(0, abs=1e-9) and 0 < none.high < 100
        assert all_of_them.error == 100 and 0 < all_of_them.low < 100
        assert all_of_them.high == pytest.approx(100, abs=1e-9) and all_of_them.high <= 100 and none.low >= 0
        assert none.high == pytest.approx(100 - all_of_them.low, rel=1e-9)  # wrong and right exchanged


def test_z_leaves_two_and_a_half_per_cent_on_each_side() -> None:
    assert math.erfc(Z / math.sqrt(2)) == pytest.approx(0.05, rel=1e-12)


def test_no_images_have_no_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="at least one image"):
        error(np.empty((0, 5), np.float32), np.empty(0, np.int64), 1)
