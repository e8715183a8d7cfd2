"""The profiles `paper`, `imagenette` and `published`: the paper's numbers, and a reason beside every value."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from tests.support import ROOT

PARAMS = ROOT / "params.yaml"
TRAINING_IMAGES = 1_281_167  # of ILSVRC-2012


@pytest.fixture
def params() -> Params:
    """The repository's parameters."""
    return load(PARAMS)


def test_paper_has_the_papers_numbers(params: Params) -> None:
    paper = params.profiles["paper"]
    assert (paper.net.crop, paper.net.width_ratio, paper.net.fc) == (224, Fraction(1), 4096)
    train = paper.train
    assert (train.batch, train.momentum, train.weight_decay, train.drops) == (256, 0.9, 0.0005, 3)
    assert (paper.net.dropout, paper.net.init, paper.net.input_scale, train.tail) == (0.5, "normal", 1.0, 0)
    rates = {name: recipe.learning_rate for name, recipe in paper.recipes.items()}
    assert (rates["scratch"], rates["warm"], rates["finetune"]) == (0.01, 0.01, 0.001)
    assert all(recipe.first_drop == 0 for recipe in paper.recipes.values())
    for name in ("scratch", "warm"):
        iterations = TRAINING_IMAGES // train.batch * paper.recipes[name].epochs
        assert iterations == pytest.approx(370_000, rel=0.001), "74 epochs are 370K iterations"
    assert [paper.net.pixels(q) for q in (224, 256, 288, 352, 384, 416, 512)] == [224, 256, 288, 352, 384, 416, 512]
    assert (paper.data.source, paper.data.limit, paper.prepare.shared, paper.prepare.upright) == (
        "ilsvrc2012", None, "keep", False,
    )  # fmt: skip


def test_paper_validates_in_batches_that_fill_a_gpu(params: Params) -> None:
    assert params.profiles["paper"].score.batch == 64


def test_imagenette_is_the_paper_but_for_what_is_scaled(params: Params) -> None:
    paper, small = params.profiles["paper"], params.profiles["imagenette"]
    assert small.score == paper.score.model_copy(update={"batch": 16})
    same = {"size_ratio", "width_ratio", "fc", "dropout"}
    assert small.net.model_dump(include=same) == paper.net.model_dump(include=same)
    same = {"momentum", "weight_decay", "drops", "patience", "colour", "precision"}
    assert small.train.model_dump(include=same) == paper.train.model_dump(include=same)


def test_published_scores_as_paper_does_and_trains_nothing(params: Params) -> None:
    paper, published = params.profiles["paper"], params.profiles["published"]
    assert published.score == paper.score.model_copy(update={"precision": "tf32", "batch": 16})
    assert (published.data.source, published.data.limit) == ("ilsvrc2012", None)
    same = {"size_ratio", "width_ratio", "fc"}
    assert published.net.model_dump(include=same) == paper.net.model_dump(include=same)
    same = {"upright", "max_aspect", "quality", "chroma", "shard_images", "max_unreadable"}
    assert published.prepare.model_dump(include=same) == paper.prepare.model_dump(include=same)
    assert (published.train, published.recipes, published.splits) == (None, {}, ("val",))


@pytest.mark.parametrize(("profile", "count"), [("paper", 35), ("imagenette", 35), ("published", 24)])
def test_every_value_has_its_section_or_its_reason(profile: str, count: int) -> None:
    (block,) = re.findall(rf"^  {profile}:\n((?:    .*\n|\n)+)", PARAMS.read_text(), re.M)
    values = [line for line in block.splitlines() if re.match(r" +\w+: \S", line) and not re.match(r" +\w+: #", line)]
    assert len(values) > count
    assert [line for line in values if not re.search(r"# \S.{2,}", line)] == []
