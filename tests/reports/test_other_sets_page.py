"""Tables 11 and 12 as pages: which numbers stand there, in which order, and which are not comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.facts import Facts
from pipeline.experiment.other_sets import PROTOCOLS, set_row
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, metrics
from pipeline.experiment.validation import load
from pipeline.results.comparison import row_key
from pipeline.results.metrics import write_metrics
from pipeline.results.other_sets import compute_other_sets
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import write_json
from reports.claims_page import claims_page
from reports.markdown import markdown
from reports.other_sets_page import other_sets_body
from reports.page import Callout
from reports.pages import render
from tests.support import ROOT


def test_a_set_that_was_prepared_anew_is_a_row_that_is_not_run(clone: Path) -> None:
    facts = json.loads((ROOT / "reports/mini/data/classification.json").read_text())
    write_json(DataSet("scenes").facts("mini"), facts | {"manifest": "another"})
    values = Results("mini").other_sets["table11"]
    ours = {row["set"]: row["ours"] for row in values["rows"] if row["set"]}
    assert ours["scenes"] is None and ours["few-shot"] is not None
    text = markdown(tuple(other_sets_body(values, {"svm-D@scenes": "its images"})))
    assert "`dvc repro svm-D@scenes`" in text and "87.3 ± 3.3" in text and "†" not in text


def test_only_the_claims_about_a_set_that_was_prepared_anew_are_not_tested(clone: Path) -> None:
    before = Results("mini").claims
    facts = json.loads((ROOT / "reports/mini/data/classification.json").read_text())
    write_json(DataSet("scenes").facts("mini"), facts | {"manifest": "another"})
    results = Results("mini")
    after = results.claims
    changed = [one["name"] for one, other in zip(after["claims"], before["claims"], strict=True) if one != other]
    assert changed == ["averaging"] and "claims" not in results.others
    assert "drawn scenes" not in after["sets"] and after["counts"]["not run"] == before["counts"]["not run"] + 1
    (row,) = (line for line in markdown(claims_page(after, Callout(()))).splitlines() if "On VOC" in line)
    assert "**not run**: `dvc repro claims`" in row
    write_metrics("mini")
    assert set(json.loads(metrics("mini").read_text())["table11"]) == {
        row_key(row) for row in results.other_sets["table11"]["rows"] if row["set"] == "few-shot"
    }


def test_claims_about_a_set_that_params_yaml_lost_are_not_tested(clone: Path) -> None:
    params = load(ROOT / "params.yaml")
    del params.datasets["boxed"]
    claims = {one["name"]: one["verdict"] for one in Results("mini", params=params).claims["claims"]}
    assert claims["image-and-box"] == "not run" and claims["averaging"] != "not run"


def test_the_pages_of_charts_of_claims_and_of_the_paper_name_what_is_not_comparable(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clone / "reports/mini/table11.json"
    values = json.loads(path.read_text())
    values["sets"]["scenes"]["differs"] = ["images"]
    path.write_text(json.dumps(values))
    pages = {page.name: page.read_text() for page in render("mini", clone / "out")[1]}
    for name in ("claims.md", "descriptors.md", "paper.md", "table11.md"):
        assert "drawn scenes (the images are not the published ones)" in pages[name], name


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters with VOC-2012 and Caltech-101 after the drawn sets, of which only facts are there."""
    monkeypatch.chdir(tmp_path)
    params = load(ROOT / "params.yaml")
    for name in ("voc2012", "caltech101"):
        params.datasets[name] = set_row(name, None)
    return params


def with_facts(params: Params, name: str, **changed: Any) -> dict[str, Any]:
    """Table 11 or 12's values of a set, whose images have the committed facts but for some."""
    facts = Facts(**json.loads((ROOT / "reports/mini/data/classification.json").read_text()))
    write_json(DataSet(name).facts(params.profile), {**facts.as_dict(), **changed})
    of_set: dict[str, Any] = compute_other_sets(params.datasets[name].table, params)["sets"][name]
    return of_set


def test_the_papers_sets_come_first_in_its_order_with_their_measures(params: Params) -> None:
    values = compute_other_sets("table11", params)
    titles = list(dict.fromkeys(row["label"]["data set"] for row in values["rows"]))
    papers = ["VOC-2007", "VOC-2012", "Caltech-101", "Caltech-256"]
    assert titles == [*papers, *(PROTOCOLS[name].title for name in ("scenes", "few-shot"))]
    text = page(values)
    assert "mean AP, area, val" in text and "mean AP, at 11 recalls, test" in text


def test_the_commands_for_what_is_not_run_stand_below_the_table_once_each(params: Params) -> None:
    lines = page(compute_other_sets("table11", params)).splitlines()
    assert not any("`" in line for line in lines if line.startswith("| "))
    (to_run,) = [line for line in lines if "not run: " in line]
    assert "VOC-2007: `vgg-repro prepare voc2007 --path FOLDER`; VOC-2012: `dvc repro svm-D@voc2012`, `dvc " in to_run
    assert to_run.count("voc2007") == 1 and to_run.count("@caltech101") == 3


@pytest.mark.parametrize(
    ("profile", "comparable", "name", "differs"),
    [
        ("paper", True, "caltech101", []),
        ("paper", False, "caltech101", ["images"]),
        ("paper", True, "voc2012", ["subset"]),
        ("mini", False, "voc2012", ["networks", "images", "subset"]),
        ("imagenette", True, "caltech101", ["networks"]),
        ("mini", False, "scenes", []),
    ],
)
def test_in_what_a_number_is_another_one_than_the_papers(
    profile: str, comparable: bool, name: str, differs: list[str], params: Params
) -> None:
    params = params.model_copy(update={"profile": profile})
    assert with_facts(params, name, comparable=comparable)["differs"] == differs


def test_published_networks_are_the_papers(params: Params) -> None:
    params = params.model_copy(update={"profile": "published", "weights": "published"})
    assert with_facts(params, "caltech101", comparable=True)["differs"] == []


def test_numbers_that_are_not_comparable_are_named_above_the_table(params: Params) -> None:
    with_facts(params, "voc2012", comparable=False, about="VOC-2012, but not the published data set: 9 images")
    values = compute_other_sets("table11", params)
    assert "Not comparable" not in page(values)  # nothing is run
    for row in values["rows"]:
        row["ours"] = {"value": 50.0, "std": None, "splits": []} if row["set"] == "voc2012" else None
    warning = next(line for line in page(values).splitlines() if "Not comparable" in line)
    assert "VOC-2012 (the networks of profile mini are not the paper's; the images are not the pub" in warning
    assert "the paper's number is of test images, ours of val" in warning and "Caltech" not in warning


def page(values: dict[str, Any]) -> str:
    return markdown(tuple(other_sets_body(values, {})))
