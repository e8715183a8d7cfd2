"""Each number of ours in the HTML report opens its explanation, by markup alone; what several share is there once."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiment.modes import PROTOCOLS
from pipeline.experiment.paper_tables import TITLES, number_of
from pipeline.experiment.paths import DataSet
from pipeline.experiment.validation import load
from pipeline.results.explanation import ExplainedScore
from pipeline.results.row_choice import choose, is_ours, row_names
from pipeline.results.tables import read_table
from pipeline.system.atomic_files import write_json
from reports.explain_panels import _score_facts
from reports.page_parts import row_panel
from reports.site import write_site
from tests.support import ROOT
from tests.support.committed import add_seeds, change, committed

BUTTON = re.compile(r'<button popovertarget="([^"]+)">([^<]+)</button>')
PANEL = re.compile(r'<div id="([^"]+)" popover role="dialog" aria-label="[^"]+" [^>]*>(.*?)</div>', re.S)
MOST = 165_000  # bytes that the panels may add to the report of mini


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini and dvc.lock in the current folder, without learning curves (slow)."""
    monkeypatch.chdir(tmp_path)
    return numbers_in(tmp_path)


def numbers_in(place: Path) -> Path:
    folder = committed(place, "dvc.lock")
    shutil.copy(ROOT / "reports/mini/provenance.json", folder)
    for path in folder.glob("*.csv"):
        path.unlink()
    return folder


def site() -> str:
    """Return the report of mini as HTML, with the explanations."""
    return write_site("mini", Path("out"), {}, load())[1].read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the committed numbers, with the explanations."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        numbers_in(place)
        return site()


def parts(text: str) -> tuple[str, dict[str, str]]:
    """Return a report without its panels, and the panels by name."""
    return PANEL.sub("", text), dict(PANEL.findall(text))


def words(panel: str) -> str:
    """Return a panel's words."""
    return " ".join(unescape(re.sub("<[^>]+>", " ", panel)).split())


def test_each_number_of_ours_opens_the_panel_that_explains_it(whole: str) -> None:
    text, panels = parts(whole)
    for table, rows in (("table3", 12), ("table4", 10), ("table5", 6), ("table6", 4), ("table7", 3), ("shallow", 2)):
        section = re.search(rf'<section id="{table}">(.*?)</section>', text, re.S)
        assert section
        numbers = BUTTON.findall(section[1])
        assert len(numbers) == 2 * rows, table
        assert all(number in words(panels[name]) for name, number in numbers)


def test_each_number_of_ours_on_other_data_sets_opens_its_panel(whole: str) -> None:
    text, panels = parts(whole)
    for table, count in (("table11", 6), ("table12", 2)):
        section = re.search(rf'<section id="{table}">(.*?)</section>', text, re.S)
        assert section
        numbers = BUTTON.findall(section[1])
        assert len(numbers) == count == len(dict(numbers)), table
        for name, number in numbers:
            measured = re.search(r"measure, % (.*?) examples", words(panels[name]))
            assert measured and measured[1].endswith(f": {number}")


def test_the_panel_of_a_measure_has_the_splits_the_features_and_the_command(whole: str, mini: Path) -> None:
    _, panels = parts(whole)
    said = words(panels["explain-table11-drawn-few-shot-classes-VGG-Net-D-Net-E"])
    splits = read_table("mini", "table11")["rows"][-1]["ours"]["splits"]
    for place, split in enumerate(splits, 1):
        assert f"split {place} 210 examples to train on, 42 to choose C, 168 to test." in said
        assert f"chosen C: {split['cost']:g}. Result: {split['value']:.1f} %" in said
    for part in (
        "The number is the mean over 3 random splits.",
        "stacked over Q = 256, 384, 512",
        "features@few-shot-D-jitter , features@few-shot-E-jitter network",
        "random-A → A-256 → E-256 → E-384 → E-jitter",
        "images 420 examples, 21 classes",  # the number of images is not in git
        "SVMs trained commit ",
        "changed since Nothing: dvc.lock",
        "in a terminal vgg-repro explain 11 ",
    ):
        assert part in said
    assert "the paper:" not in said and "network D-jitter weights, SHA-256" in words(
        panels["features-few-shot-D-jitter"]
    )
    assert "one on a canvas" in words(panels["dataset-few-shot"])


def test_images_are_counted_where_they_are_prepared(mini: Path) -> None:
    manifest = read_table("mini", "table12")["sets"]["boxed"]["manifest"]
    facts = json.loads((mini / "data/classification.json").read_text())
    write_json(DataSet("boxed").facts("mini"), facts | {"manifest": manifest, "val": 180})
    said = words(parts(site())[1]["dataset-boxed"])
    assert "180 images, 240 examples, 10 classes" in said


def test_without_the_record_of_its_svms_a_measure_has_still_its_protocol(mini: Path) -> None:
    (mini / "sets/svm-D@scenes.json").unlink()
    said = words(parts(site())[1]["explain-table11-drawn-scenes-VGG-Net-D-16-layers"])
    assert "Trained on its set train, tested on its set test. C is chosen on its set val" in said
    assert "random splits" not in said and "descriptor" not in said and "chosen C: " in said


