"""The tables on disk compared with those that git's HEAD has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.experiment.paper_tables import NO_DATA, TITLES
from pipeline.experiment.paths import errors_of, table
from pipeline.results.provenance import git, provenance_of
from pipeline.results.tables import read_table

Cell = tuple[str, str, str]  # table, row, measure


def compared_with_head(profile: str, outdated: bool = False) -> str:
    """Return a sentence on how the errors that were computed here differ from those in git's HEAD.

    `outdated` says whether results are older than params.yaml, which then explains a difference.
    """
    if not git("rev-parse", "HEAD"):
        return "Not compared with committed results: there is no git repository or no commit here."
    now, committed = dict(_cells(_on_disk(profile), True)), dict(_cells(_in_head(profile), False))
    both = now.keys() & committed.keys()
    if not both:
        return "Not compared with committed results: none of them was computed here."
    of = "" if len(both) == len(committed) else f" that were computed here (of {len(committed)})"
    differences = [abs(now[cell] - committed[cell]) for cell in both if now[cell] != committed[cell]]
    if not differences:
        return f"Compared with the committed results: all {len(both)} errors{of} are equal."
    usual = "The usual reason, if params.yaml is as committed, is another kind of processor (NOTES.md)."
    return (
        f"Compared with the committed results: {len(differences)} of {len(both)} errors{of} differ, by up to "
        f"{max(differences):.1f} points. {'Some are older than params.yaml.' if outdated else usual}"
    )


def _cells(tables: Mapping[str, Mapping[str, Any]], computed_here: bool) -> Iterator[tuple[Cell, float]]:
    """Yield the errors in per cent of tables, if `computed_here` only of rows whose scores were computed here."""
    for name, values in tables.items():
        for row in values.get("rows", ()):
            if row["ours"] and (not computed_here or all(map(_is_from_here, row["scores"]))):
                for measure, error in row["ours"].items():
                    yield (name, json.dumps(row["label"], sort_keys=True), measure), error["error"]


def _is_from_here(score: str) -> bool:
    """Return True if mode@run was computed on this machine, by the record of its provenance."""
    return provenance_of(score, errors_of(score)) is not None


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
