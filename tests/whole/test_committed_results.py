"""The committed results: their images, their ledger, and that README says what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiment.validation import load
from pipeline.results.profile_results import Results
from reports.pages import render
from reports.readme import PROFILE, README, results_in_readme, with_results
from stages.claims import current
from tests.support import ROOT

COMMITTED = ("mini", "evening")
POINTS = 2.0  # by which dense evaluation at Q = S may be worse than a centre crop at the same Q
SMALLEST = {"mini": 1_000, "evening": 3_000}  # validation images
MEGABYTES = 3  # of ranks in git


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository's folder, where paths of results begin."""
    monkeypatch.chdir(ROOT)


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text())


@pytest.mark.parametrize("profile", COMMITTED)
def test_there_are_enough_images_and_classes(profile: str) -> None:
    facts = Results(profile).facts
    assert facts["val"] >= SMALLEST[profile] and len(facts["classes"]) >= 50
    assert facts["grouped"]


@pytest.mark.parametrize("profile", COMMITTED)
def test_errors_leave_room_on_both_sides(profile: str) -> None:
    for name in ("table3", "table4", "table5"):
        for row in Results(profile).tables[name]["rows"]:
            assert 2 < row["ours"]["top1"]["error"] < 60, (name, row["label"])


@pytest.mark.parametrize("profile", COMMITTED)
def test_the_ledger_follows_from_the_committed_ranks(profile: str) -> None:
    ledger = Results(profile).claims
    assert ledger, "no ledger is shown"
    again = current(load(), profile)
    assert again["counts"] == ledger["counts"] and again["counts_holm"] == ledger["counts_holm"]
    for claim, computed in zip(ledger["claims"], again["claims"], strict=True):
        assert claim["sentence"] == computed["sentence"]
        numbers = {key: value for key, value in claim.items() if isinstance(value, float)}
        assert {key: computed[key] for key in numbers} == pytest.approx(numbers, abs=1e-6), claim["name"]
    ranks = list((ROOT / "reports" / profile / "ranks").glob("*.npz"))
    assert 0 < sum(path.stat().st_size for path in ranks) < MEGABYTES * 1e6


@pytest.mark.parametrize("profile", COMMITTED)
def test_dense_evaluation_is_not_worse_than_a_centre_crop_at_the_same_scale(profile: str) -> None:
    folder = ROOT / "reports" / profile
    runs = [path for path in (folder / "runs").glob("*.json") if (folder / f"scores/dense-{path.name}").exists()]
    assert len(runs) >= 14
    for path in runs:
        centre, dense = read(path)["centre_crop"], read(folder / f"scores/dense-{path.name}")["errors"]
        assert dense[str(centre["test_scale"])]["top1"] <= centre["top1"] + POINTS, path.stem


@pytest.mark.parametrize("profile", COMMITTED)
@pytest.mark.parametrize("name", ["table3", "table4", "table5", "table6", "table7", "shallow"])
def test_no_row_of_ours_is_missing_and_all_are_of_one_set_of_weights(profile: str, name: str) -> None:
    folder = ROOT / "reports" / profile
    table = read(folder / f"{name}.json")
    for row in table["rows"]:
        assert (row["ours"] is None) == (not row["runs"])
    for run, weights in table["weights"].items():
        summary = read(folder / f"runs/{run}.json")
        assert weights == summary["weights_sha256"] and summary["data"] == table["manifest"]


@pytest.mark.parametrize("profile", COMMITTED)
def test_the_committed_pages_are_those_of_the_committed_values(profile: str, tmp_path: Path) -> None:
    """Whichever profile is active and whatever dvc.lock holds; `data.md` and `provenance.md` know more than git."""
    folder, out = ROOT / "reports" / profile, tmp_path / profile
    out.mkdir()
    shutil.copy(folder / "data.md", out)
    _, written = render(profile, tmp_path, params=load())
    pages = [path for path in written if path.name != "provenance.md"]
    assert len(pages) >= 13
    for page in pages:
        assert page.read_text() == (folder / page.name).read_text(), f"render it: vgg-repro report, {page.name}"


def test_readme_says_what_the_committed_results_say() -> None:
    text = README.read_text()
    assert with_results(text, results_in_readme(Results(PROFILE))) == text, "run: make readme"
