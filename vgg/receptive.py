"""Receptive fields (section 2.3), measured: the input pixels for which one output unit has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vgg.nets import VGG, blocks

NARROW = 1 / 512  # of the channels: one per layer, as a field does not depend on them
SIDE = 512  # of the input for a whole net, in pixels, which is larger than any field


def stack_field(kernels: Sequence[int], side: int) -> NDArray[np.float64]:
    """Return the gradient (side, side) of the middle output of stacked convolutions, each a mean over its kernel."""
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2).double() for kernel in kernels]
    return _gradient([_averaging(layer) for layer in layers], 1, side)


def net_field(net: str) -> tuple[str, int]:
    """Return the last convolution of a net and the side of its receptive field in pixels.

    Each convolution takes the mean over its kernel, and each pooling the mean over its window. With a maximum, the
    gradient of one image would reach only the pixels that are the largest in it.
    """
    built, last = VGG(net, 1, width=NARROW, fc=1).double(), blocks(net)[-1][-1].name
    layers: list[Callable[[Tensor], Tensor]] = []
    for name, layer in built.named_children():
        if isinstance(layer, nn.Conv2d):
            layers.append(_averaging(layer))
        elif isinstance(layer, nn.MaxPool2d):
            layers.append(nn.AvgPool2d(layer.kernel_size, layer.stride))
        if name == last:
            break
    return last, int((_gradient(layers, 3, SIDE).max(0) > 0).sum())


def _averaging(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with equal weights whose sum is 1."""
    nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    return layer


def _gradient(layers: Sequence[Callable[[Tensor], Tensor]], channels: int, side: int) -> NDArray[np.float64]:
    """Return the gradient (side, side) of the layers' middle output, summed over the input's channels.

    Raise ValueError if the field reaches the border, where padding could cut it off.
    """
    image = torch.zeros(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    values: Tensor = image
    for layer in layers:
        values = layer(values)
    height, width = values.shape[2:]
    (gradients,) = torch.autograd.grad(values[0, 0, height // 2, width // 2], image)
    gradient: NDArray[np.float64] = gradients[0].sum(0).numpy()
    if gradient[[0, -1]].any() or gradient[:, [0, -1]].any():
        raise ValueError(f"the receptive field reaches the border of {side} x {side} pixels")
    return gradient
