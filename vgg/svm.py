"""Linear SVMs on descriptors, one class against the rest, and the choice of C (appendix B).

scikit-learn's LinearSVC is LIBLINEAR: squared hinge loss, and an intercept that is regularised like a weight of a
feature of value 1. The primal problem is solved, whatever the number of examples, because the dual is slow for large C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from vgg.descriptors import Features
from vgg.draws import Floats
from vgg.splits import Division

TOLERANCE, ITERATIONS = 1e-4, 1000
Labels = NDArray[np.int8]
Measure = Callable[[Floats, Labels], Floats]  # of scores and labels (n, K): a value per class


class Fit(NamedTuple):
    """The scores of test examples, and the classes (numbers) whose SVM did not converge."""

    scores: Floats  # (test examples, K)
    unconverged: list[int]


class ChosenFit(NamedTuple):
    """A fit with the C that was best on the examples to tune, and the measure (0..1) for each C there."""

    cost: float
    tuning: dict[float, float]
    fit: Fit


def fitted(train: Features, labels: Labels, test: Features, cost: float, seed: int) -> Fit:
    """Return the scores of `test` (m, F) by SVMs trained on `train` (n, F) with labels (n, K) of 1, 0 and -1.

    Examples of label 0 are not trained on. Raise ValueError if a class has no positive or no negative example.
    """
    scores, unconverged = np.empty((len(test), labels.shape[1])), list[int]()
    for number, column in enumerate(labels.T):
        used = column != 0
        svm = LinearSVC(C=cost, dual=False, tol=TOLERANCE, max_iter=ITERATIONS, random_state=seed % 2**32)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            svm.fit(train[used], column[used])
        unconverged += [number] * any(issubclass(one.category, ConvergenceWarning) for one in caught)
        scores[:, number] = svm.decision_function(test)
    return Fit(scores, unconverged)


def chosen(
    rows: Features, labels: Labels, division: Division, costs: Sequence[float], measure: Measure, seed: int
) -> ChosenFit:
    """Return the fit of the test examples with the first of the `costs` whose mean measure is best on those to tune."""
    fit, tune, test, train = division.fit, division.tune, division.test, division.train
    tuning = {
        cost: float(measure(fitted(rows[fit], labels[fit], rows[tune], cost, seed).scores, labels[tune]).mean())
        for cost in costs
    }
    best = max(costs, key=tuning.__getitem__)
    return ChosenFit(best, tuning, fitted(rows[train], labels[train], rows[test], best, seed))
