"""vgg-repro bundle, and what --from renders from it in a folder with nothing else: the same pages to the byte."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.experiment.paths import errors, posteriors, provenance_record, ranks
from pipeline.results.bundle_file import write_bundle
from pipeline.results.ranks import Guesses, TableRanks, read_ranks
from pipeline.system.atomic_files import write_json
from tests.support import ROOT
from tests.support.program import program

EXAMPLES = {f"descriptors/{path.name}" for path in (ROOT / "reports/mini/descriptors").glob("*.npz")}
CROPS = {path.name for path in (ROOT / "reports/mini").glob("crops.*")}
VALUES = ("*.json", "*.npz")  # what the pages are rendered from


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The committed results of mini and evening, their pages and what DVC has recorded, without git and DVC."""
    folder = tmp_path / "clone"
    for profile in ("mini", "evening"):
        shutil.copytree(ROOT / "reports" / profile, folder / "reports" / profile)
    for name in ("params.yaml", "dvc.lock", "dvc.yaml", "CITATION.cff"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def succeed(folder: Path, *words: str) -> str:
    """Return what the program prints; its failure is the test's."""
    done = program(folder, *words)
    assert done.code == 0, done.error
    return done.out


def fail(folder: Path, *words: str) -> str:
    """Return the message of wrong usage."""
    done = program(folder, *words)
    assert done.code == 2 and not done.out, done
    return done.error


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is shown of a report: its pages, charts and their data, by name."""
    paths = [path for path in folder.iterdir() if path.is_file() and not any(map(path.match, VALUES))]
    return {path.name: path.read_bytes() for path in paths}


def names(bundle: Path) -> set[str]:
    """Return the names of a bundle's files."""
    with zipfile.ZipFile(bundle) as archive:
        return set(archive.namelist())


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["mini", pytest.param("evening", marks=pytest.mark.exhaustive)])
def test_a_bundle_gives_the_same_pages_and_charts_to_the_byte(profile: str, clone: Path, elsewhere: Path) -> None:
    """Of the active profile and of another; provenance.md and data.md are those of the machine that made them."""
    option = [] if profile == "mini" else ["--profile", profile]
    succeed(clone, "report", *option)
    bundle = elsewhere.parent / "results.zip"
    succeed(clone, "bundle", str(bundle), "--with-images", *option)
    succeed(elsewhere, "report", "--from", str(bundle), "--out", "pages")
    here, there = contents(clone / "reports" / profile), contents(elsewhere / "pages" / profile)
    assert len(here) > 25 and {"data.md", "provenance.md", "results.csv", *CROPS} <= here.keys()
    assert there == here

    (clone / "reports" / profile / "report.html").unlink(missing_ok=True)
    succeed(clone, "report", "--html", *option)
    succeed(elsewhere, "report", "--from", str(bundle), "--out", "html", "--html")
    page = clone / "reports" / profile / "report.html"
    assert (elsewhere / "html" / profile / "report.html").read_bytes() == page.read_bytes()
    assert [path.name for path in (elsewhere / "html" / profile).iterdir()] == ["report.html"]


def test_without_images_the_rest_is_the_same(clone: Path, elsewhere: Path) -> None:
    bundle = elsewhere / "mini.zip"
    succeed(clone, "bundle", str(bundle))
    succeed(elsewhere, "report", "--from", "mini.zip", "--out", "pages")
    succeed(clone, "report")
    here, there = contents(clone / "reports/mini"), contents(elsewhere / "pages/mini")
    drawn = {f"{name}.{kind}" for name in ("scales", "training-crops", "located", "merging") for kind in ("jpg", "csv")}
    examples = {"set-examples.jpg", "set-examples.csv"} & here.keys()
    assert here.keys() - there.keys() == CROPS | drawn | examples
    changed = {name for name in there if there[name] != here[name]}
    pages = {"images.md", "paper.md", "localisation.md", *["descriptors.md"] * bool(examples)}
    assert changed == {*pages, "scoremap.jpg"}  # which show images
    assert not any(name.endswith(".png") and "timeline" not in name for name in names(bundle))


def test_tables_claims_chains_and_rows_are_the_same(clone: Path, elsewhere: Path) -> None:
    succeed(clone, "bundle", str(elsewhere / "mini.zip"))
    for words in (
        ["claims"],
        ["explain", "4", "D", "256-512"],
        ["explain", "1"],
        ["report", "--format", "csv"],
        ["report", "--format", "json"],
    ):
        assert succeed(elsewhere, *words, "--from", "mini.zip") == succeed(clone, *words)
    text = succeed(elsewhere, "table", "5", "shallow", "--from", "mini.zip")
    assert text.startswith("## Table 5. ") and "## Section 4.1. " in text
    assert "explain --from mini.zip table3 D-256 " in fail(elsewhere, "explain", "3", "D", "--from", "mini.zip")
    assert [path.name for path in elsewhere.iterdir()] == ["mini.zip"]


