"""The sizes of the nets as built: the same as those that a forward pass and the paper have."""

from __future__ import annotations

import pytest
import torch

from pipeline.experiment.validation import load
from pipeline.results.net_sizes import built, map_sizes, parameter_counts, score_map_side, stacks
from tests.support import ROOT
from vgg.nets import NETS, VGG, parameters
from vgg.score import central, whole_cells


@pytest.mark.parametrize(
    ("scale", "side"), [(224, 1), (256, 2), (288, 3), (352, 5), (384, 6), (416, 7), (512, 10)]
)  # docs/paper.md
@pytest.mark.parametrize("remainder", ["ceil", "even", "floor"])
def test_the_papers_score_maps_have_the_papers_sides(scale: int, side: int, remainder: str) -> None:
    assert score_map_side(scale, remainder=remainder) == side


@pytest.mark.parametrize("remainder", ["ceil", "even", "floor"])
@pytest.mark.parametrize("scale", [224, 288, 416, 512])
def test_a_score_map_here_is_as_large_as_a_forward_pass_makes_it(scale: int, remainder: str) -> None:
    size = load(ROOT / "params.yaml").profiles["mini"].net
    pixels = torch.zeros(1, 3, size.pixels(scale), size.pixels(scale))
    if remainder == "even":
        pixels = central(pixels, *[whole_cells(side, size.crop) for side in pixels.shape[2:]])
    net = VGG("A", 5, size.crop, 1 / 64, 4).eval()
    with torch.inference_mode():
        expected = net(pixels, ceil=remainder == "ceil").shape[-1]
    assert score_map_side(size.pixels(scale), size.crop, remainder) == expected


@pytest.mark.parametrize("net", NETS)
def test_the_parameters_are_those_of_the_modules(net: str) -> None:
    counts = parameter_counts(built(net, 1000))
    assert counts.total == parameters(net)
    assert counts.fully_connected == 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000


def test_the_maps_shrink_at_the_poolings_alone() -> None:
    sides = {size.part: (size.side, size.channels) for size in map_sizes(built("E", 1000))}
    assert sides["input"] == (224, 3) and sides["block 3"] == (28, 256) and sides["block 5"] == (7, 512)
    assert sides["fc1"] == sides["fc2"] == (1, 4096) and sides["fc3"] == (1, 1000)


def test_three_small_layers_have_27_of_the_49_parts_of_one_large_layer_where_channels_are_equal() -> None:
    *_, last = stacks(built("D", 1000))
    assert (last.three * 49, last.block) == (last.one * 27, 5)
