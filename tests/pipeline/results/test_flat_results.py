"""The flat rows: each cell of the tables, each further seed and each centre crop once, with the tables' own numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.experiment.run_names import is_localiser
from pipeline.results.flat_results import COLUMNS, flat_rows
from pipeline.results.profile_results import Results
from pipeline.results.provenance import record_provenance
from reports.flat_files import csv_text, flat_json
from tests.support.committed import RATES, add_seeds, change, committed

TABLES = ("table3", "table4", "table5", "table6", "table7", "shallow")
TEXTS = ("profile", "table", "row", "train_scale", "test_scale", "mode", "manifest")
WHOLE = ("seed", "wrong", "wrong_topk", "k", "images")


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return committed(tmp_path)


def read_back() -> pd.DataFrame:
    """Return results.csv of mini as a person reads it."""
    return pd.read_csv(io.StringIO(csv_text(Results("mini"))), dtype={"train_scale": str, "test_scale": str})


def test_pandas_reads_the_tables_values_cell_by_cell(mini: Path) -> None:
    frame = read_back()
    assert list(frame.columns) == list(COLUMNS)
    for name in TABLES:
        values = json.loads((mini / f"{name}.json").read_text())
        rows = frame[frame.table == name].to_dict("records")
        assert len(rows) == len(values["rows"])
        for row, entry in zip(rows, values["rows"], strict=True):
            check(row, entry, values)


def check(row: Any, entry: dict[str, Any], values: dict[str, Any]) -> None:
    """Compare a flat row with the table's entry: every number to the bit."""
    assert row["row"] == ", ".join(entry["label"].values()) and row["manifest"] == values["manifest"]
    for measure, wrong in (("top1", "wrong"), ("topk", "wrong_topk")):
        ours = (entry["ours"] or {}).get(measure, dict.fromkeys(("error", "low", "high", "wrong", "images")))
        flat = (row[measure], row[f"{measure}_low"], row[f"{measure}_high"], row[wrong], row["images"])
        assert [None if pd.isna(value) else value for value in flat] == list(ours.values())
    for name in ("top1_val", "top5_val", "top5_test"):
        printed = entry["paper"].get(name)
        assert pd.isna(row[f"paper_{name}"]) if printed is None else row[f"paper_{name}"] == printed
    if entry["runs"]:
        assert (row["runs"], row["seed"], row["weights"]) == (" ".join(entry["runs"]), values["seed"], "trained")
        assert row["mode"] == "+".join(dict.fromkeys(stage.split("@")[0] for stage in entry["scores"]))
    else:
        assert pd.isna(row["runs"]) and pd.isna(row["seed"]) and pd.isna(row["mode"])


def test_measures_of_other_data_sets_are_rows_with_their_own_columns(mini: Path) -> None:
    frame = read_back()
    values = json.loads((mini / "table11.json").read_text())
    wanted = {", ".join(row["label"].values()): row for row in values["rows"]}
    found = frame[frame.table == "table11"].set_index("row")
    assert list(found.index) == list(wanted)
    ours = found.loc["drawn few-shot classes, VGG Net-D & Net-E"]
    assert ours.value == pytest.approx(wanted[ours.name]["ours"]["value"])
    assert ours.value_std == pytest.approx(wanted[ours.name]["ours"]["std"])
    assert (ours.net, ours.data_set, ours.measure) == ("DE", "drawn few-shot classes", "mean class recall")
    assert (ours.aggregation, ours.test_scale, ours["mode"]) == ("stack", "256 384 512", "features")
    assert ours.manifest == values["sets"]["few-shot"]["manifest"]
    theirs = found.loc["Caltech-101, VGG Net-D (16 layers)"]
    assert (theirs.paper_value, theirs.paper_std) == (91.8, 1.0)
    assert found[["top1", "k", "images"]].isna().all(axis=None) and pd.isna(theirs.value)
    assert frame[~frame.table.isin(["table11", "table12"])].value.isna().all()


def test_labels_become_columns(mini: Path) -> None:
    rows = {(row.table, row.row): row for row in flat_rows(Results("mini"))}
    one = rows["table4", "D, 256-512, 256 384 512"]
    assert (one.net, one.train_scale, one.test_scale, one.mode) == ("D", "256-512", "256 384 512", "dense")
    both = rows["table5", "E, 256-512, 256 384 512, multi-crop & dense"]
    assert (both.net, both.mode) == ("E", "dense+crops")
    fused = rows["table6", "post-submission, D-jitter, E-jitter, dense"]
    assert (fused.net, fused.train_scale, fused.runs) == (None, None, "D-jitter E-jitter")
    shallow = rows["shallow", "shallow, 256, 256"]
    assert (shallow.mode, shallow.test_scale) == ("centre", "256")


