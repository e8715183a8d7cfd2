"""Linear SVMs on descriptors, one class against the rest, and the choice of C (appendix B).

scikit-learn's LinearSVC is LIBLINEAR: squared hinge loss, and an intercept that is regularised like a weight of a
feature of value 1. The primal problem is solved, whatever the number of examples, because the dual is slow for large C.

If there are fewer training examples than numbers, the SVMs are trained in coordinates of the examples' span. Weights
have no part outside the span, and the penalty is their length, so the solution is the same, with fewer numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from vgg.draws import Floats, Ints
from vgg.splits import Division

if TYPE_CHECKING:  # its module imports torch, which the processes of SVMs do without
    from vgg.descriptors import Features

TOLERANCE, ITERATIONS = 1e-4, 1000
AT_ONCE = 1024  # examples that are scored together, so that float64 copies stay small
NODE = 16  # bytes in which LIBLINEAR keeps a number that is not 0
Labels = NDArray[np.int8]
Measure = Callable[[Floats, Labels], Floats]  # of scores and labels (n, K): a value per class


class Job(NamedTuple):
    """An SVM to train: of a class (its number), with a C."""

    cost: float
    number: int


class ClassSvm(NamedTuple):
    """The SVM of a class."""

    weights: Floats  # (F,)
    intercept: float
    iterations: int
    converged: bool


Fitting = Callable[[Floats, Labels, Sequence[Job], int], Iterable[tuple[Job, ClassSvm]]]  # as `one_by_one`


class Fit(NamedTuple):
    """The scores of test examples, and the solver's iterations of each class."""

    scores: Floats  # (test examples, K)
    iterations: Ints  # (K,)


class ChosenFit(NamedTuple):
    """A fit with the C that was best on the examples to tune, and the measure (0..1) for each C there.

    `unconverged` has the classes (numbers) whose SVM did not converge, for each C where there are any.
    """

    cost: float
    tuning: dict[float, float]
    unconverged: dict[float, list[int]]
    fit: Fit


class Rotated(NamedTuple):
    """Training examples in coordinates of their span, if there are fewer of them than numbers."""

    rows: Floats  # (n, min(n, F)), below the diagonal and on it where they were rotated
    reflectors: tuple[Floats, Floats] | None  # LAPACK's form of the rotation; None: the rows are as they were

    def back(self, weights: Floats) -> Floats:
        """Return weights (K, n) of the coordinates as weights (K, F) of the numbers."""
        if self.reflectors is None:
            return weights
        vectors, scales = self.reflectors
        columns = np.zeros((len(vectors), len(weights)), order="F")  # (F, K)
        columns[: weights.shape[1]] = weights.T
        size = lapack.dormqr("L", "N", vectors, scales, columns, -1)[1][0]  # asks how much room is best
        turned: Floats = lapack.dormqr("L", "N", vectors, scales, columns, int(size), overwrite_c=1)[0]
        return turned.T


def rotated(rows: Features) -> Rotated:
    """Return training examples (n, F) in coordinates of their span, by a QR decomposition of their transpose."""
    if len(rows) >= rows.shape[1]:
        return Rotated(rows.astype(np.float64), None)
    reflectors, triangle = qr(rows.T.astype(np.float64, order="F"), overwrite_a=True, mode="raw", check_finite=False)
    return Rotated(np.ascontiguousarray(triangle.T), reflectors)


def one_by_one(rows: Floats, labels: Labels, jobs: Sequence[Job], seed: int) -> Iterable[tuple[Job, ClassSvm]]:
    """Yield the SVM of each job, trained on `rows` (n, F) with the labels (n, K) of all classes."""
    with threadpool_limits(1):  # with more, sums of long rows are rounded otherwise
        for job in jobs:
            yield job, _solved(rows, labels[:, job.number], job.cost, seed)


def _solved(rows: Floats, labels: Labels, cost: float, seed: int) -> ClassSvm:
    """Return the SVM of one class. Examples of label 0 are not trained on."""
    used = labels != 0
    svm = LinearSVC(C=cost, dual=False, tol=TOLERANCE, max_iter=ITERATIONS, random_state=seed % 2**32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        svm.fit(rows if used.all() else rows[used], labels[used])
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return ClassSvm(svm.coef_[0], float(svm.intercept_[0]), int(np.max(svm.n_iter_)), converged)


def bytes_of_one(rows: Floats, labels: Labels) -> int:
    """Return about how many bytes the training of one SVM needs besides `rows` (n, F)."""
    copied = 0 if labels.all() else rows.nbytes
    return copied + NODE * (int(np.count_nonzero(rows)) + 2 * len(rows))


def chosen(
    rows: Features,
    labels: Labels,
    division: Division,
    costs: Sequence[float],
    measure: Measure,
    seed: int,
    fitting: Fitting = one_by_one,
) -> ChosenFit:
    """Return the fit of the test examples with the first of the `costs` whose mean measure is best on those to tune.

    `fitting` trains the SVMs. Raise ValueError if a class has no positive or no negative example.
    """
    train, test = division.train, division.test
    turned = rotated(rows[train])
    fit, tune = (np.searchsorted(train, part) for part in (division.fit, division.tune))
    solved = dict(fitting(turned.rows[fit], labels[division.fit], _jobs(costs, labels), seed))
    tuning = {}
    for cost in costs:
        scores = _scores(turned.rows[tune], *_linear(solved, cost, labels))
        tuning[cost] = float(measure(scores, labels[division.tune]).mean())
    best = max(costs, key=tuning.__getitem__)
    last = dict(fitting(turned.rows, labels[train], _jobs([best], labels), seed))
    weights, intercepts = _linear(last, best, labels)
    iterations = np.array([last[job].iterations for job in _jobs([best], labels)], np.int64)
    unconverged = _unconverged([*solved.items(), *last.items()])
    return ChosenFit(best, tuning, unconverged, Fit(_scores(rows[test], turned.back(weights), intercepts), iterations))


def _jobs(costs: Sequence[float], labels: Labels) -> list[Job]:
    return [Job(cost, number) for cost in costs for number in range(labels.shape[1])]


def _linear(solved: dict[Job, ClassSvm], cost: float, labels: Labels) -> tuple[Floats, Floats]:
    """Return weights (K, F) and intercepts (K,) of all classes with one C."""
    solutions = [solved[job] for job in _jobs([cost], labels)]
    return np.array([one.weights for one in solutions]), np.array([one.intercept for one in solutions])


def _scores(rows: Features, weights: Floats, intercepts: Floats) -> Floats:
    """Return the scores (n, K) of rows (n, F)."""
    parts = np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))
    scores: Floats = np.concatenate([part.astype(np.float64) @ weights.T + intercepts for part in parts])
    return scores


def _unconverged(solved: Iterable[tuple[Job, ClassSvm]]) -> dict[float, list[int]]:
    """Return the classes whose SVMs did not converge, for each C where there are any."""
    found = sorted({job for job, solution in solved if not solution.converged})
    costs = dict.fromkeys(job.cost for job in found)
    return {cost: [job.number for job in found if job.cost == cost] for cost in costs}
