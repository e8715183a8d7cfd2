"""Weighted measures against repeated examples, and resamples against a slow bootstrap of its own."""

from __future__ import annotations

import numpy as np
import pytest

from vgg.draws import Floats
from vgg.measures import BY_CLASS
from vgg.resampling import WEIGHTED, Labels, SplitScores, resampled_measures

Case = tuple[Floats, Labels]


def many_labels(rng: np.random.Generator, count: int) -> Case:
    """Return scores (n, 4) and labels of which an example may have several, or be neither; every class has some."""
    labels = rng.choice(np.array([1, 0, -1], np.int8), (count, 4), p=[0.2, 0.1, 0.7])
    labels[:4] = np.where(np.eye(4) > 0, 1, -1)
    return (labels > 0) + rng.normal(0, 1, labels.shape), labels


def one_class(rng: np.random.Generator, count: int) -> Case:
    """Return scores (n, 4) and labels of one class each."""
    labels = np.where(np.eye(4)[np.arange(count) % 4] > 0, 1, -1).astype(np.int8)
    return (labels > 0) + rng.normal(0, 0.6, labels.shape), labels


def cases(rng: np.random.Generator, measure: str, count: int) -> Case:
    """Return scores and labels that a measure can be of."""
    return one_class(rng, count) if measure == "recall" else many_labels(rng, count)


@pytest.mark.parametrize("measure", WEIGHTED)
def test_weights_of_one_give_the_measure_itself(measure: str, rng: np.random.Generator) -> None:
    scores, labels = cases(rng, measure, 60)
    (found,) = WEIGHTED[measure](scores, labels, np.ones((1, 60)))
    assert found == pytest.approx(BY_CLASS[measure](scores, labels).mean(), abs=1e-12)


@pytest.mark.parametrize("measure", WEIGHTED)
def test_whole_weights_count_an_example_so_many_times(measure: str, rng: np.random.Generator) -> None:
    scores, labels = cases(rng, measure, 40)
    weights = rng.integers(1, 5, (7, 40))
    found = WEIGHTED[measure](scores, labels, weights.astype(float))
    for value, times in zip(found, weights, strict=True):
        repeated = [np.repeat(part, times, axis=0) for part in (scores, labels)]
        assert value == pytest.approx(BY_CLASS[measure](*repeated).mean(), abs=1e-12)


def test_equal_scores_keep_the_lists_order() -> None:
    labels = np.array([[-1], [1], [1]], np.int8)
    (found,) = WEIGHTED["ap"](np.zeros((3, 1)), labels, np.ones((1, 3)))
    assert found == pytest.approx(2 / 3)


@pytest.mark.parametrize("measure", WEIGHTED)
def test_the_interval_is_that_of_a_slow_bootstrap(measure: str, rng: np.random.Generator) -> None:
    """The slow one repeats examples instead of weighting them, one resample and one class at a time."""
    first, labels = cases(rng, measure, 240)
    second = first + rng.normal(0, 0.8, first.shape)
    split = SplitScores(np.arange(240), labels, {"first": first, "second": second})
    fast = resampled_measures([split], measure, 2000, [1])
    slow = []
    for _ in range(1000):
        drawn = rng.integers(0, 240, 240)
        slow.append([BY_CLASS[measure](scores[drawn], labels[drawn]).mean() for scores in (first, second)])
    differences = np.array(slow)[:, 0] - np.array(slow)[:, 1]
    found = np.quantile(fast["first"] - fast["second"], (0.025, 0.975))
    wanted = np.quantile(differences, (0.025, 0.975))
    assert found == pytest.approx(wanted, abs=0.12 * (wanted[1] - wanted[0]))


def test_objects_of_one_image_share_its_weight(rng: np.random.Generator) -> None:
    """Ten copies of each object in its image are no more evidence than one."""
    scores, labels = many_labels(rng, 100)
    alone = resampled_measures([SplitScores(np.arange(100), labels, {"one": scores})], "ap", 300, [1])
    copies = [np.repeat(part, 10, axis=0) for part in (np.arange(100), labels, scores)]
    tenfold = resampled_measures([SplitScores(copies[0], copies[1], {"one": copies[2]})], "ap", 300, [1])
    assert tenfold["one"] == pytest.approx(alone["one"])


def test_splits_are_resampled_with_the_variance_of_their_mean() -> None:
    """Splits whose one example of the first class is right, right and wrong differ by themselves alone."""
    labels = np.array([[1, -1], [-1, 1]], np.int8)
    first = ([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    splits = [SplitScores(np.arange(2), labels, {"one": np.array([row, [0.0, 1.0]])}) for row in first]
    values = resampled_measures(splits, "recall", 20_000, [1])["one"]
    each = np.array([1.0, 1.0, 0.5])
    assert values.mean() == pytest.approx(each.mean(), abs=0.01)
    assert values.var() == pytest.approx(each.var(ddof=1) / 3, rel=0.05)


def test_all_methods_have_the_same_resamples_whatever_the_number_of_parts(rng: np.random.Generator) -> None:
    scores, labels = one_class(rng, 30)
    splits = [SplitScores(np.arange(30), labels, {"one": scores, "same": scores.copy()})] * 3
    values = resampled_measures(splits, "recall", 250, [2, 3])
    assert np.array_equal(values["one"], values["same"]) and len(values["one"]) == 250
    assert np.array_equal(resampled_measures(splits, "recall", 250, [2, 3])["one"], values["one"])
