"""Divisions of examples, SVMs on them, and the choice of C."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from vgg.measures import BY_CLASS
from vgg.splits import Division, held_out_division, random_division
from vgg.svm import ITERATIONS, TOLERANCE, Job, bytes_of_one, chosen, one_by_one, rotated

CLASSES = np.repeat(np.arange(3), 20)


def test_a_random_division_has_so_many_of_each_class_and_shares_none() -> None:
    division = random_division(CLASSES, 7, 0, 10, 5, 0.2)
    assert [np.bincount(CLASSES[part]).tolist() for part in division] == [[8] * 3, [2] * 3, [5] * 3]
    assert len(np.unique(np.concatenate(division))) == 45
    assert len(random_division(CLASSES, 7, 0, 10, None, 0.2).test) == 30


def test_a_class_is_drawn_from_seed_split_and_class_alone() -> None:
    """The classes after it, and how many images they have, do not matter."""
    more = np.concatenate([CLASSES, np.full(40, 3)])
    few, many = random_division(CLASSES, 7, 1, 10, 5, 0.2), random_division(more, 7, 1, 10, 5, 0.2)
    assert many.fit[many.fit < 60].tolist() == few.fit.tolist()
    for seed, number in ((8, 1), (7, 2)):
        assert random_division(CLASSES, seed, number, 10, 5, 0.2).fit.tolist() != few.fit.tolist()


def test_a_class_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match="class 0 has only 20 examples"):
        random_division(CLASSES, 7, 0, 20, 5, 0.2)


def test_a_fifth_of_each_class_is_held_out() -> None:
    train = np.arange(60) % 2 == 0
    division = held_out_division(CLASSES, train, ~train, 7, 0.2)
    assert np.bincount(CLASSES[division.tune]).tolist() == [2] * 3
    assert division.train.tolist() == np.flatnonzero(train).tolist()
    assert division.test.tolist() == np.flatnonzero(~train).tolist()


def separable(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1 and labels of two classes that the sign of the first number tells apart."""
    rows = rng.normal(size=(n, 4))
    rows[:, 0] += np.where(rows[:, 0] > 0, 1, -1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    right = np.where(rows[:, 0] > 0, 1, -1)
    return rows, np.stack([right, -right], 1).astype(np.int8)


def mixed(rng: np.random.Generator, n: int = 90, numbers: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1, more numbers than rows, and labels of three classes that overlap; some examples are neither."""
    classes = np.arange(n) % 3
    rows = rng.normal(size=(n, numbers)) + 0.7 * rng.normal(size=(3, numbers))[classes]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = np.where(classes[:, None] == np.arange(3), 1, -1).astype(np.int8)
    labels[:4, 1] = 0
    return rows, labels


def slow_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, cost: float, tolerance: float = TOLERANCE
) -> np.ndarray:
    """The scores by scikit-learn on the numbers themselves, class by class."""
    scores = []
    for column in labels.T:
        svm = LinearSVC(C=cost, dual=False, tol=tolerance, max_iter=ITERATIONS, random_state=0)
        scores.append(svm.fit(train[column != 0], column[column != 0]).decision_function(test))
    return np.stack(scores, 1)


DIVISION = Division(np.arange(0, 45), np.arange(45, 60), np.arange(60, 90))


def test_difficult_examples_are_not_trained_on(rng: np.random.Generator) -> None:
    rows, labels = separable(rng)
    marked = labels.copy()
    marked[:10] = 0
    marked[0] = labels[0]
    kept = np.r_[0, 10:60]
    ((_, expected),) = one_by_one(rows[kept], labels[kept], [Job(1.0, 0)], 0)
    ((_, found),) = one_by_one(rows, marked, [Job(1.0, 0)], 0)
    assert np.allclose(found.weights, expected.weights) and found.iterations > 0


def test_the_first_best_c_is_chosen_on_the_examples_to_tune_and_both_parts_are_trained_on(
    rng: np.random.Generator,
) -> None:
    rows, labels = separable(rng)
    parts = Division(np.arange(30), np.arange(30, 40), np.arange(40, 60))
    found = chosen(rows, labels, parts, [1.0, 10.0, 100.0], BY_CLASS["ap"], 0)
    assert found.tuning == {1.0: 1, 10.0: 1, 100.0: 1} and found.cost == 1.0
    assert np.allclose(found.fit.scores, slow_scores(rows[:40], labels[:40], rows[40:], 1.0), atol=1e-12)


@pytest.mark.parametrize(("tolerance", "apart"), [(TOLERANCE, 2e-2), (1e-9, 1e-6)])
@pytest.mark.parametrize("cost", [1.0, 100.0])
def test_with_fewer_examples_than_numbers_the_rotation_changes_no_score(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, cost: float, tolerance: float, apart: float
) -> None:
    """The problem is the same, so that scores agree up to the solver's tolerance, and with a smaller one much closer.

    LIBLINEAR's preconditioner is the diagonal, which depends on the coordinates: it stops elsewhere, equally near.
    """
    rows, labels = mixed(rng)
    monkeypatch.setattr("vgg.svm.TOLERANCE", tolerance)
    found = chosen(rows, labels, DIVISION, [cost], BY_CLASS["ap"], 0).fit.scores
    expected = slow_scores(rows[:60].astype(float), labels[:60], rows[60:].astype(float), cost, tolerance)
    assert np.abs(found - expected).max() < apart * np.abs(expected).max()


def test_a_rotation_keeps_all_products_and_turns_weights_back(rng: np.random.Generator) -> None:
    rows, _ = mixed(rng)
    rows[7] = rows[3]  # so that the rank is smaller
    turned = rotated(rows[:60])
    assert turned.rows.shape == (60, 60) and turned.rows.flags.c_contiguous
    assert np.array_equal(turned.rows, np.tril(turned.rows)), "half of the numbers need no memory in LIBLINEAR"
    exact = rows.astype(float)
    assert np.allclose(turned.rows @ turned.rows.T, exact[:60] @ exact[:60].T, atol=1e-14)
    weights = rng.normal(size=(3, 60))
    assert np.allclose(exact[:60] @ turned.back(weights).T, turned.rows @ weights.T, atol=1e-12)
    few = rotated(rows[:, :50])
    assert np.array_equal(few.rows, exact[:, :50]) and few.back(weights) is weights


def test_the_memory_of_an_svm_counts_what_liblinear_keeps(rng: np.random.Generator) -> None:
    rows, labels = mixed(rng)
    whole, half = rows.astype(float), rotated(rows).rows
    assert bytes_of_one(whole, np.ones_like(labels)) == 16 * (90 * 200 + 180)
    assert bytes_of_one(half, np.ones_like(labels)) == 16 * (90 * 91 // 2 + 180)
    assert bytes_of_one(half, labels) - bytes_of_one(half, np.ones_like(labels)) == 8 * 90 * 90, "a copy of the used"


def test_svms_that_do_not_converge_are_reported_by_c(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = separable(rng)
    parts = Division(np.arange(30), np.arange(30, 40), np.arange(40, 60))
    found = chosen(rows, labels, parts, [1.0, 100.0], BY_CLASS["ap"], 0)
    assert found.unconverged == {} and found.fit.iterations.min() >= 1
    monkeypatch.setattr("vgg.svm.ITERATIONS", 1)
    found = chosen(rows, labels, parts, [1.0, 100.0], BY_CLASS["ap"], 0)
    assert found.unconverged == {1.0: [0, 1], 100.0: [0, 1]}
