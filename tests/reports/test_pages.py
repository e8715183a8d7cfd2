"""The report: rendered from the committed numbers alone, every link and picture there, its head honest."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import Failure
from pipeline.experiment.validation import load
from pipeline.results.claims import Outcomes, ledger
from pipeline.results.profile_results import Results
from pipeline.results.resampled import TIMES, ResampledRow, ResampledSet, ResampledSets
from reports.charts import CHARTS
from reports.claims_page import READING, claims_page, claims_section, claims_summary, claims_table
from reports.index_page import first_screen, index_page
from reports.markdown import markdown
from reports.page import Callout, plain_text
from reports.page_parts import what_was_run
from reports.pages import render
from reports.readme import END, README, START, results_in_readme
from tests.support import ROOT
from tests.support.committed import counted


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The pages of the committed numbers, in a folder elsewhere."""
    place = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "reports/mini", place / "reports/mini", ignore=shutil.ignore_patterns("*.md", "*.png"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return render("mini", place / "elsewhere")[1]


def test_committed_numbers_are_enough_for_every_page(written: list[Path]) -> None:
    names = {path.name for path in written}
    assert {
        "README.md",
        "paper.md",
        "descriptors.md",
        "table11.md",
        "table12.md",
        "training.md",
        "mistakes.md",
        "images.md",
        "localisation.md",
        "shallow.md",
        "provenance.md",
        "claims.md",
        "seeds.md",
        *(f"table{number}.md" for number in range(1, 13)),
    } == names
    for page in written:
        for link in re.findall(r"\]\((?!https:)([^)]+)\)", page.read_text()):
            target = page.parent / link
            assert target.exists(), f"{page.name} links to {link}"
            assert target.suffix != ".png" or target.read_bytes().startswith(b"\x89PNG")


def test_the_head_says_that_small_runs_are_not_comparable(written: list[Path]) -> None:
    head = written[0].read_text()[:600]
    assert "not comparable with the paper's" in head


def test_tables_of_localisation_that_are_not_run_are_listed_with_their_command(clone: Path) -> None:
    results = Results("mini")
    results.tables = {name: values for name, values in results.tables.items() if name != "table9"}
    line = "Table 9, localisation error of dense evaluation: not run; `vgg-repro table 9` runs it"
    assert line in markdown(index_page(results, (), False))
    results.facts["source"] = "imagefolder"  # which has no boxes
    assert "not run; `vgg-repro table" not in markdown(index_page(results, (), False))


@pytest.mark.parametrize("comparable", [True, False])
def test_only_of_other_nets_or_images_a_verdict_is_said_not_to_be_about_the_papers_results(
    comparable: bool, clone: Path
) -> None:
    ledger, small = Results("mini").claims, not comparable
    warning = Callout("not comparable" if small else ())
    for page in (claims_page(ledger, warning), claims_section(ledger, small), claims_summary(ledger, small)):
        assert ("says nothing about the paper's own results" in markdown(page)) == (not comparable)


def test_every_ledger_says_how_to_read_its_signs_and_words(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = Results("mini").claims
    for page in (claims_page(values, Callout(())), claims_section(values, True), claims_summary(values, True)):
        text = markdown(page)
        assert f"{READING}\n\n| claim " in text
    monkeypatch.chdir(ROOT)
    assert f"{READING}\n\n| claim " in markdown(results_in_readme(Results("evening")))


def test_readmes_chart_has_a_text_made_from_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = markdown(results_in_readme(Results("evening")))
    assert text.startswith("![Error against depth. the paper, ILSVRC-2012, top-1 error in per cent: ")
    assert "](reports/evening/depth.png)\n" in text and "depth.png" not in re.sub(
        f"{START}.*{END}", "", README.read_text(), flags=re.DOTALL
    )


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        (
            "crops-and-dense",
            {"effect": -1.1, "low": -2.3, "high": -0.1, "p": 0.1},
            "p is multiplied by 4, the number of comp",
        ),
        ("crops-and-dense", {"effect": -1.1, "low": -2.3, "high": -0.1, "p": 0.3}, "p is of another test"),
        ("crops-and-dense", {"effect": 1.1, "low": 0.1, "high": 2.3}, "p is of another test"),
        ("depth-multiple", {"effect": -1.9, "low": -3.8, "high": -0.1}, "p is of another test"),
        ("saturation", {"effect": 0.9, "low": 0.1, "high": 1.7}, "p is of the margin of 1 point, not of 0"),
        ("depth-multiple", {"effect": -1.9, "low": -3.8, "high": 0.1}, ""),
    ],
)
def test_a_claim_undecided_although_its_interval_excludes_0_says_why(
    name: str, changes: dict[str, float], why: str, clone: Path
) -> None:
    values = Results("mini").claims
    entry = next(entry for entry in values["claims"] if entry["name"] == name)
    one = {**values, "margin": 1.0, "claims": [entry | changes | {"verdict": "undecided", "verdict_holm": "undecided"}]}
    ((*_, verdict),) = claims_table(one).rows
    said = plain_text(verdict)
    assert why in said and said.endswith(" points") == (not why)


