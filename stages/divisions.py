"""How a data set's examples are divided for its SVMs (appendix B), and whether there are enough of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.datasets.readers.base import NEGATIVE, POSITIVE, Examples
from pipeline.errors import Failure
from pipeline.experiment.other_sets import HELD_OUT, PROTOCOLS, OfficialSets, RandomSplits
from pipeline.experiment.params import Params
from vgg.draws import Ints
from vgg.splits import Division, held_out_division, random_division

NAMED = 10  # classes in a message


def divisions(params: Params, name: str, examples: Examples) -> list[Division]:
    """Return the divisions of the examples that the protocol of data set `name` asks for.

    Raise Failure, naming the classes, if no SVM can be trained or measured on them.
    """
    parts = _divided(params, name, examples)
    for division in parts:
        for numbers, use in zip(division, ("to train on", "to choose C on", "to test"), strict=True):
            there = (examples.labels[numbers] == POSITIVE).any(0)
            if not there.all():
                raise Failure(f"{name} has no example {use} of {named(_where(examples, ~there))}")
        others = (examples.labels[division.fit] == NEGATIVE).any(0)
        if not others.all():
            raise Failure(f"{name} has no example to train on that is not of {named(_where(examples, ~others))}")
    return parts


def unlabelled(params: Params, name: str, examples: Examples) -> Ints:
    """Return the numbers of the examples whose labels the organisers' server alone has."""
    return examples.numbers_in(PROTOCOLS[params.datasets[name].source].server)


def server_division(params: Params, name: str, examples: Examples) -> Division | None:
    """Return the division that tests the examples without labels; None if there are none.

    C is chosen on the examples that the table measures. The last training has all examples with labels.
    """
    division, test = PROTOCOLS[params.datasets[name].source].division, unlabelled(params, name, examples)
    if not len(test) or not isinstance(division, OfficialSets):
        return None
    return Division(examples.numbers_in(division.fit), examples.numbers_in(division.test), test)


def named(classes: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(classes) - NAMED} more classes" if len(classes) > NAMED else ""
    return ", ".join(classes[:NAMED]) + more


def _where(examples: Examples, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[str]:
    return [examples.classes[number] for number in np.flatnonzero(chosen)]


def _divided(params: Params, name: str, examples: Examples) -> list[Division]:
    division, seed = PROTOCOLS[params.datasets[name].source].division, params.active.transferring.seed
    first = np.where((examples.labels > 0).any(1), (examples.labels > 0).argmax(1), examples.labels.shape[1])
    if isinstance(division, OfficialSets):
        fit, test = examples.subsets[division.fit], examples.subsets[division.test]
        if not fit.any():
            raise Failure(f"{name} has no example to train on")
        if division.tune is None:
            return [held_out_division(first, fit, test, seed, HELD_OUT)]
        return [Division(*map(np.flatnonzero, (fit, examples.subsets[division.tune], test)))]
    _check_counts(name, examples, first, division)
    return [
        random_division(first, seed, number, division.train, division.test, HELD_OUT)
        for number in range(division.splits)
    ]


def _check_counts(name: str, examples: Examples, first: Ints, division: RandomSplits) -> None:
    """Raise Failure if a class, of those that `first` (examples,) numbers, has too few examples for random splits."""
    counts = np.bincount(first, minlength=len(examples.classes))[: len(examples.classes)]
    if short := _where(examples, counts <= division.train):
        raise Failure(
            f"{name} needs {division.train} examples of each class to train on, and one to test; it has fewer of "
            f"{named(short)}"
        )