def test_what_was_outdated_is_marked_in_both(clone: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = {
        "dense@D-256": "train@D-256: profiles.mini.train.batch: 32, now 64",
        "table7": "table7: method.table: 4, now 5",
    }
    monkeypatch.setattr("pipeline.orchestration.dvc_graph.outdated", lambda params: older)
    succeed(clone, "bundle", str(elsewhere / "mini.zip"))
    monkeypatch.undo()
    done = program(elsewhere, "report", "--from", "mini.zip", "--out", "pages", "--strict")
    assert done.code == 1 and re.search(r"2 of \d+ results were made with other parameters", done.error)
    assert "D †" in (elsewhere / "pages/mini/table3.md").read_text()
    assert "D †" in succeed(elsewhere, "table", "3", "--from", "mini.zip")
    assert "batch: 32, now 64" in succeed(elsewhere, "explain", "3", "D-256", "--from", "mini.zip")


def test_the_same_results_give_the_same_bytes(clone: Path) -> None:
    succeed(clone, "bundle", "one.zip")
    for path in clone.rglob("*.json"):
        path.touch()
    succeed(clone, "bundle", "two.zip")
    assert (clone / "one.zip").read_bytes() == (clone / "two.zip").read_bytes()


def test_a_bundle_has_values_alone_and_says_what_it_is(clone: Path) -> None:
    write_json(clone / "reports/mini/.hidden.json", {})
    (clone / "reports/mini/depth.csv").write_text("an older chart")
    succeed(clone, "bundle", "mini.zip")
    found = names(clone / "mini.zip")
    assert {"README.md", "params.yaml", "dvc.lock", "dvc.yaml", "CITATION.cff", "bundle.json"} <= found
    ours = {f"reports/mini/{name}" for name in ("ranks/table3.npz", "filters.npz", "runs/A-256.csv", "claims.json")}
    assert ours | {"reports/mini/provenance.json", "reports/mini/data/classification.json"} <= found
    assert not found & {"reports/mini/depth.csv", "reports/mini/.hidden.json", "reports/mini/table3.md"}
    assert not any(name.startswith("reports/evening") for name in found)


def test_provenance_recorded_here_is_packed_with_the_results_it_is_of(clone: Path, elsewhere: Path) -> None:
    records = json.loads((clone / "reports/mini/provenance.json").read_text())
    for stage in ("table3", "train@A-256"):
        write_json(clone / provenance_record(stage), records[stage])
    write_json(clone / provenance_record("table4"), records["table3"])  # of another file
    succeed(clone, "report")
    succeed(clone, "bundle", str(elsewhere / "mini.zip"))
    packed = {name for name in names(elsewhere / "mini.zip") if name.startswith("provenance/")}
    assert packed == {"provenance/table3.json", "provenance/train@A-256.json"}
    succeed(elsewhere, "report", "--from", "mini.zip", "--out", "pages")
    page = (elsewhere / "pages/mini/provenance.md").read_text()
    assert page == (clone / "reports/mini/provenance.md").read_text() and "train@A-256" in page


def score(clone: Path, run: str, profile: str) -> None:
    """Leave made-up posteriors of a run."""
    (clone / "scores").mkdir(exist_ok=True)
    np.savez(clone / posteriors(run, "dense"), labels=np.zeros(3))
    write_json(clone / errors(run, "dense"), {"profile": profile})


def test_posteriors_are_packed_if_asked_for_and_only_those_of_the_profile(clone: Path, elsewhere: Path) -> None:
    assert "no posteriors of profile mini here" in program(clone, "bundle", "mini.zip", "--with-posteriors").error
    assert not (clone / "mini.zip").exists()
    score(clone, "A-256", "mini")
    score(clone, "B-256", "evening")
    shutil.copyfile(clone / "reports/mini/scores/dense-A-256.json", clone / errors("A-256", "dense"))
    done = program(clone, "bundle", "mini.zip", "--with-posteriors")
    assert done.code == 0 and re.search(r"packing \d+ kB of posteriors", done.error)
    packed = {name for name in names(clone / "mini.zip") if name.startswith("scores/")}
    assert packed == {"scores/dense-A-256.npz", "scores/dense-A-256.json"}
    succeed(elsewhere, "report", "--from", str(clone / "mini.zip"), "--out", "pages")
    assert program(clone, "bundle", "e.zip", "--profile", "evening", "--with-posteriors").code == 1


def test_images_and_arrays_of_images_are_packed_if_asked_for(clone: Path) -> None:
    folder = clone / "reports/mini"
    photograph = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    photograph.save(folder / "photograph.jpg")
    encoded = np.frombuffer((folder / "photograph.jpg").read_bytes(), np.uint8)
    np.savez(folder / "encoded.npz", manifest=np.array("a"), image=encoded)
    np.savez(folder / "pixels.npz", pixels=np.zeros((2, 8, 8, 3), np.uint8))
    np.savez(folder / "numbers.npz", ranks=np.zeros((2, 3), np.uint8), groups=np.zeros(9, np.uint8))
    images = {
        f"reports/mini/{name}"
        for name in (
            "photograph.jpg",
            "encoded.npz",
            "pixels.npz",
            "illustrations.npz",
            "localisation.npz",
            *EXAMPLES,
            *CROPS,
        )
    }
    succeed(clone, "bundle", "without.zip")
    assert not names(clone / "without.zip") & images and "reports/mini/numbers.npz" in names(clone / "without.zip")
    succeed(clone, "bundle", "with.zip", "--with-images")
    assert names(clone / "with.zip") - names(clone / "without.zip") == images


def test_an_existing_file_is_kept_unless_it_may_be_replaced(clone: Path) -> None:
    (clone / "mini.zip").write_text("mine")
    assert "mini.zip exists; choose another name, or replace it with --force" in fail(clone, "bundle", "mini.zip")
    assert (clone / "mini.zip").read_text() == "mine"
    succeed(clone, "bundle", "mini.zip", "--force")
    assert "bundle.json" in names(clone / "mini.zip")
    assert "reports is a folder; name a file: vgg-repro bundle reports/results.zip" in fail(clone, "bundle", "reports")


def test_a_profile_without_results_or_of_no_name_is_refused(clone: Path) -> None:
    assert "there are no results of profile paper yet" in program(clone, "bundle", "x.zip", "--profile", "paper").error
    assert "unknown profile mni. Did you mean mini" in fail(clone, "bundle", "x.zip", "--profile", "mni")
    (clone / "dvc.yaml").unlink()
    assert "dvc.yaml is missing; restore it with: git checkout" in program(clone, "bundle", "x.zip").error
    assert not (clone / "x.zip").exists()


def test_what_from_needs_is_said(clone: Path, elsewhere: Path) -> None:
    succeed(clone, "bundle", str(elsewhere / "mini.zip"))
    assert "say where the pages go: " in fail(elsewhere, "report", "--from", "mini.zip")
    other = ("report", "--from", "mini.zip", "--out", "pages", "--profile", "evening")
    assert "the bundle has the results of profile mini, not of evening" in fail(elsewhere, *other)
    assert "there is no file absent.zip" in fail(elsewhere, "report", "--from", "absent.zip", "--out", "pages")
    (clone / "reports/mini/table6.json").unlink()
    succeed(clone, "bundle", str(elsewhere / "part.zip"))
    assert "the bundle has no table6" in fail(elsewhere, "table", "6", "--from", "part.zip")


def test_parameters_of_another_version_are_said_to_be_the_bundles(clone: Path, elsewhere: Path) -> None:
    changed = (clone / "params.yaml").read_bytes() + b"later: 1\n"
    head = {"profile": "mini", "outdated": {}}
    write_bundle(elsewhere / "later.zip", {"params.yaml": changed}, head, lambda _: b"")
    message = fail(elsewhere, "claims", "--from", "later.zip")
    assert "in the bundle: params.yaml: " in message and "later" in message and "Another version" in message


def test_the_bundle_of_the_papers_size_is_small(clone: Path) -> None:
    """50,000 images and 1,000 classes, all rows of all tables and three seeds: without posteriors a few megabytes."""
    rng = np.random.default_rng(0)
    images, classes = 50_000, 1_000
    labels = np.repeat(np.arange(classes), images // classes)
    for name in ("table3", "table4", "table5", "table6", "table7", "shallow", "seeds"):
        path = clone / ranks("mini", name)
        known = read_ranks(path, "")
        assert known
        keys = known.rows or {f"{seed}/table3/{row}": 0 for seed in (1, 2) for row in range(30)}
        guessed, probabilities = rng.integers(classes, size=(images, 5)), rng.random((images, 5)).astype(np.float16)
        guesses = Guesses("any", labels, guessed, probabilities, np.arange(24), ("val/image",) * 24)
        rows = {key: np.minimum(rng.geometric(0.75, images) - 1, classes - 1) for key in keys}
        TableRanks(rows, np.zeros(0, np.int64), known.manifest, guesses if known.guesses else None).write(path)
    succeed(clone, "bundle", "large.zip")
    size = (clone / "large.zip").stat().st_size
    print(f"{size / 1e6:.1f} MB")
    assert size < 20e6
