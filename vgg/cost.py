"""The arithmetic and memory that the nets need, counted from the modules before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod

import torch
from torch import nn

from vgg.nets import VGG, Dropout, LastLayer, LocalResponseNorm

BACKWARD = 2  # a backward pass has two products, with the weights and the inputs, each as large as the forward one
TRAINED_ALONE = ("fc1", "dropout1", "fc2", "dropout2", "fc3")  # with layers "fc"
GROWN = 2  # numbers kept for each trained weight in addition to it: its gradient and its momentum


@cache
def bare_net(net: str, classes: int, *size: float) -> VGG:
    """Return a net without values or memory for them, of the paper's size or of a crop, width and FC layers' size."""
    with torch.device("meta"):
        return VGG(net, classes, *size).eval()  # type: ignore[arg-type]


def forward_flops(net: VGG, height: int, width: int, ceil: bool = False) -> int:
    """Return the multiplications and additions of convolutions, FC layers and LRN for one image.

    The image has `height` x `width` pixels; `ceil` is as in `VGG.forward`. All other layers together need less than a
    hundredth of that.
    """
    flops = 0
    for _, layer, values in _maps(net, height, width, ceil):
        if isinstance(layer, nn.Conv2d):
            flops += 2 * layer.weight[0].numel() * values
        elif isinstance(layer, LocalResponseNorm):
            flops += 2 * layer.channels * values
    return flops


def training_flops(net: VGG, crop: int, layers: str = "all") -> int:
    """Return the operations for one training image: forward, and backward through all `layers` or only "fc"."""
    fc = sum(
        2 * weight.numel()
        for name, weight in net.named_parameters()
        if name in ("fc1.weight", "fc2.weight", "fc3.weight")
    )
    forward = forward_flops(net, crop, crop)
    return forward + BACKWARD * (forward if layers == "all" else fc)


def weight_count(net: VGG, layers: str = "all") -> int:
    """Return the number of weights and biases of all `layers` or, with "fc", of the FC layers only."""
    return sum(weight.numel() for name, weight in net.named_parameters() if layers == "all" or name.startswith("fc"))


def training_bytes(net: VGG, crop: int, batch: int, bfloat16: bool, layers: str = "all") -> int:
    """Return the bytes that one step of `batch` crops needs at least: weights, gradients, momentum, kept activations.

    The workspace of a library's fastest convolutions is not included; on a GPU leave a third more.
    """
    number = 2 if bfloat16 else 4
    maps = crop * crop * 3 * (number + 4 * bfloat16) * (layers == "all")  # the input and its rounded copy
    for name, layer, values in _maps(net, crop, crop):
        if layers == "all" or name in TRAINED_ALONE:
            maps += values * _kept(layer, number)
    trained = weight_count(net, layers)
    alive = 0 if layers == "all" else _widest(net, crop, crop, bfloat16)  # maps of the layers that are not trained
    rounded = (
        2 * bfloat16 * sum(weight.numel() for name, weight in net.named_parameters() if not name.startswith("fc3"))
    )
    return 4 * (weight_count(net) + GROWN * trained) + rounded + batch * (maps + alive)


def _kept(layer: nn.Module, number: int) -> int:
    """Return the bytes kept for the backward pass per value of a layer's map; a value itself has `number` bytes."""
    if isinstance(layer, LastLayer):
        return 4
    if isinstance(layer, nn.Conv2d):
        return number  # the ReLU works in place
    if isinstance(layer, nn.MaxPool2d):
        return number + 8  # plus the index of each maximum
    if isinstance(layer, Dropout):
        return number + 4  # plus the mask
    if isinstance(layer, LocalResponseNorm):
        return 4 * 4 + number % 4  # four maps in float32 and the rounded result
    return 0


def scoring_bytes(net: VGG, height: int, width: int, batch: int, bfloat16: bool, ceil: bool = False) -> int:
    """Return the bytes a forward pass of `batch` images of `height` x `width` pixels needs: weights and two maps."""
    return 4 * weight_count(net) + batch * _widest(net, height, width, bfloat16, ceil)


def _widest(net: VGG, height: int, width: int, bfloat16: bool, ceil: bool = False) -> int:
    """Return the bytes, for one image, of the largest map together with the map it is computed from."""
    widest, before = 0, 3 * height * width * 4
    for _, layer, values in _maps(net, height, width, ceil):
        if isinstance(layer, nn.ReLU | Dropout):  # works in place or does nothing
            continue
        after = values * (2 if bfloat16 and not isinstance(layer, LastLayer) else 4)
        passing = 2 * 4 * values * isinstance(layer, LocalResponseNorm)  # squares and sums in float32
        widest, before = max(widest, before + after + passing), after
    return widest


def _maps(net: VGG, height: int, width: int, ceil: bool = False) -> Iterator[tuple[str, nn.Module, int]]:
    """Yield the name of each layer, the layer, and the number of values in its map for one image."""
    for name, layer, shape in map_shapes(net, height, width, ceil):
        yield name, layer, prod(shape)


def map_shapes(
    net: VGG, height: int, width: int, ceil: bool = False
) -> Iterator[tuple[str, nn.Module, tuple[int, int, int]]]:
    """Yield the name of each layer, the layer, and the shape of its map for one image: channels, height, width."""
    channels = 3
    for name, layer in net.named_children():
        height, width = _size(layer, height, width, ceil)
        channels = getattr(layer, "out_channels", channels)
        yield name, layer, (channels, height, width)


def _size(layer: nn.Module, height: int, width: int, ceil: bool) -> tuple[int, int]:
    """Return the height and width of a layer's map from those of its input."""
    if isinstance(layer, nn.MaxPool2d):
        return (height + ceil) // 2, (width + ceil) // 2
    if isinstance(layer, nn.Conv2d):
        shrunk = layer.kernel_size[0] - 1 - 2 * int(layer.padding[0])
        return height - shrunk, width - shrunk
    return height, width