def test_the_command_of_a_measures_panel_chooses_its_row(whole: str, mini: Path) -> None:
    _, panels = parts(whole)
    for table in ("table11", "table12"):
        rows = [row for row in row_names(read_table("mini", table), {}) if is_ours(row)]
        for row in rows:
            if row.runs:
                command = re.search(rf"explain {number_of(table)} (.*)$", words(panels[row_panel(table, row)]))
                assert command and choose(shlex.split(command[1]), rows, None) == [row]


def test_the_papers_number_stands_next_to_ours_with_what_it_differs_in(mini: Path) -> None:
    def compare(values: dict[str, Any]) -> None:
        values["sets"]["scenes"]["differs"] = ["networks"]
        next(row for row in values["rows"] if row["set"] == "scenes")["paper"] = {"value": 89.3, "std": None}

    change(mini / "table11.json", compare)
    _, panels = parts(site())
    said = words(panels["explain-table11-drawn-scenes-VGG-Net-D-16-layers"])
    assert "; the paper: 89.3, ≠ not comparable : the networks of profile mini are not the paper's" in said


def test_published_networks_of_a_measure_are_named_and_open_nothing(mini: Path) -> None:
    file = {"file": "vgg16.pth", "sha256": "ab" * 32, "known": None, "exported": None,
            "input": {"channels": "BGR", "range": 255.0, "mean": [1.0, 2.0, 3.0], "std": [1.0] * 3}}  # fmt: skip
    for path in [path for path in mini.glob("*.json") if path.name in {f"{name}.json" for name in TITLES}]:
        if path.name != "table11.json":
            path.unlink()
    change(mini / "table11.json", lambda values: values.update(published=dict.fromkeys(("D-jitter", "E-jitter"), file)))
    text, panels = parts(site())
    said = words(panels["explain-table11-drawn-scenes-VGG-Net-D-16-layers"])
    assert "Published weights" in said and "vgg16.pth , SHA-256" in said and "random-A" not in said
    assert "network D-jitter" in words(panels["features-scenes-D-jitter"])
    assert not any(name.startswith("explain-run-") for name in panels)
    opened = {name for panel in (text, *panels.values()) for name, _ in BUTTON.findall(panel)}
    assert opened == set(panels)


@pytest.mark.parametrize("mode", PROTOCOLS)
def test_the_panel_of_each_kind_of_score_says_how_it_was_evaluated(mode: str) -> None:
    """Boxes are scores, too; their tables are explained as the others are."""
    score = ExplainedScore(f"{mode}@D-384", "D-384", mode, (384,), {}, "", None, again=False, other_weights=False)
    assert ("evaluation", PROTOCOLS[mode]) in list(_score_facts(score, None, {}))


def test_a_panel_has_the_chain_the_scores_and_the_command(whole: str) -> None:
    _, panels = parts(whole)
    said = words(panels["explain-table4-D-256-512-256-384-512"])
    for part in (
        "138 of 1,020 images are wrong; the paper: 24.8",
        "random-A → A-256 → D-256 → D-384 → D-jitter",
        "dense@D-jitter , Q = 256 384 512",
        "Nothing: dvc.lock and params.yaml agree",
        "vgg-repro explain 4 D-jitter",
    ):
        assert part in said
    run = words(panels["explain-run-D-jitter"])
    assert "starts from D-384" in run and "batch 16" in run and "trained commit " in run
    assert "top-1 error at Q = 512, %" in words(panels["score-dense-D-jitter"])
    assert "seed 11" in words(panels["explain-run-random-A"])


def test_what_panels_open_exists_and_is_there_once(whole: str) -> None:
    text = whole
    opened, names = [name for name, _ in BUTTON.findall(text)], [name for name, _ in PANEL.findall(text)]
    assert len(names) == len(set(names)) and set(opened) == set(names)
    assert sum(name.startswith("explain-run-") for name in names) == 21, "14 runs, 4 localisers, 3 random weights"
    assert text.count("popovertargetaction") - text.count("[popovertargetaction]") == len(names), "each can be closed"


def test_a_further_seeds_number_has_its_own_panel(mini: Path) -> None:
    add_seeds(mini)
    _, panels = parts(site())
    assert "random-A-seed12 → A-256-seed12" in words(panels["explain-table3-A-256-256-seed-12"])


def test_numbers_that_are_not_ours_open_nothing(whole: str) -> None:
    text, panels = parts(whole)
    section = text[text.index('<section id="table7">') :]
    assert "GoogLeNet" in section and not any("GoogLeNet" in words(panel) for panel in panels.values())


def test_the_panels_are_small_and_never_printed(whole: str) -> None:
    text = whole
    without, panels = parts(text)
    assert panels and len(text) - len(without) < MOST
    printed = re.search(r"@media print {(.*?)\n}", text, re.S)
    assert printed and re.search(r"\[popover\][^{]*{ display: none; }", printed[1])


def test_of_a_profile_that_is_not_active_the_command_names_it(mini: Path) -> None:
    params = load()
    params = params.model_copy(update={"profile": "evening"})
    text = write_site("mini", Path("out"), {}, params)[1].read_text()
    assert "vgg-repro explain --profile mini 4 D-jitter" in text and "profile mini is not active" in text