def test_runs_that_did_not_learn_are_named_on_the_page_of_training(clone: Path) -> None:
    render("mini", clone / "out")
    page = clone / "out/mini/training.md"
    assert "did not learn" not in page.read_text()
    summary = clone / "reports/mini/runs/A-256.json"
    values = json.loads(summary.read_text())
    summary.write_text(json.dumps(values | {"stalled_epochs": values["epochs"]}))
    render("mini", clone / "out")
    found = re.search(r"their nets did not learn: A-256\..*start from one of them, [^:]*: (.*)\.", page.read_text())
    assert found and {"B-256", "C-256", "C-jitter", "D-384"} <= set(found[1].split(", "))
    assert not {"A-256", "A-LRN-256", "shallow-256"} & set(found[1].split(", "))


def test_the_index_traces_its_numbers(written: list[Path]) -> None:
    text = written[0].read_text()
    for word in ("| profile", "| data", "| seed", "| precision"):
        assert word in text


def test_rendering_twice_gives_the_same_bytes(clone: Path, draws_anew: None) -> None:
    for place in ("one", "two"):
        render("mini", clone / place)
    first, second = (
        {path.name: path.read_bytes() for path in (clone / place / "mini").iterdir()} for place in ("one", "two")
    )
    assert first == second


def test_what_is_missing_is_left_out(clone: Path) -> None:
    for name in (
        *(f"table{number}" for number in range(3, 13)),
        "shallow",
        "claims",
        "seeds",
        "illustrations",
        "localisation",
    ):
        (clone / f"reports/mini/{name}.json").unlink(missing_ok=True)
    shutil.rmtree(clone / "reports/mini/runs")
    assert {path.name for path in render("mini", clone / "out")[1]} == {
        "README.md",
        "paper.md",
        "table1.md",
        "table2.md",
        "provenance.md",
    }


def test_a_page_that_is_written_no_more_goes(clone: Path) -> None:
    folder = clone / "out/mini"
    render("mini", clone / "out")
    before = {path.name for path in folder.iterdir()}
    (clone / "reports/mini/table3.json").unlink()
    (clone / "reports/mini/shallow.json").unlink()
    shutil.rmtree(clone / "reports/mini/runs")
    render("mini", clone / "out")
    drawn = {f"{name}.{kind}" for name in ("depth", "shallow", "curves", "filters") for kind in ("png", "csv")}
    gone = {"table3.md", "shallow.md", "training.md", *drawn}
    assert {path.name for path in folder.iterdir()} == before - gone


def test_a_readers_own_files_stay(clone: Path) -> None:
    """Even those whose names a page or a picture could have."""
    shutil.rmtree(clone / "reports/mini/runs")
    for name in (
        "table3",
        "table4",
        "table5",
        "table6",
        "table11",
        "table12",
        "shallow",
        "illustrations",
        "localisation",
    ):
        (clone / f"reports/mini/{name}.json").unlink()
    (clone / "reports/mini/provenance.json").unlink()
    names = (
        "table3.md",
        "table4.md",
        "table5.md",
        "table6.md",
        "shallow.md",
        "training.md",
        *(name for chart in CHARTS for name in chart.files),
    )
    own = {name: f"my own {name}".encode() for name in names}
    own |= {"table99.md": b"my notes", "notes.md": b"see [All tables](README.md)\n", "sketch.png": b"\x89PNG"}
    folder = clone / "out/mini"
    folder.mkdir(parents=True)
    for name, content in own.items():
        (folder / name).write_bytes(content)
    render("mini", clone / "out")
    assert {name: (folder / name).read_bytes() for name in own} == own


def test_no_results_at_all_is_a_failure_with_a_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="vgg-repro prepare --profile mini, then vgg-repro run"):
        render("mini", tmp_path)


@pytest.mark.parametrize(
    ("path", "stage"),
    [("table3", "table3"), ("runs/D-384", "train@D-384"), ("scores/dense-D-jitter-fc", "dense@D-jitter-fc")],
)
def test_a_broken_result_is_named_with_the_stage_that_makes_it_again(path: str, stage: str, clone: Path) -> None:
    (clone / f"reports/mini/{path}.json").write_text("{")
    with pytest.raises(Failure, match=rf"{path}\.json is not valid JSON .* make it again with: dvc repro {stage}$"):
        render("mini", clone / "out")


