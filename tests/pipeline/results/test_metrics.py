"""The errors of all tables in one small file: rows by name, none of other scores, no table lost at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiment.paths import errors, metrics, table
from pipeline.results.metrics import write_metrics
from pipeline.system.atomic_files import write_json


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row(run: str, error: float | None, **label: str) -> dict[str, Any]:
    """A row of a table's JSON."""
    ours = None if error is None else {"top1": {"error": error}, "topk": {"error": 0.0}}
    return {"label": {"net": "D", **label}, "runs": [run], "scores": [f"dense@{run}"], "ours": ours}


def write_table(name: str, *rows: dict[str, Any]) -> None:
    """Write a table whose posteriors have the hash 1."""
    hashes = {score: "1" for row in rows for score in row["scores"]}
    write_json(table("mini", name), {"table": name, "k": 5, "rows": list(rows), "scores": hashes})


def written() -> Any:
    """The metrics after writing them."""
    write_metrics("mini")
    return json.loads(metrics("mini").read_text())


def test_rows_are_called_by_their_run_or_entry_and_rounded() -> None:
    write_table("table3", row("D-384", 4.40528))
    write_table("table5", row("D-jitter", 1.0, method="dense"), row("D-jitter", 2.0, method="multi-crop"))
    write_table("table7", row("E-jitter", 3.0, entry="VGG (1 net)"), row("other", None, entry="GoogLeNet"))
    write_json(table("mini", "table1"), {"table": "table1", "columns": []})
    assert written() == {
        "table3": {"D-384": {"top1": 4.41, "top5": 0.0}},
        "table5": {"D-jitter, dense": {"top1": 1.0, "top5": 0.0}, "D-jitter, multi-crop": {"top1": 2.0, "top5": 0.0}},
        "table7": {"VGG (1 net)": {"top1": 3.0, "top5": 0.0}},
    }


def test_a_row_of_other_scores_is_dropped_and_one_whose_scores_are_elsewhere_stays() -> None:
    write_table("table3", row("A-256", 1.0), row("D-384", 2.0), row("E-384", 3.0))
    write_json(errors("A-256", "dense"), {"posteriors_sha256": "1"})
    write_json(errors("D-384", "dense"), {"posteriors_sha256": "2"})
    assert set(written()["table3"]) == {"A-256", "E-384"}


def test_tables_that_are_made_at_once_are_all_there() -> None:
    names = [f"table{number}" for number in range(3, 8)]

    def make(name: str) -> None:
        write_table(name, row("D-384", 1.0))
        write_metrics("mini")

    for _ in range(5):
        with ThreadPoolExecutor() as threads:
            list(threads.map(make, names))
        assert set(json.loads(metrics("mini").read_text())) == set(names)
