"""The errors of two sets of tables compared, and those on disk with those that git's HEAD has."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.experiment.other_sets import CLASSIFY, classified_by
from pipeline.experiment.paper_tables import NO_DATA, OTHER_SETS, TITLES
from pipeline.experiment.paths import classified, errors_of, table
from pipeline.results.provenance import git, provenance_of
from pipeline.results.tables import read_table

Cell = tuple[str, str, str]  # table, row, measure
MEASURE = "measure"  # of another data set


def compared_with_head(profile: str, outdated: bool = False) -> str:
    """Return a sentence on how the errors that were computed here differ from those in git's HEAD.

    `outdated` says whether results are older than params.yaml, which then explains a difference.
    """
    if not git("rev-parse", "HEAD"):
        return "Not compared with committed results: there is no git repository or no commit here."
    now, committed = errors_by_cell(_on_disk(profile), _is_computed_here), errors_by_cell(_in_head(profile))
    both = now.keys() & committed.keys()
    differences = [abs(now[cell] - committed[cell]) for cell in both if now[cell] != committed[cell]]
    if not committed:
        return f"Not compared: no results of profile {profile} are committed."
    if not both and now:
        return f"Nothing to compare: the committed results do not have the {_words(now)} that were computed here."
    if not both:
        return "Nothing to compare: the committed results are shown, and none of them was computed again here."
    words = _words(both)
    of = "" if len(both) == len(committed) else f" that were computed here (of {len(committed)})"
    if not differences:
        return f"Compared with the committed results: all {len(both)} {words}{of} are equal."
    usual = "The usual reason, if params.yaml is as committed, is another processor or decoder (NOTES.md)."
    return (
        f"Compared with the committed results: {len(differences)} of {len(both)} {words}{of} differ, by up to "
        f"{max(differences):.1f} points. {'Some are older than params.yaml.' if outdated else usual}"
    )


def _words(cells: Collection[Cell]) -> str:
    """Return what the numbers of some cells are called."""
    measures = sum(measure == MEASURE for *_, measure in cells)
    return "errors" if not measures else "measures" if measures == len(cells) else "errors and measures"


def errors_by_cell(
    tables: Mapping[str, Mapping[str, Any]], keep: Callable[[Mapping[str, Any]], bool] = bool
) -> dict[Cell, float]:
    """Return the errors, or measures, in per cent of the rows of tables that are run and that `keep` accepts."""
    rows = ((name, row) for name, values in tables.items() for row in values.get("rows", ()))
    run = [(name, row) for name, row in rows if row["ours"] and keep(row)]
    return {
        (name, row_key(row), measure): value
        for name, row in run for measure, value in _numbers(name, row["ours"]).items()
    }  # fmt: skip


def _numbers(name: str, ours: Mapping[str, Any]) -> dict[str, float]:
    """Return a row's numbers in per cent: its errors, or the measure of another data set."""
    if name in OTHER_SETS:
        return {MEASURE: ours["value"]}
    return {measure: error["error"] for measure, error in ours.items()}


def row_key(row: Mapping[str, Any]) -> str:
    """Return the key of a row of a table's values, by which its ranks are named."""
    return ", ".join(row["label"].values())


def _is_computed_here(row: Mapping[str, Any]) -> bool:
    return all(map(_is_from_here, row["scores"]))


def _is_from_here(score: str) -> bool:
    """Return True if mode@run, or SVMs, were computed on this machine, by the record of their provenance."""
    return any(provenance_of(score, path) for path in _records(score))


def _records(score: str) -> list[Path]:
    """Return the files that may be the record of a stage of scores: SVMs are in the folder of their table."""
    if score.startswith(f"{CLASSIFY}-"):
        return [classified(name, *classified_by(score)).with_suffix(".json") for name in OTHER_SETS]
    return [errors_of(score)]


def _on_disk(profile: str) -> dict[str, Any]:
    return {name: read_table(profile, name) for name in TITLES if name not in NO_DATA}


def _in_head(profile: str) -> dict[str, Any]:
    return {name: _committed(table(profile, name)) for name in TITLES if name not in NO_DATA}


def _committed(path: Path) -> Mapping[str, Any]:
    """Return the JSON at `path` in git's HEAD; an empty one if there is none."""
    try:
        values: Mapping[str, Any] = json.loads(git("show", f"HEAD:./{path}"))
    except ValueError:
        return {}
    return values
