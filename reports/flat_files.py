"""All errors as text for programs: results.csv, and the same rows as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.results.flat_results import COLUMNS, flat_document, flat_rows
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import json_text

FLAT = "results.csv"


def csv_text(results: Results) -> str:
    """Return the rows as CSV with a heading; what does not exist is an empty cell."""
    return rows_text(COLUMNS, flat_rows(results))


def rows_text(columns: Sequence[str], rows: Iterable[Any]) -> str:
    """Return rows, dataclasses with these fields, as CSV with a heading."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(map(asdict, rows))
    return text.getvalue()


def flat_json(results: Results) -> str:
    """Return the rows as JSON, below a head; what does not exist is null."""
    return json_text(flat_document(results))
