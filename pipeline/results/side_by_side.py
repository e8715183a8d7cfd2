"""Two reproductions side by side: their images, parameters, errors with paired tests, and verdicts on the claims."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from pipeline.errors import Failure, UsageError
from pipeline.experiment.paper_tables import NO_ERRORS, OTHER_SETS, TITLES
from pipeline.experiment.paths import CLASSIFICATION, PARAMS, REPORTS, claims, ranks, reported, results
from pipeline.results.bundle_file import opened_bundle
from pipeline.results.comparison import row_key
from pipeline.results.paired_tests import compare, holm
from pipeline.results.ranks import Ints, TableRanks, read_ranks
from pipeline.results.tables import read_table
from pipeline.system.atomic_files import read_json
from pipeline.system.yaml_text import flattened, parse_yaml
from vgg.judgement import LEVEL, Verdict

SCHEMA = 1  # of the comparison as JSON
NO_EFFECT = ("prepare.shard_images", "prepare.processes")  # parameters that change no result
SHARED = ("weights", "decoder", "imports", "method", "runs", "crops", "centre", "evidence")  # of all profiles
Record = Mapping[str, Any]
Result = tuple[frozenset[str], bool]
Ranks = tuple[Ints, Ints]  # (images,) each, of a row on both sides
Wrong = NDArray[np.bool_]  # (1, images) True where the image was wrong


class SetMeasure(NamedTuple):
    """A measure of another data set in per cent, of which images."""

    value: float
    manifest: str


@dataclass(frozen=True)
class ComparedReproduction:
    """The results of a profile, from a bundle or a folder."""

    place: str  # as the user names it
    profile: str
    facts: Record  # about the images; empty if they are unknown
    tables: Mapping[str, Record]  # those computed from images
    ranks: Mapping[str, TableRanks]  # of the images of the tables
    claims: Mapping[str, Record]  # the ledger's entries by the claim's name
    parameters: Record | None  # by their joined keys; None if there is no params.yaml with this profile
    outdated: int  # results that were older than params.yaml when a bundle was made
    seeds: Sequence[int]  # of the results; the tables have the first
    measures: Mapping[tuple[str, str], SetMeasure]  # of other data sets, by table and row

    @property
    def manifests(self) -> set[str]:
        """Return the identities of the images of the tables."""
        return {table["manifest"] for table in self.tables.values()}

    @property
    def images(self) -> str:
        """Return what the images are, in words."""
        counts = sorted({table["images"] for table in self.tables.values()})
        known = f"{' or '.join(f'{count:,}' for count in counts) or 'no'} validation images"
        return f"{known}: {self.facts['about']}" if self.facts else known


class Difference(NamedTuple):
    """A parameter, or a claim, that the two have differently."""

    what: str
    first: str
    second: str


@dataclass(frozen=True)
class ComparedCell:
    """An error in per cent that both have. The difference is that of the second minus that of the first, in points."""

    table: str
    row: str
    k: int  # the error is top-k
    first: float
    second: float
    difference: float
    low: float  # 95 % interval of the difference
    high: float
    p: float  # two-sided, of the hypothesis of no difference
    p_holm: float  # adjusted for the number of cells
    paired: bool  # over the same images; else the images of both are taken as independent samples
    only_first_wrong: int | None  # images, if paired
    only_second_wrong: int | None


class ComparedMeasure(NamedTuple):
    """A measure of another data set in per cent that both have. It is compared, but not tested."""

    table: str
    row: str
    first: float
    second: float
    same_images: bool


@dataclass(frozen=True)
class SideBySide:
    """The comparison of two reproductions."""

    first: ComparedReproduction
    second: ComparedReproduction
    cells: Sequence[ComparedCell]
    only_run: Mapping[str, int]  # number of cells that only the first, and only the second, has
    rank_rows: int  # rows whose ranks both have
    other_ranks: int  # of these, those in which an image's rank differs

    @property
    def same_images(self) -> bool:
        """Return True if all tables of both are of the same images."""
        return len(self.first.manifests | self.second.manifests) == 1

    @cached_property
    def parameters(self) -> list[Difference] | None:
        """Return the parameters that differ; None if those of one side are unknown."""
        first, second = self.first.parameters, self.second.parameters
        if first is None or second is None:
            return None
        names = sorted(first.keys() | second.keys())
        values = [(name, first.get(name, "none"), second.get(name, "none")) for name in names]
        return [Difference(name, _text(one), _text(other)) for name, one, other in values if one != other]

    @cached_property
    def claims(self) -> list[Difference]:
        """Return the claims whose verdicts differ."""
        first, second, missing = self.first.claims, self.second.claims, {"verdict": Verdict.NOT_RUN}
        verdicts = [
            (entry["sentence"], *(side.get(name, missing)["verdict"] for side in (first, second)))
            for name, entry in {**second, **first}.items()
        ]
        return [Difference(*verdict) for verdict in verdicts if verdict[1] != verdict[2]]

    @property
    def measures(self) -> list[ComparedMeasure]:
        """Return the measures of other data sets that both have."""
        first, second = self.first.measures, self.second.measures
        pairs = [(name, first[name], second[name]) for name in first if name in second]
        return [
            ComparedMeasure(*name, one.value, other.value, one.manifest == other.manifest) for name, one, other in pairs
        ]

    @property
    def verdict_on_measures(self) -> str:
        """Return the comparison of the measures of other data sets in one sentence; empty if there are none."""
        count, others = len(self.measures), sum(not one.same_images for one in self.measures)
        differing = [abs(one.second - one.first) for one in self.measures if one.first != one.second]
        images = f" The images of {others} are not the same." * bool(others)
        if not count:
            return ""
        if not differing:
            return f"All {count} measures of other data sets are equal.{images}"
        size = f"by up to {max(differing):.1f} points (not tested)"
        return f"{len(differing)} of {count} measures of other data sets differ, {size}.{images}"

    @property
    def beyond(self) -> list[ComparedCell]:
        """Return the cells that differ by more than chance explains, adjusted for their number."""
        return [cell for cell in self.cells if cell.p_holm <= LEVEL]

    @property
    def verdict(self) -> str:
        """Return the comparison in one sentence."""
        if not self.cells and self.measures:
            return self.verdict_on_measures
        if not self.cells:
            return "There is nothing to compare: no row of a table is run on both sides."
        count, other = len(self.cells), [abs(cell.difference) for cell in self.cells if cell.first != cell.second]
        if not self.same_images:
            return f"The images are not the same. {self._differing(other)}"
        if other:
            return self._differing(other)
        if not self.rank_rows:
            return f"All {count} errors are equal; the ranks of single images are not known on both sides."
        if self.other_ranks:
            rows = f"{self.other_ranks} of {self.rank_rows} rows"
            return f"All {count} errors are equal, but {rows} rank images differently."
        return f"Equal to the bit: all {count} errors, and the ranks of all images in {self.rank_rows} rows."

    def _differing(self, differences: Sequence[float]) -> str:
        count, beyond = len(self.cells), len(self.beyond)
        if not differences:
            return f"All {count} errors are equal."
        words = f"{beyond} of them" if beyond else "none"
        size = f"{len(differences)} of {count} errors differ, by up to {max(differences):.1f} points"
        return f"{size}; {words} by more than chance explains (5 %, adjusted for {count} tests by Holm's method)."

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        sides = {
            name: {
                "place": side.place, "profile": side.profile, "manifests": sorted(side.manifests),
                "images": side.images, "outdated": side.outdated,
            }
            for name, side in (("first", self.first), ("second", self.second))
        }  # fmt: skip
        parameters = None if self.parameters is None else [row._asdict() for row in self.parameters]
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            **sides,
            "same_images": self.same_images,
            "parameters": parameters,
            "claims": [row._asdict() for row in self.claims],
            "only_run_in": dict(self.only_run),
            "cells": [asdict(cell) for cell in self.cells],
            "verdict_on_measures": self.verdict_on_measures,
            "measures": [measure._asdict() for measure in self.measures],
        }


def read_reproduction(place: str) -> ComparedReproduction:
    """Return the results at `place`: a bundle, a clone, a folder of results, or the name of a profile here.

    Raise UsageError if it is none of them, and Failure if a file is broken or there are no results.
    """
    path = Path(place)
    if path.is_file():
        with opened_bundle(path) as bundle, chdir(bundle.root):
            return _read(place, bundle.profile, len(bundle.outdated))
    if (path / PARAMS).is_file():
        with chdir(path):
            return _read(place, _active(path))
    if any((path / f"{name}.json").is_file() for name in TITLES):
        return _read_folder(place, path.resolve())
    if results(place).is_dir():
        return _read(place, place)
    raise UsageError(
        f"{place} is no bundle, no clone of vgg-repro, no folder of results such as reports/mini, and no profile with "
        f"results here ({', '.join(sorted(path.name for path in REPORTS.glob('*/') if path.is_dir())) or 'none'})"
    )


def _read_folder(place: str, folder: Path) -> ComparedReproduction:
    """Read a folder of results: with the clone's parameters if it is in one, else alone."""
    if folder.parent.name == str(REPORTS):
        with chdir(folder.parent.parent):
            return _read(place, folder.name)
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        REPORTS.mkdir()
        results(folder.name).symlink_to(folder)
        return _read(place, folder.name)


