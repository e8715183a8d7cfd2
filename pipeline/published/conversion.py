"""A published net's tensors made those of a net of ours: each layer found by its name, each shape compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.experiment.params import NETS, Net
from pipeline.published.convention import Array, RawWeights
from pipeline.published.layer_names import FCS, names

Shape = tuple[int, ...]


def fit(foreign: RawWeights, net: str, size: Net) -> dict[str, NDArray[np.float32]]:
    """The weights of `net` at the profile's `size`, with as many classes as the file's net has.

    Failure, naming layers as the file does, if it is another net or one is missing, too many, misshapen or broken.
    """
    there = names(foreign.kind, net)
    _check_names(foreign, net, there)
    classes = _outputs(foreign, there[FCS[-1]])
    found = {}
    for name, shape in shapes(net, size, classes).items():
        layer, part = name.rsplit(".", 1)
        theirs = f"{there[layer]}.{part}"
        found[name] = _fitted(foreign, theirs, shape, net, layer in FCS)
    return found


def shapes(net: str, size: Net, classes: int) -> dict[str, Shape]:
    """The shape of every tensor of `net`, by our names."""
    import torch

    from vgg.nets import VGG

    with torch.device("meta"):
        built = VGG(net, classes, size.crop, float(size.width_ratio), size.fc)
    return {name: tuple(value.shape) for name, value in built.state_dict().items()}


def _check_names(foreign: RawWeights, net: str, there: Mapping[str, str]) -> None:
    """Failure if the file has not just the layers of `net`."""
    wanted = _tensors(there)
    others = [other for other in NETS if _looks_like(foreign, other)]
    if others and net not in others:
        raise Failure(f"{foreign.file} holds a net {' or '.join(others)}, not a net {net}")
    called = {theirs: ours for ours, theirs in there.items()}
    for name in sorted(wanted - set(foreign.tensors), key=_natural):
        layer, part = name.rsplit(".", 1)
        also = f" (our {called[layer]})" if called[layer] != layer else ""
        if any(f"{layer}.{one}" in foreign.tensors for one in ("weight", "bias")):
            raise Failure(f"the layer {layer}{also} in {foreign.file} has no {part}")
        raise Failure(f"{foreign.file} has no layer {layer}{also}, which net {net} has")
    if more := sorted(set(foreign.tensors) - wanted, key=_natural):
        normed = any(name.endswith("running_mean") for name in more)
        why = ": batch normalisation came after the paper" if normed else ""
        raise Failure(f"{foreign.file} has {_listed(more)}, which net {net} has not{why}")


def _looks_like(foreign: RawWeights, net: str) -> bool:
    """Whether the file has the layers of `net`, and no others, with kernels as large."""
    from vgg.nets import blocks

    there = names(foreign.kind, net)
    kernels = {there[layer.name]: layer.kernel for block in blocks(net) for layer in block if layer.kernel}
    return set(foreign.tensors) == _tensors(there) and all(
        foreign.tensors[f"{layer}.weight"].shape[2:] == (kernel, kernel) for layer, kernel in kernels.items()
    )


def _tensors(there: Mapping[str, str]) -> set[str]:
    """The tensors of layers that a file calls so."""
    return {f"{layer}.{part}" for layer in there.values() for part in ("weight", "bias")}


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts features.5 before features.12."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _outputs(foreign: RawWeights, layer: str) -> int:
    """The number of classes."""
    shape = _without_ones(foreign.tensors[f"{layer}.bias"].shape)
    if len(shape) != 1 or not shape[0]:
        raise Failure(f"{layer}.bias in {foreign.file} is of shape {_shown(foreign.tensors[f'{layer}.bias'].shape)}")
    return shape[0]


def _fitted(foreign: RawWeights, theirs: str, shape: Shape, net: str, full: bool) -> NDArray[np.float32]:
    """One tensor in our shape; `full`: of a fully connected layer, which may be stored as a matrix."""
    values = foreign.tensors[theirs]
    if values.shape not in set(_written(shape, full)):
        raise Failure(
            f"{theirs} in {foreign.file} is of shape {_shown(values.shape)}, and net {net} of this profile has "
            f"{_shown(shape)}"
        )
    found = np.ascontiguousarray(values.reshape(shape), np.float32)
    if not np.isfinite(found).all():
        raise Failure(f"{theirs} in {foreign.file} has values that are no finite numbers")
    return found


def _written(shape: Shape, full: bool) -> Iterator[Shape]:
    """The shapes that a tensor of ours may have in a file."""
    yield shape
    if len(shape) == 1:
        yield (1, 1, 1, *shape)  # a bias in Caffe's first blobs
    elif full:
        outward, inward = shape[0], int(np.prod(shape[1:]))
        yield outward, inward
        yield 1, 1, outward, inward


def _without_ones(shape: Shape) -> Shape:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _shown(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def reversed_input(first: Array) -> NDArray[np.float32]:
    """The first convolution (out, 3, h, w) with its input's channels in reverse: BGR becomes RGB."""
    return np.ascontiguousarray(first[:, ::-1])
