"""The nets as they are built: the maps of a crop, their weights, and stacks of 3x3 layers against one 7x7 layer.

No pixel is computed: the nets are built without values, on torch's device `meta`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.experiment.params import CROP, Net
from vgg.cost import bare_net, map_shapes
from vgg.nets import VGG, blocks
from vgg.score import whole_cells

STACKED = "D"  # the net whose larger blocks are stacks of three 3x3 layers
ONE = 7  # side of the single filter that section 2.3 compares with three of 3x3


class MapSize(NamedTuple):
    """What leaves a part of a net for one crop."""

    part: str  # input, block 1, ..., fc3
    side: int  # of the map, in pixels
    channels: int


class Counts(NamedTuple):
    """How many weights and biases a net has, and how many of them in its fully connected layers."""

    total: int
    fully_connected: int


class Stack(NamedTuple):
    """The weights, without biases, of a block of three 3x3 layers, and of a single 7x7 layer in its place."""

    block: int
    inward: int  # channels
    outward: int
    three: int
    one: int


def built(net: str, classes: int, size: Net | None = None) -> VGG:
    """Return a net without values, at the size of a profile or, if there is none, of the paper."""
    return (
        bare_net(net, classes) if size is None else bare_net(net, classes, size.crop, float(size.width_ratio), size.fc)
    )


def map_sizes(net: VGG, crop: int = CROP) -> Iterator[MapSize]:
    """Yield the input and what leaves each block and each fully connected layer for a crop of this side."""
    yield MapSize("input", crop, 3)
    for name, _, (channels, side, _) in map_shapes(net, crop, crop):
        if name.startswith("pool") or name in ("fc1", "fc2", "fc3"):
            yield MapSize(name.replace("pool", "block "), side, channels)


def parameter_counts(net: VGG) -> Counts:
    """Return how many weights and biases a net has."""
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    return Counts(sum(sizes.values()), sum(size for name, size in sizes.items() if name.startswith("fc")))


def stacks(net: VGG) -> Iterator[Stack]:
    """Yield the blocks of three 3x3 layers of a net of STACKED's layers."""
    for number, block in enumerate(blocks(STACKED), 1):
        if len(block) == 3:
            weights = [net.get_parameter(f"{layer.name}.weight") for layer in block]
            inward, outward = weights[0].shape[1], weights[-1].shape[0]
            three = sum(weight.numel() for weight in weights)
            yield Stack(number, inward, outward, three, ONE * ONE * inward * outward)


def score_map_side(net: VGG, side: int, crop: int = CROP, remainder: str = "ceil") -> int:
    """Return the side of a net's map of class scores for a square image of this side, as dense evaluation computes it.

    `remainder` is as in params.yaml.
    """
    kept = whole_cells(side, crop) if remainder == "even" else side
    *_, (_, _, (_, height, _)) = map_shapes(net, kept, kept, remainder == "ceil")
    return height
