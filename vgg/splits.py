"""Divisions of a data set's examples (appendix B): those to train on, those of them that choose C, those to test.

Every draw follows from a seed, the split's number and the class alone, in the order of the examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vgg.draws import Ints


class Division(NamedTuple):
    """Numbers of examples. C is chosen by training on `fit` and measuring `tune`; then both are trained on."""

    fit: Ints
    tune: Ints
    test: Ints

    @property
    def train(self) -> Ints:
        """Return the examples of the last training."""
        return np.sort(np.concatenate([self.fit, self.tune]))


def random_division(classes: Ints, seed: int, number: int, train: int, test: int | None, held_out: float) -> Division:
    """Return split `number` of examples of one class each, (n,): `train` of each class and at most `test` others.

    `test` None means all others; the share `held_out` of each class's training examples is to tune. Raise ValueError
    for a class with fewer than `train` + 1 examples.
    """
    parts: list[tuple[Ints, Ints, Ints]] = []
    tuned = round(held_out * train)
    for label in range(classes.max() + 1):
        members = np.flatnonzero(classes == label)
        if len(members) <= train:
            raise ValueError(f"class {label} has only {len(members)} examples: {train} to train on, and one to test")
        drawn = members[np.random.default_rng([seed, number, label]).permutation(len(members))]
        last = len(drawn) if test is None else train + test
        parts.append((drawn[tuned:train], drawn[:tuned], drawn[train:last]))
    return Division(*map(_sorted, zip(*parts, strict=True)))


def held_out_division(
    classes: Ints, train: NDArray[np.bool_], test: NDArray[np.bool_], seed: int, held_out: float
) -> Division:
    """Return a division by the masks (n,): the share `held_out` of each class's training examples is to tune.

    An example of several `classes` is drawn with one of them, (n,). A class of two examples or more has one to tune.
    """
    parts: list[tuple[Ints, Ints]] = []
    for label in np.unique(classes[train]).tolist():
        members = np.flatnonzero(train & (classes == label))
        drawn = members[np.random.default_rng([seed, 0, label]).permutation(len(members))]
        tuned = max(round(held_out * len(drawn)), int(len(drawn) > 1))
        parts.append((drawn[tuned:], drawn[:tuned]))
    fit, tune = map(_sorted, zip(*parts, strict=True))
    return Division(fit, tune, np.flatnonzero(test))


def _sorted(parts: Iterable[Ints]) -> Ints:
    return np.sort(np.concatenate(list(parts)))
