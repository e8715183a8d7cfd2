"""The names of runs that a profile adds to the grid, and the names of DVC's stages, which follow from a run's name.

Also which runs follow a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Literal, get_args

Kind = Literal["seeds", "initialisation"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # why a profile adds a run; also the folder of its scores
INITIALISATIONS = NORMAL, FROM_A, GLOROT = ("normal", "normal-from-A", "glorot")
SEEDED = re.compile(r".+-seed\d+")
INITIALISED = re.compile(rf".+-({'|'.join(INITIALISATIONS)})")
RESERVED = f"-seedN, -{', -'.join(INITIALISATIONS)}"  # endings of names that the grid cannot have
LOCALISERS = {"one": "SCR-", "class": "PCR-"}  # how localisers' names begin, by their boxes: the paper's abbreviations
EXTRA = "extra-"  # prefix of the stages of the runs that are not in the grid


def seeded(name: str, seed: int) -> str:
    """Return the name of a run, or of a net's random weights, with a further seed: D-384-seed1."""
    return f"{name}-seed{seed}"


def initialised(nets: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each net with each of its INITIALISATIONS; A cannot start from A's layers."""
    yield from (pair for pair in product(nets, INITIALISATIONS) if pair != ("A", FROM_A))


def kind_of(name: str) -> Kind | None:
    """Return why a profile adds a run, or random weights, of this name; None for the grid's own."""
    if SEEDED.fullmatch(name):
        return "seeds"
    return "initialisation" if INITIALISED.fullmatch(name) else None


def starting_from(starts: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the runs that start from the run `name`, directly or through others, by what each run starts from."""
    found = [name]
    for start in found:
        found += [run for run, other in starts.items() if other == start]
    return tuple(found[1:])


def is_localiser(name: str) -> bool:
    """Return True if only a localiser can have this name."""
    return name.startswith(tuple(LOCALISERS.values()))


def random_stage(name: str) -> str:
    """Return the stage that draws the random weights `name`: random@A or extra-random@A-seed1."""
    return _stage("random", name)


def train_stage(run: str) -> str:
    """Return the stage that trains a run: train@D-384, extra-train@D-384-seed1 or localiser@PCR-384."""
    return f"localiser@{run}" if is_localiser(run) else _stage("train", run)


def score_stage(run: str, mode: str) -> str:
    """Return the stage that scores a run in a mode: dense@D-384 or extra-dense@D-384-seed1."""
    return _stage(mode, run)


def _stage(work: str, name: str) -> str:
    return f"{EXTRA if kind_of(name) else ''}{work}@{name}"


def work_of(stage: str) -> tuple[str, str]:
    """Return what a stage does and with which run or net: dense and D-384-seed1 of extra-dense@D-384-seed1."""
    work, _, name = stage.partition("@")
    return work.removeprefix(EXTRA), name
