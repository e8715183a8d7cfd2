"""Reading and checking of params.yaml, with explanations of its errors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.experiment.extra_runs import outdated_rows
from pipeline.experiment.modes import MODES, runs_of
from pipeline.experiment.other_sets import PROTOCOLS, outdated_sets
from pipeline.experiment.params import (
    CROP,
    RANDOM,
    Block,
    CellRule,
    CharactersParams,
    Data,
    DigitsParams,
    DrawnSets,
    Evidence,
    Extra,
    Import,
    InitialisationRuns,
    Localise,
    Localiser,
    Method,
    Net,
    OtherSet,
    Params,
    Prepare,
    Profile,
    Recipe,
    Run,
    Score,
    Train,
    Transfer,
    UnlabelledSet,
    Windows,
)
from pipeline.experiment.paths import PARAMS
from pipeline.experiment.run_names import LOCALISERS, RESERVED, is_localiser, kind_of
from pipeline.experiment.server_sets import ILSVRC_TEST, misfits
from pipeline.system.checkout import BrokenCheckout, conflict_in
from pipeline.system.yaml_text import parse_yaml

Checked = TypeVar("Checked", bound=Block)

BREAKING = "@/${} "  # characters that break the names of stages and files


def load(path: Path = PARAMS, extra: bool = True) -> Params:
    """Read and check `path`. Raise UsageError that says what is wrong, where, and what would be right.

    Without `extra`, the rows of that name, of `datasets` and of `test_sets` may be other than those that the active
    profile needs.
    """
    try:
        params = parse(path.read_bytes(), path)
    except FileNotFoundError:
        raise UsageError(f"there is no {path} here: run this in the root of the repository") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if extra and (problem := outdated_rows(params) or outdated_sets(params) or _outdated_test_sets(params)):
        raise UsageError(f"{path}: {problem}")
    return params


@lru_cache(8)  # keyed by the content, so a changed file is parsed again
def parse(text: bytes, path: Path) -> Params:
    """Check the current or future content of `path`. Raise UsageError as `load` does."""
    if (problem := conflict_in(text, path)) is not None:
        raise BrokenCheckout(problem)
    try:
        values = parse_yaml(text.decode())
    except ValueError as error:  # not UTF-8 or not YAML
        raise UsageError(f"{path} is not YAML: {error}") from None
    return checked(Params, values, path, _siblings, _contradictions)


def checked(
    model: type[Checked],
    values: Any,
    path: Path,
    siblings: Callable[[list[str]], list[str]],
    contradictions: Callable[[Checked], Iterator[str]],
) -> Checked:
    """Return the values of the file `path` as a model. Raise UsageError that says all that is wrong with them.

    `siblings` returns the valid keys of the block at a place, `contradictions` what is well formed but impossible.
    """
    try:
        loaded = model.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {line}" for line in _explanations(error, siblings))) from None
    if problems := list(contradictions(loaded)):
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems))
    return loaded


def nearest(word: str, words: Sequence[str]) -> str:
    """Return a hint for the unknown `word`: the nearest of `words`, if one is near, and all of them."""
    return f"{nearest_of(word, words)}Available: {', '.join(words)}"


def nearest_of(word: str, words: Sequence[str]) -> str:
    """Return the question whether the nearest of `words` was meant; an empty string if none is near."""
    folded = {candidate.lower(): candidate for candidate in words}
    close = difflib.get_close_matches(word.lower(), folded, 1, 0.5)
    return f"Did you mean {folded[close[0]]}? " if close else ""


def is_near(word: str, words: Sequence[str]) -> bool:
    """Return True if `word` is one of `words` but for a slip of the keys."""
    return bool(difflib.get_close_matches(word.lower(), [candidate.lower() for candidate in words], 1, 0.75))


def _explanations(error: ValidationError, siblings: Callable[[list[str]], list[str]]) -> Iterator[str]:
    """Yield a sentence for each error in a file's values; `siblings` returns the valid keys of the block at a place."""
    for detail in error.errors():
        keys = [str(part) for part in detail["loc"] if not _is_branch(str(part))]
        place = ".".join(keys) or "the file"
        if detail["type"] == "extra_forbidden":
            yield f"unknown key {place}. {nearest(keys[-1], siblings(keys[:-1]))}"
        elif detail["type"] == "missing":
            yield f"{place} is missing"
        elif detail["type"] == "model_type":
            yield f"{place} is {_kind(detail['input'])}: give a block of keys and values"
        else:
            yield f"{place} is {detail['input']!r:.60}: {detail['msg'].removeprefix('Value error, ')}"


def _kind(value: Any) -> str:
    """Return what a value of YAML is."""
    names = {list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), "empty" if value is None else repr(value))


def _is_branch(part: str) -> bool:
    """Return True if pydantic added `part` to a location to name the branch of a union or a validator."""
    return part in ("int", "[key]") or "[" in part


