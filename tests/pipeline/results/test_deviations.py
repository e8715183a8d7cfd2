"""The deviations from the paper: every parameter that shapes results is compared, and the images."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from pipeline.experiment.params import Block, Params
from pipeline.experiment.validation import load
from pipeline.results.deviations import SCHEDULES, UNSTATED, deviations
from tests.support import ROOT

FACTS: dict[str, Any] = {
    "comparable": False, "about": "cats & dogs", "train": 20, "val": 10, "classes": ["cat", "dog"], "stored": {},
}  # fmt: skip
ROUNDING = {"threads", "device", "processes", "shard_images", "max_unreadable"}  # they affect no result, or rounding
NO_DEVIATION = {
    "train": ROUNDING | {"seed"},
    "score": ROUNDING | {"batch"},
    "prepare": ROUNDING - {"device"},
    "net": set[str](),
}
OTHER = {
    "init": "glorot", "last_std": 0.5, "size_ratio": Fraction(3, 7), "width_ratio": Fraction(1, 8),
    "colour": "none", "precision": "tf32", "mean": "after_softmax", "remainder": "floor", "resize": "bicubic",
    "rescale": "none", "chroma": "4:2:0", "upright": True, "shared": "drop",
    "colour_profiles": "convert",
}  # fmt: skip


def names(profile: str, params: Params) -> set[str]:
    """Return what deviates."""
    return {deviation.what for deviation in deviations(profile, params, None)}


def changed(params: Params, block: str, values: dict[str, Any]) -> Params:
    """Return the parameters with a profile `other`, which is `paper` but for some values of a block."""
    paper = params.profiles["paper"]
    blocks = {block: getattr(paper, block).model_copy(update=values)}
    return params.model_copy(update={"profiles": {**params.profiles, "other": paper.model_copy(update=blocks)}})


def keys() -> list[tuple[str, str]]:
    """Return the blocks of a profile, each with its keys that shape results."""
    paper = load(ROOT / "params.yaml").profiles["paper"]
    blocks: dict[str, Block | None] = {"net": paper.net, "train": paper.train, "score": paper.score,
                                       "prepare": paper.prepare}  # fmt: skip
    return [
        (name, key)
        for name, block in blocks.items()
        for key in type(block).model_fields  # type: ignore[arg-type]
        if block and key not in NO_DEVIATION[name]
    ]


@pytest.mark.parametrize(("block", "key"), keys())
def test_every_parameter_that_shapes_results_is_compared(block: str, key: str) -> None:
    params = load(ROOT / "params.yaml")
    value = OTHER.get(key) or ("gpu" if key == "device" else 7)
    other = changed(params, block, {key: value})
    assert len(set(deviations("other", other, None)) - set(deviations("paper", params, None))) == 1


@pytest.mark.parametrize("key", ["learning_rate", "epochs", "first_drop"])
@pytest.mark.parametrize("recipe", ["scratch", "warm", "finetune", "jitter"])
def test_every_schedule_is_compared(recipe: str, key: str) -> None:
    params = load(ROOT / "params.yaml")
    recipes = params.profiles["paper"].recipes
    recipes = {**recipes, recipe: recipes[recipe].model_copy(update={key: 3})}
    other = params.profiles["paper"].model_copy(update={"recipes": recipes})
    params = params.model_copy(update={"profiles": {**params.profiles, "other": other}})
    assert len(names("other", params) - names("paper", params)) == 1


def test_the_decoder_is_the_one_that_the_data_name_whatever_is_installed_or_asked_for() -> None:
    params = load(ROOT / "params.yaml").model_copy(update={"decoder": "auto"})
    rows = deviations("mini", params, {**FACTS, "stored": {"decoder": "pillow"}})
    (row,) = [row for row in rows if row.what == "decoder"]
    assert row.ours == "simplejpeg and Pillow, on the CPU"
    assert row.paper == "not stated; profile paper: DALI, on the CPU"
    asked = params.model_copy(update={"decoder": "pillow"})
    assert not [row for row in deviations("mini", asked, FACTS) if row.what == "decoder"], "the data were made by DALI"


def test_rounding_and_speed_are_no_deviations() -> None:
    params = changed(load(ROOT / "params.yaml"), "train", {"threads": 3, "processes": 2, "device": "cpu", "seed": 9})
    assert names("other", params) == names("paper", params)


def test_the_papers_profile_deviates_in_the_precision_of_training_alone() -> None:
    assert deviations("paper", load(ROOT / "params.yaml"), None) == [
        ("precision of training", "bfloat16", "not stated; its framework: float32")
    ]


def test_minis_deviations_have_both_values_in_words() -> None:
    listed = {what: (ours, paper) for what, ours, paper in deviations("mini", load(ROOT / "params.yaml"), FACTS)}
    assert listed["images"] == ("cats & dogs", "photographs of ILSVRC-2012")
    assert listed["number of images"][0] == "20 for training, 10 for validation"
    assert listed["classes"] == ("2", "1,000")
    assert listed["width"] == ("1/8 of the channels", "all channels")
    assert listed["image size"] == ("crops of 96 pixels, all sizes times 3/7", "crops of 224 pixels")
    assert listed["training from random weights"][1] == "74 epochs at learning rate 0.01"
    assert {"batch", "dropout", "input scale", "initial weights", "precision of scoring"} < listed.keys()


def test_a_value_that_the_paper_does_not_state_is_marked_as_a_choice() -> None:
    papers = {what: paper for what, _, paper in deviations("mini", load(ROOT / "params.yaml"), FACTS)}
    assert papers["initial weights"] == "normal, variance 0.01; profile paper: normal, standard deviation 0.01"
    assert papers["learning-rate drops"].startswith("3, no rule stated; profile paper: up to 3, after 5 epochs")
    assert papers["training at S = 384"].startswith("learning rate 0.001, number of epochs not stated; profile paper: ")
    assert papers["training at jittered S"] == "not stated; profile paper: 37 epochs at learning rate 0.001"
    assert papers["remainder beyond 32-pixel cells"].startswith("not stated; profile paper: kept")
    assert papers["precision of scoring"] == "not stated; its framework: float32"
    assert (papers["batch"], papers["dropout"], papers["input scale"]) == ("256 images", "0.5", "mean subtracted")


def test_what_the_paper_does_not_state_are_parameters_that_can_deviate() -> None:
    params = load(ROOT / "params.yaml")
    found = set(SCHEDULES.values())
    for block, key in keys():
        value = OTHER.get(key) or ("gpu" if key == "device" else 7)
        found |= names("other", changed(params, block, {key: value}))
    assert UNSTATED.keys() <= found


def test_published_weights_are_not_trained_here() -> None:
    assert names("published", load(ROOT / "params.yaml")) == {"training", "precision of scoring"}


def test_images_are_compared_without_parameters_and_the_papers_images_are_none() -> None:
    assert [deviation.what for deviation in deviations("mini", None, FACTS)] == [
        "images",
        "number of images",
        "classes",
    ]
    assert deviations("mini", None, FACTS | {"comparable": True}) == deviations("mini", None, None) == []


def test_a_profile_that_params_yaml_no_longer_has_is_not_compared() -> None:
    params = load(ROOT / "params.yaml")
    without = params.model_copy(update={"profiles": {"mini": params.active}})
    assert deviations("gone", params, None) == deviations("mini", without, None) == []
