"""The claims as data: every cell is a row of its table, and the paper's effects follow from its printed numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.experiment.claims import CLAIMS, set_of, statistic
from pipeline.experiment.paper_tables import rows
from pipeline.experiment.params import InitialisationRuns, Params
from pipeline.experiment.validation import load

ROOT = Path(__file__).parents[3]
CELLS = sorted({cell for claim in CLAIMS for pair in claim.pairs for cell in pair if not claim.sets})


@pytest.fixture
def params() -> Params:
    """The repository's parameters, with section 3.1's initialisations."""
    params = load(ROOT / "params.yaml")
    block = InitialisationRuns(std=0.01, input_scale=1.0, nets=["A", "D", "E"])
    profile = params.active.model_copy(update={"initialisation": block})
    return params.model_copy(update={"profiles": {**params.profiles, params.profile: profile}})


def test_every_cell_of_a_claim_is_a_row_of_its_table_that_we_compute(params: Params) -> None:
    for cell in CELLS:
        found = [row for row in rows(cell.table, params) if row.key == cell.row]
        assert len(found) == 1 and found[0].runs, cell


def test_rows_of_a_table_have_keys_of_their_own(params: Params) -> None:
    for table in {cell.table for cell in CELLS} | {"table7"}:
        keys = [row.key for row in rows(table, params)]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("lrn", 29.6 - 29.7),
        ("depth-256", 29.6 - 27.3),
        ("context", ((28.1 - 27.0) + (28.1 - 26.8) + (27.3 - 25.6)) / 3),
        ("jitter", (28.1 + 27.0 + 27.3 + 28.1 + 26.8 + 26.9) / 6 - (27.3 + 25.6 + 25.5) / 3),
        ("test-scales", (28.7 - 28.2 + 28.1 - 27.7 + 28.1 - 27.8 + 27.3 - 26.3 + 27.0 - 26.6 + 26.8 - 26.5 + 25.6 - 24.8
                         + 27.3 - 26.9 + 26.9 - 26.7 + 25.5 - 24.8) / 10),
        ("shallow", 7.0),
        ("crops-and-dense", 24.6 - 24.4),  # the least of 24.8 - 24.4 and this, twice
        ("fusion", 24.6 - 23.9),  # the least of 24.8 - 24.0, this and 24.4 - 23.7, twice
        ("two-nets", 24.7 - 24.0),
        ("boxes-per-class", 36.4 - 34.3),
        ("all-layers", 34.3 - 33.1),
        ("image-and-box", 84.0 - 79.2),
    ],
)  # fmt: skip
def test_the_papers_effect_follows_from_its_printed_numbers(name: str, points: float) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    assert claim.paper == pytest.approx(points)


def test_the_paper_itself_agrees_with_the_direction_of_every_claim() -> None:
    for claim in CLAIMS:
        if claim.section == "3.1" or claim.name in ("averaging", "stacking"):
            assert claim.paper is None  # stated in words only
            continue
        assert claim.paper is not None
        assert claim.paper > 0 if claim.kind == "better" else claim.paper < 0.5


def test_claims_about_data_sets_have_the_papers_sets_and_others_that_stand_in() -> None:
    found = {claim.name: claim for claim in CLAIMS if claim.sets}
    assert {name: claim.sets for name, claim in found.items()} == {
        "averaging": ("voc2007", "voc2012"), "stacking": ("caltech101", "caltech256"), "image-and-box": ("actions",),
    }  # fmt: skip
    drawn = {name: {set_of(cell) for pair in claim.stand_ins for cell in pair} for name, claim in found.items()}
    assert drawn == {"averaging": {"scenes"}, "stacking": {"few-shot"}, "image-and-box": {"boxed"}}
    for claim in found.values():
        assert all(pair.first.row.split(", ")[:2] == pair.second.row.split(", ")[:2] for pair in claim.stand_ins)
    (first,) = found["image-and-box"].pairs
    assert (first.first.row, first.second.row) == (
        "VOC-2012 actions, DE, image only", "VOC-2012 actions, DE, image and bounding box"
    )  # fmt: skip
    assert found["averaging"].pairs[0].second.row == "VOC-2007, D, average", "what the sentence names first"
    assert found["stacking"].pairs[0].second.row == "Caltech-101, D, stack"


def test_a_statistic_names_its_measure_and_its_data_sets() -> None:
    assert statistic(["voc2007", "voc2012"]) == "mean AP, at 11 recalls: VOC-2007; mean AP, area: VOC-2012"
    assert statistic(["caltech101", "caltech256"]) == "mean class recall: Caltech-101, Caltech-256"


def test_names_are_unique_and_claims_in_the_papers_order() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert all(first.section <= second.section for first, second in pairwise(CLAIMS))


def test_the_documentation_lists_every_claim() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    for claim in CLAIMS:
        assert f"| `{claim.name}` | {claim.section} | {claim.sentence} |" in text, claim.name