BLOCKS: dict[str, type[Block]] = {
    "method": Method, "runs": Run, "imports": Import, "data": Data, "digits": DigitsParams,
    "characters": CharactersParams, "prepare": Prepare,
    "net": Net, "train": Train, "recipes": Recipe, "score": Score, "profiles": Profile, "extra": Extra,
    "localisers": Localiser, "windows": Windows, "localise": Localise,
    "datasets": OtherSet, "test_sets": UnlabelledSet, "transfer": Transfer, "drawn": DrawnSets,
    "initialisation": InitialisationRuns, "evidence": Evidence, "cells": CellRule,
}  # fmt: skip


def _siblings(place: Sequence[str]) -> list[str]:
    """Return the valid keys of the block at `place`."""
    for key in reversed(place):
        if key in BLOCKS:
            return list(BLOCKS[key].model_fields)
    return list(Params.model_fields)


def _contradictions(params: Params) -> Iterator[str]:
    """Yield a message for each value that is well formed but impossible."""
    if params.profile not in params.profiles:
        yield f"unknown profile {params.profile}. {nearest(params.profile, list(params.profiles))}"
        return
    if params.active.train is None and params.weights == "trained":
        yield (
            f"weights: trained needs a profile with a `train` section, and profile {params.profile} has none: "
            "set weights: published, or another profile"
        )
    for name in params.imports:
        if name not in params.runs:
            yield f"imports: unknown run {name}. {nearest(name, list(params.runs))}"
    for name in params.runs:
        yield from _bad_run(params, name)
    for name in params.localisers:
        yield from _bad_localiser(params, name)
    for name in params.windows:
        yield from _bad_windows(params, name)
    for name in params.datasets:
        yield from _bad_set(params, name)
    for name in params.test_sets:
        if name != ILSVRC_TEST:
            yield f"test_sets: unknown data set {name}. Available: {ILSVRC_TEST}"
    for mode in MODES:
        for name in runs_of(params, mode):
            if name not in params.runs:
                yield f"{mode}: unknown run {name}. {nearest(name, list(params.runs))}"
    for name, profile in params.profiles.items():
        yield from _bad_profile(name, profile)
    yield from _bad_seeds(params)
    yield from _bad_initialisation(params)


def _bad_seeds(params: Params) -> Iterator[str]:
    """Yield what is wrong with the active profile's seeds, or with the runs that are repeated per seed."""
    profile, place = params.active, f"profiles.{params.profile}"
    if profile.seeds and (profile.train is None or profile.seeds[0] != profile.train.seed):
        first = "but there is no `train`" if profile.train is None else f"the first must be {profile.train.seed}"
        yield f"{place}.seeds is {profile.seeds}: {first}, the profile's train.seed"
    if len(set(profile.seeds)) < len(profile.seeds):
        yield f"{place}.seeds is {profile.seeds}: each seed may be there once"
    if len(profile.seeds) > 1 and not profile.seed_runs:
        yield f"{place}.seeds is {profile.seeds}, but {place}.seed_runs does not say which runs are repeated"
    for name in profile.seed_runs:
        if name not in params.runs:
            yield f"{place}.seed_runs: unknown run {name}. {nearest(name, list(params.runs))}"
        elif (init := params.runs[name].init) in params.runs and init not in profile.seed_runs:
            yield f"{place}.seed_runs has {name} without {init}, from which it starts: add {init}"


def _bad_initialisation(params: Params) -> Iterator[str]:
    """Yield what is wrong with the active profile's runs of section 3.1's initial weights."""
    profile, place = params.active, f"profiles.{params.profile}.initialisation"
    if profile.initialisation is None:
        return
    if "A" not in profile.initialisation.nets:
        yield f"{place}.nets must have A, whose layers the other nets start from"
    for recipe in ("scratch", "warm"):
        if recipe not in profile.recipes:
            yield f"{place} needs the recipe {recipe}, which profile {params.profile} does not have"


