"""Divisions of examples, SVMs on them, and the choice of C."""

from __future__ import annotations

import numpy as np
import pytest

from vgg.measures import BY_CLASS
from vgg.splits import Division, held_out_division, random_division
from vgg.svm import chosen, fitted

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


def test_difficult_examples_are_not_trained_on(rng: np.random.Generator) -> None:
    rows, labels = separable(rng)
    marked = labels.copy()
    marked[:10] = 0
    marked[0] = labels[0]
    kept = np.r_[0, 10:60]
    expected = fitted(rows[kept], labels[kept], rows, 1.0, 0).scores
    assert np.allclose(fitted(rows, marked, rows, 1.0, 0).scores, expected)


def test_the_first_best_c_is_chosen_on_the_examples_to_tune_and_both_parts_are_trained_on(
    rng: np.random.Generator,
) -> None:
    rows, labels = separable(rng)
    parts = Division(np.arange(30), np.arange(30, 40), np.arange(40, 60))
    found = chosen(rows, labels, parts, [1.0, 10.0, 100.0], BY_CLASS["ap"], 0)
    assert found.tuning == {1.0: 1, 10.0: 1, 100.0: 1} and found.cost == 1.0
    assert np.array_equal(found.fit.scores, fitted(rows[:40], labels[:40], rows[40:], 1.0, 0).scores)


def test_svms_that_do_not_converge_are_reported(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = separable(rng)
    assert fitted(rows, labels, rows, 100.0, 0).unconverged == []
    monkeypatch.setattr("vgg.svm.ITERATIONS", 1)
    assert fitted(rows, labels, rows, 100.0, 0).unconverged == [0, 1]