def _active(path: Path) -> str:
    try:
        return str(parse_yaml(PARAMS.read_text())["profile"])
    except (ValueError, KeyError, TypeError) as reason:
        raise Failure(f"{path / PARAMS} has no profile ({reason}); restore it with: git checkout {PARAMS}") from None


def _read(place: str, profile: str, outdated: int = 0) -> ComparedReproduction:
    """Read the results of a profile in the current folder. Raise Failure if there are none."""
    tables = {name: read_table(profile, name) for name in TITLES if name not in NO_ERRORS}
    tables = {name: values for name, values in tables.items() if values.get("rows")}
    measures = dict(_measures(profile))
    if not tables and not measures:
        raise Failure(f"{place} has no table of profile {profile} that is computed from images")
    arrays = {name: read_ranks(ranks(profile, name), f"dvc repro {name}") for name in tables}
    facts = reported(profile, CLASSIFICATION.facts(profile))
    known = read_json(facts, "vgg-repro report") if facts.exists() else {}
    ledger = read_json(claims(profile), "dvc repro claims") if claims(profile).exists() else {"claims": ()}
    return ComparedReproduction(
        place,
        profile,
        known if known.get("manifest") in {table["manifest"] for table in tables.values()} else {},
        tables,
        {name: array for name, array in arrays.items() if array and array.manifest == tables[name]["manifest"]},
        {entry["name"]: entry for entry in ledger["claims"]},
        _parameters(profile),
        outdated,
        read_table(profile, "seeds").get("seeds", ()),
        measures,
    )


