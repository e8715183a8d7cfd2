"""The errors of all tables and the verdicts on the claims as one file of numbers, which DVC's own commands compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.experiment.paper_tables import OTHER_SETS, TITLES
from pipeline.experiment.paths import claims, errors_of, metrics
from pipeline.results.comparison import row_key
from pipeline.results.other_sets import current_part, is_current
from pipeline.results.ranks import tested_hashes
from pipeline.results.tables import read_table
from pipeline.system.atomic_files import read_json, write_json
from pipeline.system.locks import in_turn

DIGITS = 2  # after the point: one image of 50,000 is 0.002 %


def write_metrics(profile: str) -> None:
    """Write the errors of the profile's tables and the verdicts on the claims, one process at a time.

    Rows whose scores have changed since are not written, and neither are verdicts on other tables.
    """
    path = metrics(profile)
    with in_turn(path.parent):
        values = {name: _measures(name, _table(profile, name)) for name in TITLES} | {"claims": _verdicts(profile)}
        write_json(path, {name: rows for name, rows in values.items() if rows})


def _table(profile: str, name: str) -> dict[str, Any]:
    """Return a table's values, without data sets that were prepared anew since; an empty dict if there is none."""
    values = read_table(profile, name)
    return current_part(values, partial(is_current, profile)) if values and name in OTHER_SETS else values


def _verdicts(profile: str) -> dict[str, int]:
    """Return how many claims have each verdict; nothing if they were tested on other tables than now."""
    path = claims(profile)
    ledger = read_json(path, "dvc repro claims") if path.exists() else {}
    return ledger["counts"] if ledger and ledger["ranks"] == tested_hashes(profile) else {}


def _is_another(score: str, posteriors: str) -> bool:
    """Return True if mode@run has other posteriors than those of this hash. A score that is not here is not another.

    In a fresh clone, and in the folder of an experiment of DVC's, tables from git are there without their scores.
    """
    try:
        return bool(json.loads(errors_of(score).read_text())["posteriors_sha256"] != posteriors)
    except (OSError, ValueError, KeyError):
        return False


def _measures(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's numbers in per cent by row: errors, or of another data set its measure."""
    if name not in OTHER_SETS:
        return _cells(values)
    return {row_key(row): round(row["ours"]["value"], DIGITS) for row in values.get("rows", ()) if row["ours"]}


def _cells(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's errors in per cent: by row, then top1 and topk."""
    cells: dict[str, Any] = {}
    for row in values.get("rows", ()) if "scores" in values else ():
        if row["ours"] and not any(_is_another(score, values["scores"][score]) for score in row["scores"]):
            errors = {"top1": row["ours"]["top1"]["error"], f"top{values['k']}": row["ours"]["topk"]["error"]}
            cells[_name(row)] = {name: round(error, DIGITS) for name, error in errors.items()}
    return cells


def _name(row: Mapping[str, Any]) -> str:
    """Return a row's name: D-384, or E-jitter multi-crop & dense, or that of an entry; its label if it has windows."""
    label = row["label"]
    if "scales" in row:
        return row_key(row)
    first = label.get("entry") or label.get("row") or row["runs"][0]
    return f"{first}, {label['method']}" if "method" in label else str(first)