def of_sets(gain: float) -> ResampledSets:
    """Return the measures of drawn scenes: descriptors averaged over Q are better by `gain` points."""
    spread = np.linspace(-0.3, 0.3, TIMES)
    rows = {
        f"drawn scenes, {net}, {how}": ResampledRow(50 + gain * (how == "average"), 50 + spread * (how == "average"))
        for net in "DE" for how in ("average", "stack")
    }  # fmt: skip
    return ResampledSets(rows, [ResampledSet("scenes", "scenes", "m", "", 240, 1)])


def test_a_claim_about_other_data_sets_names_its_measure_and_counts_no_images() -> None:
    text = markdown(claims_page(ledger(Outcomes({}, of_sets(0.2)), 1.0), Callout(())))
    row = next(line for line in text.splitlines() if line.startswith("| On VOC, descriptors averaged"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["B", "–"] and re.fullmatch(
        r"\+0\.2 \(-0\.\d to \+0\.\d\), mean AP, at 11 recalls: drawn scenes", cells[3]
    )
    assert cells[4] == "–" and "**supported**" in cells[6]
    assert "**1 is supported on images of other data sets (240 of drawn scenes), 0 contradicted" in text
    assert "2,000 resamples" in text and "McNemar" not in text, "no claim about the profile's own images is tested"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-3.79, -0.0072, "(-3.8 to -0.01)"),
        (0.041, 2.0, "(+0.04 to +2.0)"),
        (0.051, 2.0, "(+0.1 to +2.0)"),
        (-0.04, 2.0, "(+0.0 to +2.0)"),
        (0.0, 2.0, "(+0.0 to +2.0)"),
        (1e-9, 2.0, "(+0.0 to +2.0)"),
    ],
)
def test_an_interval_that_excludes_0_does_not_end_at_0_in_print(low: float, high: float, shown: str) -> None:
    values = ledger(Outcomes({}, of_sets(0.2)), 1.0)
    claim = next(claim for claim in values["claims"] if claim["name"] == "averaging")
    claim |= {"verdict": "undecided", "kind": "better", "effect": 1.0, "low": low, "high": high}
    row = next(
        line for line in markdown(claims_page(values, Callout(()))).splitlines() if "descriptors averaged" in line
    )
    assert f"+1.0 {shown}, mean AP" in row


def test_the_ledger_leads_to_the_tables_of_other_data_sets(written: list[Path]) -> None:
    text = next(path for path in written if path.name == "claims.md").read_text()
    assert "The measures of the data sets are in [Table 11](table11.md) and [Table 12](table12.md)." in text
    claims = json.loads((ROOT / "reports/mini/claims.json").read_text())
    table = json.loads((ROOT / "reports/mini/table11.json").read_text())
    assert "are in [Table 11](table11.md)." in markdown(claims_page(claims, Callout(()), {"table11": table}))


def test_a_claim_without_its_data_set_says_which_command_adds_one() -> None:
    values = ledger(Outcomes({}, of_sets(3.0)), 1.0)
    lines = markdown(claims_page(values, Callout(()))).splitlines()
    for sentence, source in (("On Caltech", "caltech101"), ("Image and bounding box", "actions")):
        (row,) = (line for line in lines if line.startswith(f"| {sentence}"))
        assert f"**not run**: `vgg-repro prepare {source} --path FOLDER`" in row
    (row,) = (line for line in lines if line.startswith("| On VOC"))
    assert "contradicted" in row and "+3.0" in row


def test_the_index_begins_with_what_was_run_the_verdict_the_ledger_and_the_deviations(clone: Path) -> None:
    text = render("mini", clone / "out", {}, load(ROOT / "params.yaml"))[1][0].read_text()
    first = (
        "14 networks were trained on 5,712 images of 51 classes and tested on 1,020 others. The images: ",
        f"Of the paper's 25 claims, **{counted()}**",
        "| claim ",
        "## Deviations from the paper",
        "- **Batch:** 16 images (the paper: 256 images)",
        "![Error against depth",
        "## Table 3.",
        "| mean RGB",
        "[Provenance](provenance.md)",
    )
    places = [text.index(part) for part in first]
    assert places == sorted(places) and places[1] < 1000


def test_without_parameters_the_index_compares_the_images_alone(clone: Path) -> None:
    text = markdown(first_screen(Results("mini")))
    assert "- **Classes:** 51 (the paper: 1,000)" in text and "**Batch:**" not in text


@pytest.mark.parametrize(
    ("published", "begins"),
    [
        ([], "No network is trained or scored yet. The images: "),
        (["D-jitter"], "1 network with published weights was tested on 1,020 images of 51 classes. The images: "),
        (["D-jitter", "E-jitter", "D-jitter"], "2 networks with published weights were tested on 1,020 images of "),
    ],
)
def test_without_training_it_is_said_whose_networks_were_tested(published: list[str], begins: str, clone: Path) -> None:
    results = Results("mini")
    results.summaries, results.scores = {}, [{"run": run, "published": {}} for run in published]
    assert what_was_run(results).startswith(begins)