def test_every_run_has_its_centre_crop_and_table_3_has_the_same(mini: Path) -> None:
    crops = {row.runs: row for row in flat_rows(Results("mini")) if row.table == "training"}
    assert set(crops) == {path.stem for path in (mini / "runs").glob("*.json") if not is_localiser(path.stem)}
    for run, row in crops.items():
        written = json.loads((mini / f"runs/{run}.json").read_text())["centre_crop"]
        assert (row.top1, row.top1_low, row.top1_high) == (written["top1"], written["top1_low"], written["top1_high"])
        assert row.topk == pytest.approx(written["topk"], rel=1e-12) and row.test_scale == str(written["test_scale"])
    for entry in json.loads((mini / "table3.json").read_text())["rows"]:
        if "centre" in entry:
            assert crops[entry["runs"][0]].top1 == entry["centre"]


def test_further_seeds_are_rows_and_the_first_is_the_tables(mini: Path) -> None:
    before = len(flat_rows(Results("mini")))
    add_seeds(mini)
    rows = flat_rows(Results("mini"))
    assert len(rows) == before + 4  # two errors and two centre crops
    of_a = [row for row in rows if row.table == "table3" and row.net == "A"]
    assert [(row.seed, row.runs) for row in of_a] == [
        (11, "A-256"), (12, "A-256-seed12"), (13, "A-256-seed13"),
    ]  # fmt: skip
    assert [row.top1 for row in of_a] == [RATES[str(row.seed)] for row in of_a]
    assert {(row.train_scale, row.test_scale, row.paper_top1_val) for row in of_a} == {("256", "256", 29.6)}
    assert [row.wrong for row in of_a] == [328, 306, 357]


def test_columns_have_one_type_each(mini: Path) -> None:
    frame = read_back().convert_dtypes()
    kinds = {name: str(frame[name].dtype) for name in frame.columns}
    assert {kinds[name] for name in TEXTS} <= {"string", "str"}
    assert {kinds[name] for name in WHOLE} == {"Int64"}
    assert {kinds[name] for name in COLUMNS if name.startswith(("top", "paper"))} <= {"Float64", "Int64"}


def test_json_has_the_same_rows_below_a_head(mini: Path) -> None:
    results = Results("mini", {"table4": "table4: method.table: 2, now 3"})
    document = json.loads(flat_json(results))
    assert document["rows"] == [vars(row) for row in flat_rows(results)]
    facts = json.loads((mini / "data/classification.json").read_text())
    assert (document["schema"], document["profile"]) == (1, "mini")
    assert document["data"]["manifest"] == facts["manifest"] and document["data"]["classes"] == len(facts["classes"])
    assert document["claims"] == json.loads((mini / "claims.json").read_text())["counts"]
    assert document["outdated"] == {"table4": "table4: method.table: 2, now 3"}


def test_a_row_that_is_not_run_has_the_papers_numbers_alone(mini: Path) -> None:
    change(mini / "table3.json", lambda values: values["rows"][0].update(ours=None))
    row = next(row for row in flat_rows(Results("mini")) if row.table == "table3")
    assert (row.top1, row.wrong, row.images, row.paper_top1_val) == (None, None, None, 29.6)


def test_verdicts_published_weights_and_commits_are_told(mini: Path) -> None:
    def judge(values: dict[str, Any]) -> None:
        row = values["rows"][0]
        row |= {"judged": {"top1_val": {"verdict": "worse"}}, "published": row["runs"]}

    change(mini / "table4.json", judge)
    record_provenance("table4", mini / "table4.json", "cpu", 1, 0.0)
    rows = [row for row in flat_rows(Results("mini")) if row.table == "table4"]
    assert (rows[0].verdict, rows[0].verdict_topk, rows[0].weights, rows[0].seed) == ("worse", None, "published", None)
    assert rows[0].commit == "unknown" and rows[1].weights == "trained"
    assert next(row for row in flat_rows(Results("mini")) if row.table == "table3").commit is None


def test_labels_of_any_alphabet_come_back(mini: Path) -> None:
    name = 'Ångström, "сеть"\nhere'
    change(mini / "table7.json", lambda values: values["rows"][3].update(label={"entry": name}))
    assert name in set(read_back().row)


def test_without_results_there_is_a_heading_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert csv_text(Results("mini")) == ",".join(COLUMNS) + "\n"
