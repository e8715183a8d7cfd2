"""The tables on disk compared with those that git's HEAD has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.experiment.paper_tables import NO_DATA, TITLES
from pipeline.experiment.paths import table
from pipeline.system.atomic_files import read_json

Cell = tuple[str, str, str]  # table, row, measure


def compared_with_head(profile: str) -> str:
    """Return a sentence on how the errors of the profile's tables differ from the committed ones."""
    if not _git("rev-parse", "HEAD"):
        return "Not compared with committed results: there is no git repository or no commit here."
    now, before = dict(_cells(profile, committed=False)), dict(_cells(profile, committed=True))
    both = now.keys() & before.keys()
    if not both:
        return f"Not compared with committed results: git's HEAD has no results of profile {profile}."
    differences = [abs(now[cell] - before[cell]) for cell in both if now[cell] != before[cell]]
    if not differences:
        return f"Compared with the committed results: all {len(both)} errors are equal."
    return (
        f"Compared with the committed results: {len(differences)} of {len(both)} errors differ, by up to "
        f"{max(differences):.1f} points. The usual reason, if params.yaml is as committed, is a different "
        "processor (NOTES.md)."
    )


def _cells(profile: str, committed: bool) -> Iterator[tuple[Cell, float]]:
    """Yield our errors of all tables, in per cent, on disk or in git's HEAD."""
    for name in TITLES:
        path = table(profile, name)
        values = _committed(path) if committed else read_json(path, f"dvc repro {name}") if path.exists() else {}
        for row in values.get("rows", ()) if name not in NO_DATA else ():
            for measure, error in (row["ours"] or {}).items():
                yield (name, json.dumps(row["label"], sort_keys=True), measure), error["error"]


def _committed(path: Path) -> Mapping[str, Any]:
    """Return the JSON at `path` in git's HEAD; an empty one if there is none."""
    try:
        values: Mapping[str, Any] = json.loads(_git("show", f"HEAD:./{path}"))
    except ValueError:
        return {}
    return values


def _git(*words: str) -> str:
    """Return what git prints; an empty string if it fails or does not exist."""
    try:
        return subprocess.run(("git", *words), capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
