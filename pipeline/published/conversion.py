"""The conversion of a published net's tensors to one of our nets: layers are matched by name, shapes are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.experiment.params import NETS, Net
from pipeline.published.convention import WHOLE, Array, RawWeights
from pipeline.published.layer_names import FCS, names

Shape = tuple[int, ...]


class OtherNet(Failure):
    """A failure because a file has a complete net of the grid, but not the one that was asked for."""

    def __init__(self, file: Path, nets: Sequence[str], net: str) -> None:
        super().__init__(f"{file} contains a net {' or '.join(nets)}, not a net {net}")
        self.nets = nets


class OtherShape(Failure):
    """A failure because a layer has another number of channels than in the profile's nets."""


def matched_weights(raw: RawWeights, net: str, size: Net) -> dict[str, NDArray[np.float32]]:
    """Return the weights of `net` at the profile's `size`, with the number of classes of the file's net.

    Raise Failure, with the file's names of layers, if it is another net or a layer is missing, extra, misshapen or
    broken.
    """
    layer_names = names(raw.kind, net)
    _check_names(raw, net, layer_names)
    classes = _outputs(raw, layer_names[FCS[-1]])
    weights = {}
    for name, shape in shapes(net, size, classes).items():
        layer, part = name.rsplit(".", 1)
        theirs = f"{layer_names[layer]}.{part}"
        weights[name] = _reshaped(raw, theirs, shape, net, layer in FCS)
    return weights


def shapes(net: str, size: Net, classes: int) -> dict[str, Shape]:
    """Return the shape of every tensor of `net`, by our names."""
    from vgg.cost import bare_net

    return {name: tuple(value.shape) for name, value in bare_net(net, classes, *size.vgg_size).state_dict().items()}


def _check_names(raw: RawWeights, net: str, layer_names: Mapping[str, str]) -> None:
    """Raise Failure if the file does not have exactly the layers of `net`."""
    expected = _tensors(layer_names)
    if normed := sorted((name for name in raw.tensors if name.endswith("running_mean")), key=_natural):
        raise Failure(
            f"{raw.file} has batch normalisation ({_listed(normed)}), which came after the paper: import the net "
            "without it (torchvision's vgg16, not vgg16_bn)"
        )
    others = [other for other in NETS if _looks_like(raw, other)]
    if others and net not in others:
        raise OtherNet(raw.file, others, net)
    our_names = {theirs: ours for ours, theirs in layer_names.items()}
    for name in sorted(expected - set(raw.tensors), key=_natural):
        layer, part = name.rsplit(".", 1)
        also = f" (our {our_names[layer]})" if our_names[layer] != layer else ""
        if any(f"{layer}.{kind}" in raw.tensors for kind in ("weight", "bias")):
            raise Failure(f"the layer {layer}{also} in {raw.file} has no {part}")
        raise Failure(f"{raw.file} has no layer {layer}{also}, which net {net} has")
    if extra := sorted(set(raw.tensors) - expected, key=_natural):
        raise Failure(f"{raw.file} has {_listed(extra)}, which net {net} does not have")


def _looks_like(raw: RawWeights, net: str) -> bool:
    """Return True if the file has exactly the layers of `net`, with the same kernel sizes."""
    from vgg.nets import blocks

    layer_names = names(raw.kind, net)
    kernels = {layer_names[layer.name]: layer.kernel for block in blocks(net) for layer in block if layer.kernel}
    return set(raw.tensors) == _tensors(layer_names) and all(
        raw.tensors[f"{layer}.weight"].shape[2:] == (kernel, kernel) for layer, kernel in kernels.items()
    )


def _tensors(layer_names: Mapping[str, str]) -> set[str]:
    """Return the names of the tensors of a file's layers."""
    return {f"{layer}.{part}" for layer in layer_names.values() for part in ("weight", "bias")}


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts features.5 before features.12."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


def _outputs(raw: RawWeights, layer: str) -> int:
    """Return the number of classes. Raise Failure if the last bias is no vector."""
    shape = _without_ones(raw.tensors[f"{layer}.bias"].shape)
    if len(shape) != 1 or not shape[0]:
        raise Failure(f"{layer}.bias in {raw.file} has the shape {_shown(raw.tensors[f'{layer}.bias'].shape)}")
    return shape[0]


def _reshaped(raw: RawWeights, theirs: str, shape: Shape, net: str, full: bool) -> NDArray[np.float32]:
    """Return a tensor in our shape. `full` marks a fully connected layer, which may be stored as a matrix.

    Raise Failure if it has another shape or values that are not finite.
    """
    values = raw.tensors[theirs]
    if values.shape not in set(_stored_shapes(shape, full)):
        raise OtherShape(
            f"{theirs} in {raw.file} has the shape {_shown(values.shape)}, but net {net} of this profile has "
            f"{_shown(shape)}"
        )
    tensor = np.ascontiguousarray(values.reshape(shape), np.float32)
    finite = np.isfinite(tensor)
    if full and not finite.any():
        raise Failure(f"{raw.file} has only a net's features, and no classifier: {theirs} has no finite value. {WHOLE}")
    if not finite.all():
        raise Failure(f"{theirs} in {raw.file} has values that are not finite")
    return tensor


def _stored_shapes(shape: Shape, full: bool) -> Iterator[Shape]:
    """Yield the shapes that one of our tensors may have in a file."""
    yield shape
    if len(shape) == 1:
        yield (1, 1, 1, *shape)  # a bias in Caffe's first blob format
    elif full:
        outputs, inputs = shape[0], int(np.prod(shape[1:]))
        yield outputs, inputs
        yield 1, 1, outputs, inputs


def _without_ones(shape: Shape) -> Shape:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _shown(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def reversed_input(first: Array) -> NDArray[np.float32]:
    """Return the first convolution (out, 3, h, w) with its input channels reversed: BGR becomes RGB."""
    return np.ascontiguousarray(first[:, ::-1])
