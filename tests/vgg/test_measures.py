"""The measures of appendix B against cases by hand and the development kits' own loops."""

from __future__ import annotations

import numpy as np
import pytest

from vgg.measures import BY_CLASS, average_precision, average_precision_11, class_recalls

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
LABELS = np.array([1, -1, 1, -1, 1], np.int8)  # precisions at the positives: 1, 2/3, 3/5


def kit_2007(scores: np.ndarray, labels: np.ndarray) -> float:
    """VOCevalcls.m of 2007, line by line, its recalls as exact tenths."""
    order = np.argsort(-scores, kind="stable")
    tp, fp = np.cumsum(labels[order] > 0), np.cumsum(labels[order] < 0)
    with np.errstate(invalid="ignore"):
        precision = tp / (tp + fp)
    total = 0.0
    for tenth in range(11):
        reached = precision[tp * 10 >= tenth * tp[-1]]
        total += np.nanmax(reached) / 11
    return total


def kit_2010(scores: np.ndarray, labels: np.ndarray) -> float:
    """VOCap.m of 2010 and later, line by line."""
    order = np.argsort(-scores, kind="stable")
    order = order[labels[order] != 0]
    tp, fp = np.cumsum(labels[order] > 0), np.cumsum(labels[order] < 0)
    recall = np.concatenate([[0], tp / tp[-1], [1]])
    precision = np.concatenate([[0], tp / (tp + fp), [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    i = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[i] - recall[i - 1]) * precision[i]).sum())


def test_a_case_by_hand() -> None:
    """Recalls up to 1/3 have precision 1, up to 2/3 have 2/3, the rest 3/5: 4, 3 and 4 of the 11 recalls."""
    assert average_precision_11(SCORES, LABELS) == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11)
    assert average_precision(SCORES, LABELS) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_a_later_higher_precision_counts_for_lower_recalls() -> None:
    labels = np.array([-1, 1, 1, 1], np.int8)
    assert average_precision_11(SCORES[:4], labels) == pytest.approx(3 / 4)
    assert average_precision(SCORES[:4], labels) == pytest.approx(3 / 4)


def test_difficult_examples_neither_help_nor_harm() -> None:
    scores, labels = np.array([1.0, *SCORES]), np.array([0, *LABELS], np.int8)
    assert average_precision_11(scores, labels) == average_precision_11(SCORES, LABELS)
    assert average_precision(scores, labels) == average_precision(SCORES, LABELS)


def test_equal_scores_keep_the_lists_order() -> None:
    first = average_precision(np.zeros(2), np.array([1, -1], np.int8))
    assert (first, average_precision(np.zeros(2), np.array([-1, 1], np.int8))) == (1, 0.5)


def test_a_recall_of_exactly_three_tenths_is_reached() -> None:
    """Three of ten positives come first: recalls 0 to 0.3 have precision 1, in floats 0.3 < 3 * 0.1."""
    labels = np.array([1] * 3 + [-1] * 20 + [1] * 7, np.int8)
    assert average_precision_11(-np.arange(30.0), labels) == pytest.approx((4 * 1 + 7 * 10 / 30) / 11)


def test_random_lists_have_the_kits_measures(rng: np.random.Generator) -> None:
    for _ in range(50):
        labels = rng.integers(-1, 2, 40).astype(np.int8)
        labels[0] = 1
        scores = rng.integers(0, 15, 40) / 15  # with ties
        assert average_precision_11(scores, labels) == pytest.approx(kit_2007(scores, labels))
        assert average_precision(scores, labels) == pytest.approx(kit_2010(scores, labels))


def test_recall_is_of_each_class_not_of_all_examples() -> None:
    labels = 2 * np.eye(2, dtype=np.int8)[[0, 0, 0, 1]] - 1
    scores = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], float)
    assert class_recalls(scores, labels).tolist() == [2 / 3, 1]
    assert BY_CLASS["recall"](scores, labels).mean() == pytest.approx(5 / 6)


def test_a_class_without_examples_has_no_measure() -> None:
    with pytest.raises(ValueError, match="no example is positive"):
        average_precision(SCORES, -np.ones(5, np.int8))
    with pytest.raises(ValueError, match="class 1 has no example"):
        class_recalls(np.ones((1, 2)), np.array([[1, -1]], np.int8))