def _measures(profile: str) -> Iterator[tuple[tuple[str, str], SetMeasure]]:
    """Yield the measures of other data sets that a profile has, by table and row."""
    for name in OTHER_SETS:
        values = read_table(profile, name)
        for row in values.get("rows", ()):
            if row["ours"]:
                manifest = values["sets"][row["set"]]["manifest"]
                yield (name, row_key(row)), SetMeasure(row["ours"]["value"], manifest)


def _parameters(profile: str) -> Record | None:
    """Return the parameters that shape the results of a profile, by their joined keys; None if they are unknown."""
    try:
        values = parse_yaml(PARAMS.read_text())
        own = values["profiles"][profile]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    shared = {name: values.get(name) for name in SHARED} | {"datasets": _without_paths(values.get("datasets", {}))}
    flat = dict(flattened({**shared, **own, "data": _used(own.get("data", {}))}))
    return {name: value for name, value in flat.items() if name not in NO_EFFECT}


def _used(data: Record) -> Record:
    """Return the parameters of the images without the blocks of other sources."""
    return {key: value for key, value in data.items() if key == data.get("source") or not isinstance(value, Mapping)}


def _without_paths(sets: Record) -> Record:
    """Return the rows of other data sets without the folders that they are read from."""
    return {name: {key: value for key, value in row.items() if key != "path"} for name, row in sets.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def side_by_side(first: ComparedReproduction, second: ComparedReproduction) -> SideBySide:
    """Return the comparison of two reproductions. A result that several rows have counts once."""
    pairs = list(_shared_rows(first, second))
    ranked = [_ranks(name, row_key(row), first, second) for name, row, _ in pairs]
    cells = [cell for pair, ranks in zip(pairs, ranked, strict=True) for cell in _compared(*pair, ranks, first, second)]
    adjusted = holm([cell["p"] for cell in cells])
    errors = [set(_errors(side)) for side in (first, second)]
    shared = list(filter(None, ranked))
    return SideBySide(
        first,
        second,
        tuple(ComparedCell(**cell, p_holm=p) for cell, p in zip(cells, adjusted, strict=True)),
        {"first": len(errors[0] - errors[1]), "second": len(errors[1] - errors[0])},
        len(shared),
        sum(not np.array_equal(one, other) for one, other in shared),
    )


def _result(row: Record) -> Result:
    """Return what tells a row's result apart: its nets and methods, and whether they are tested at one Q."""
    return frozenset(row["scores"]), row["label"].get("Q", "").isdecimal()


def _errors(side: ComparedReproduction) -> Iterator[tuple[Result, str]]:
    """Yield the errors that one side has: its results, each with top-1 and top-k."""
    for table in side.tables.values():
        for row in table["rows"]:
            yield from ((_result(row), measure) for measure in row["ours"] or ())


def _shared_rows(first: ComparedReproduction, second: ComparedReproduction) -> Iterator[tuple[str, Record, Record]]:
    """Yield the rows that both have run, with their table: of those of one result the first, such as Table 4's."""
    seen: set[tuple[Result, Result]] = set()
    for name in (name for name in TITLES if name in first.tables and name in second.tables):
        theirs = {row_key(row): row for row in second.tables[name]["rows"] if row["ours"]}
        run = [row for row in first.tables[name]["rows"] if row["ours"] and row_key(row) in theirs]
        for row, other in ((row, theirs[row_key(row)]) for row in run):
            results = _result(row), _result(other)
            if results not in seen:
                seen.add(results)
                yield name, row, other


def _compared(
    name: str,
    row: Record,
    other: Record,
    ranks: Ranks | None,
    first: ComparedReproduction,
    second: ComparedReproduction,
) -> Iterator[dict[str, Any]]:
    """Yield a row's cells, without the adjusted p-values: top-1, and top-k if both have the same k."""
    k, same = first.tables[name]["k"], first.tables[name]["k"] == second.tables[name]["k"]
    for measure, place in [("top1", 1), *[("topk", k)] * (same and k > 1)]:
        errors, wrong = (row["ours"][measure], other["ours"][measure]), _wrong(ranks, place)
        tested = _paired(wrong, first.ranks[name]) if wrong else _unpaired(*errors)
        yield {
            "table": name,
            "row": row_key(row),
            "k": place,
            "first": errors[0]["error"],
            "second": errors[1]["error"],
        } | tested


def _ranks(name: str, key: str, first: ComparedReproduction, second: ComparedReproduction) -> Ranks | None:
    """Return each side's ranks of a row, (images,); None if they are not known of the same images."""
    known = [side.ranks[name] for side in (first, second) if name in side.ranks and key in side.ranks[name].rows]
    if len(known) < 2 or known[0].manifest != known[1].manifest:
        return None
    return known[0].rows[key], known[1].rows[key]


def _wrong(ranks: Ranks | None, k: int) -> tuple[Wrong, Wrong] | None:
    """Return which images each side got wrong, (1, images); None if they are not known of the same images."""
    if not ranks or ranks[0].shape != ranks[1].shape:
        return None
    return (ranks[0] >= k)[None], (ranks[1] >= k)[None]


def _paired(wrong: tuple[Wrong, Wrong], ranked: TableRanks) -> dict[str, Any]:
    """Return the test over the same images: McNemar's, exact, with the groups of the images as its units."""
    first, second = wrong
    tested = compare([(second, first)], ranked.groups if len(ranked.groups) else None)
    return {
        "difference": tested.effect, "low": tested.low, "high": tested.high, "p": tested.p, "paired": True,
        "only_first_wrong": tested.lost, "only_second_wrong": tested.gained,
    }  # fmt: skip


def _unpaired(first: Record, second: Record) -> dict[str, Any]:
    """Return the test of two error rates as of independent images: Newcombe's interval, Fisher's exact test."""
    difference = second["error"] - first["error"]
    below = sqrt((second["error"] - second["low"]) ** 2 + (first["high"] - first["error"]) ** 2)
    above = sqrt((second["high"] - second["error"]) ** 2 + (first["error"] - first["low"]) ** 2)
    counts = [[side["wrong"], side["images"] - side["wrong"]] for side in (first, second)]
    return {
        "difference": difference, "low": difference - below, "high": difference + above,
        "p": float(fisher_exact(counts).pvalue), "paired": False, "only_first_wrong": None, "only_second_wrong": None,
    }  # fmt: skip