def _bad_run(params: Params, name: str) -> Iterator[str]:
    run = params.runs[name]
    low, high = run.scales
    if any(character in name for character in BREAKING) or name.startswith(RANDOM):
        yield f"runs.{name}: a run's name must not contain @, /, $, a brace or a space, or start with {RANDOM}"
    if kind_of(name):
        yield f"runs.{name}: names that end in {RESERVED} are those of the rows of `extra`"
    if is_localiser(name):
        yield f"runs.{name}: names that begin with {' or '.join(LOCALISERS.values())} are those of `localisers`"
    if low > high:
        yield f"runs.{name}.scale is [{low}, {high}]: the smaller value must come first"
    if low - 32 * (low == high) < CROP:
        yield f"runs.{name}.scale is {low}: images would be smaller than the {CROP}-pixel crop in training or testing"
    if params.active.train is not None and run.recipe not in params.active.recipes:
        known = ", ".join(params.active.recipes)
        yield f"runs.{name}.recipe is {run.recipe}, but profile {params.profile} has only {known}"
    if run.init.startswith(RANDOM):
        if run.init != RANDOM + run.net:
            yield f"runs.{name}.init is {run.init}: a net {run.net} starts from {RANDOM}{run.net} or from a run"
    elif run.init not in params.runs:
        yield f"runs.{name}.init: unknown run {run.init}. {nearest(run.init, list(params.runs))}"
    elif params.runs[run.init].net not in (run.net, "A") or (
        params.runs[run.init].net != run.net and run.net not in ("B", "C", "D", "E")
    ):
        yield f"runs.{name}.init is {run.init}: net {run.net} cannot start from a net {params.runs[run.init].net}"
    elif name in _ancestors(params, name):
        yield f"runs.{name}.init is circular: it leads back to {name}"


def _bad_localiser(params: Params, name: str) -> Iterator[str]:
    row, place = params.localisers[name], f"localisers.{name}"
    begins = LOCALISERS[row.boxes]
    if not name.startswith(begins) or any(character in name for character in BREAKING):
        yield f"{place}: with boxes: {row.boxes}, a localiser's name begins with {begins}, without any of {BREAKING!r}"
    if row.run not in params.runs:
        yield f"{place}.run: unknown run {row.run}. {nearest(row.run, list(params.runs))}"
    if params.active.localise is not None and row.recipe not in params.active.recipes:
        known = ", ".join(params.active.recipes)
        yield f"{place}.recipe is {row.recipe}, but profile {params.profile} has only {known}"


def _bad_windows(params: Params, name: str) -> Iterator[str]:
    row, place = params.windows[name], f"windows.{name}"
    if name not in params.localisers:
        yield f"{place}: unknown localiser {name}. {nearest(name, list(params.localisers))}"
    if row.scores not in params.runs:
        yield f"{place}.scores: unknown run {row.scores}. {nearest(row.scores, list(params.runs))}"
    yield from _bad_scales(row.scales, place)


def _bad_set(params: Params, name: str) -> Iterator[str]:
    row, place = params.datasets[name], f"datasets.{name}"
    if any(character in name for character in BREAKING):
        yield f"{place}: a data set's name must not contain @, /, $, a brace or a space"
    if row.source not in PROTOCOLS:
        yield f"{place}.source: unknown data set {row.source}. {nearest(row.source, list(PROTOCOLS))}"
        return
    if row.table != (table := PROTOCOLS[row.source].table):
        yield f"{place}.table is {row.table}, but {row.source} belongs to {table}"
    yield from _bad_scales(row.scales, place)


def _bad_scales(scales: Sequence[int], place: str) -> Iterator[str]:
    if min(scales) < CROP:
        yield f"{place}.scales: Q {min(scales)} is smaller than the {CROP}-pixel crop"
    if len(set(scales)) < len(scales):
        yield f"{place}.scales is {list(scales)}: each Q may be there once"


def _outdated_test_sets(params: Params) -> str:
    """Return which rows of `test_sets` the active profile cannot have, and the fix; an empty string if none."""
    extra = misfits(params)
    if not extra:
        return ""
    return (
        f"test_sets has {', '.join(extra)}, but the images of profile {params.profile} (source "
        f"{params.active.data.source}) have other classes. To remove the row: vgg-repro prepare --profile "
        f"{params.profile}"
    )


def _ancestors(params: Params, name: str) -> list[str]:
    """Return the runs that `name` starts from, the nearest first. The list ends before a repeated run."""
    ancestors: list[str] = []
    init: str = params.runs[name].init
    while init in params.runs and init not in ancestors:
        ancestors.append(init)
        init = params.runs[init].init
    return ancestors


def _bad_profile(name: str, profile: Profile) -> Iterator[str]:
    if profile.net.crop < 32:
        yield f"profiles.{name}.net.size_ratio is {profile.net.size_ratio}: the crop, {profile.net.crop}, is below 32"
    if (profile.train is None) != (not profile.recipes):
        yield f"profiles.{name} has only one of `train` and `recipes`: a profile needs both to train, or neither"
    for source, keys in (("digits", ("canvas", "digit")), ("characters", ("canvas", "size"))):
        drawing = getattr(profile.data, source)
        for key in keys if drawing else ():
            low, high = getattr(drawing, key)
            if low > high:
                yield f"profiles.{name}.data.{source}.{key} is [{low}, {high}]: the smaller value must come first"
    drawing = profile.data.characters
    if drawing and len(set(drawing.alphabets)) < len(drawing.alphabets):
        yield f"profiles.{name}.data.characters.alphabets is {list(drawing.alphabets)}: an alphabet is named twice"
