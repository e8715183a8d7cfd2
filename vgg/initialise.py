"""Initial weights: random weights, and the deeper nets' warm start from net A (section 3.1)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vgg.nets import VGG

# Section 3.1: "the first four convolutional layers and the last three fully-connected layers" come from net A. By
# position they do not fit B to E, but by block they do: A's first four convolutions have these names in every net.
FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3")
KINDS = ("normal", "glorot", "he")


def randomise(net: VGG, kind: str, std: float, last_std: float | None, seed: int) -> None:
    """Draw all weights of `net` in place from zero-mean normals and set its biases to zero.

    `kind` is "normal" (standard deviation `std`), "glorot" (variance 2 / (fan-in + fan-out)) or "he" (2 / fan-in).
    `last_std`, if given, is the standard deviation of the last FC layer for every kind. Every layer has its own
    generator, keyed by `seed` and the layer's name, so that its weights do not depend on the layers before it. Raise
    ValueError for an unknown kind.
    """
    for name, layer in weighted(net).items():
        generator = torch.Generator().manual_seed(_key(seed, name))
        layer_std = last_std if name == "fc3" and last_std is not None else _std(layer, kind, std)
        values = torch.empty(layer.weight.shape, dtype=layer.weight.dtype)  # always contiguous and on the CPU
        nn.init.normal_(values, 0.0, layer_std, generator=generator)
        layer.weight.data.copy_(values)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def weighted(net: VGG) -> dict[str, nn.Conv2d]:
    """Return the layers of `net` that have weights, by name, first to last."""
    return {name: layer for name, layer in net.named_children() if isinstance(layer, nn.Conv2d)}


def _std(layer: nn.Conv2d, kind: str, std: float) -> float:
    area = math.prod(layer.kernel_size)
    # An FC layer stored as a convolution is applied once to a crop, so that each input feeds each output once.
    fan_in, fan_out = layer.in_channels * area, layer.out_channels * (1 if layer.padding == (0, 0) else area)
    stds = {"normal": std, "glorot": math.sqrt(2 / (fan_in + fan_out)), "he": math.sqrt(2 / fan_in)}
    if kind not in stds:
        raise ValueError(f"unknown initialisation {kind!r}; available: {', '.join(KINDS)}")
    return stds[kind]


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little", signed=True)


def warm_start(net: VGG, weights: Mapping[str, Tensor], same_net: bool, last: bool = True) -> list[str]:
    """Copy `weights`, a state dict, into `net` in place; return the names of the layers copied.

    From the same net all layers are copied; from net A (`same_net` false) those of FROM_A, and the rest stay as they
    are, and so does the last FC layer if `last` is false. Raise ValueError if a layer to be copied is missing or of
    another shape.
    """
    names = [name for name in (weighted(net) if same_net else FROM_A) if last or name != "fc3"]
    state = net.state_dict()
    for key in [f"{name}.{part}" for name in names for part in ("weight", "bias")]:
        if key not in weights:
            raise ValueError(f"the initial weights have no {key}")
        if weights[key].shape != state[key].shape:
            raise ValueError(
                f"the initial weights' {key} is {tuple(weights[key].shape)}; this net's is {tuple(state[key].shape)}"
            )
        state[key].copy_(weights[key])
    return names
