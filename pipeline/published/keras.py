"""A reader of Keras's weights in HDF5: files of Keras 2, with or without the model around them, and of Keras 3.

HDF5's library can crash on a damaged file, so it runs in a separate process.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.errors import Failure
from pipeline.published.convention import CAFFE, WHOLE, Array, RawWeights
from pipeline.published.own_process import contents_of

INNER = "model.weights.h5"  # the weights in a .keras archive
APPLICATIONS = re.compile(r"block\d_conv\d|fc1|fc2|predictions")  # names of the layers of Keras's own VGG16 and VGG19
ADDED = re.compile(r"(.+?)(?:_(\d+))?")  # Keras adds a number to the second layer of a kind: dense, dense_1
COUNT = 2  # arrays of a layer: kernel and bias


class KerasLayer(NamedTuple):
    """A layer's kernel and bias as its file has them: (height, width, in, out) or (in, out), and (out,)."""

    name: str
    kernel: Array
    bias: Array


class _Unfit(Exception):
    """An error for a whole file that is no net of the paper. Its text follows the file's name."""


class KerasContents(NamedTuple):
    """The layers in a file in their order, or the reason in `wrong` if there are none."""

    layers: list[KerasLayer]
    wrong: str = ""


def read_keras(file: Path) -> RawWeights:
    """Return the net in a .h5, .weights.h5 or .keras file. Raise Failure if it is damaged or holds no whole net."""
    if find_spec("h5py") is None:
        raise Failure(f"{file} is Keras's: to read it, install h5py: python -m pip install 'h5py>=3.10'")
    found = contents_of(file, _contents).layers
    known = all(APPLICATIONS.fullmatch(layer.name) for layer in found)
    layers = found if known else _numbered(found)
    if not any(layer.kernel.ndim == 2 for layer in layers):
        raise Failure(f"{file} has a net's features but no classifier (notop). {WHOLE} (include_top=True)")
    tensors = dict(_tensors(file, layers))
    return RawWeights(file, "keras" if known else "numbered keras", tensors, CAFFE if known else None)


def _numbered(layers: list[KerasLayer]) -> list[KerasLayer]:
    """Name layers by kind and order as Keras does where nobody names them: conv2d, conv2d_1, ..., dense, ..."""
    kinds = {4: "conv2d", 2: "dense"}
    counts = dict.fromkeys(kinds, 0)
    named = []
    for layer in layers:
        rank = layer.kernel.ndim
        if rank in kinds:
            counts[rank] += 1
            number = counts[rank] - 1
            layer = layer._replace(name=f"{kinds[rank]}_{number}" if number else kinds[rank])
        named.append(layer)
    return named


def _tensors(file: Path, layers: list[KerasLayer]) -> Iterator[tuple[str, Array]]:
    """Yield the tensors in PyTorch's layout. Raise Failure if they are in Theano's layout, or no floating point."""
    channels = 0  # of the last convolution
    for layer in layers:
        kernel = layer.kernel
        if kernel.dtype.kind != "f" or layer.bias.dtype.kind != "f":
            raise Failure(f"{layer.name} in {file} is not in floating point")
        if kernel.ndim == 4:
            if not channels and kernel.shape[0] != kernel.shape[1]:  # (out, in, height, width)
                raise Failure(
                    f"{file} is in Theano's layout (th_dim_ordering): use the file whose name has "
                    "tf_dim_ordering_tf_kernels"
                )
            channels = kernel.shape[3]
            kernel = kernel.transpose(3, 2, 0, 1)
        elif kernel.ndim == 2:
            kernel, channels = _dense(kernel, channels), 0
        yield f"{layer.name}.weight", np.ascontiguousarray(kernel)
        yield f"{layer.name}.bias", layer.bias


def _dense(kernel: Array, channels: int) -> Array:
    """Return a dense layer's weights (out, in). The first one after a convolution reads (y, x, channel)."""
    inputs, outputs = kernel.shape
    side = round((inputs / channels) ** 0.5) if channels else 0
    if side * side * channels != inputs or not channels:
        return kernel.T
    return kernel.reshape(side, side, channels, outputs).transpose(3, 2, 0, 1)


def _contents(file: Path, crashed: bool) -> KerasContents:
    """Return what h5py reads from a file, or the reason in `wrong`."""
    import h5py

    try:
        with file.open("rb") as raw, h5py.File(_inner(raw) if raw.peek(2)[:2] == b"PK" else raw, "r") as opened:
            layers = [*_layers_of_keras_2(opened)] or [*_layers_of_keras_3(opened)]
        if not layers:
            raise _Unfit("has no layers with weights of a Keras model")
        return KerasContents(sorted(layers, key=lambda layer: layer.kernel.ndim != 4))  # convolutions first
    except _Unfit as reason:
        return KerasContents([], str(reason))
    except Exception as error:  # h5py raises any exception for a damaged file
        return KerasContents([], f"is a truncated or damaged Keras file ({' '.join(str(error).split())[:200]})")


def _inner(archive: IO[bytes]) -> IO[bytes]:
    """Return the weights in a .keras archive."""
    with zipfile.ZipFile(archive) as opened:
        return BytesIO(opened.read(INNER))


def _layers_of_keras_2(opened: Any) -> Iterator[KerasLayer]:
    """Yield the layers of a file that lists the names of layers and of their weights, in the model's order."""
    root = opened.get("model_weights", opened)
    for name in map(_text, root.attrs.get("layer_names", ())):
        arrays: dict[str, list[Array]] = {}  # by layer: a model within the model has the weights of several
        for weight in map(_text, root[name].attrs.get("weight_names", ())):
            layer = weight.split("/")[-2] if "/" in weight else name
            arrays.setdefault(layer, []).append(_array(root[name], weight))
        for layer, values in arrays.items():
            yield _layer(layer, values)


def _layers_of_keras_3(opened: Any) -> Iterator[KerasLayer]:
    """Yield the layers of a file that has each layer's arrays as vars/0, vars/1, without the optimizer's."""
    groups: list[Any] = []
    opened.visititems(lambda path, item: groups.append(item) if path.endswith("/vars") and len(item) else None)
    layers = (group for group in groups if not re.search(r"/(optimizer|seed_generator)\b", group.name))
    for group in sorted(layers, key=_place):
        name = _text(group.attrs.get("name", "")) or _parts(group)[-1]
        arrays = [_array(group, key) for key in sorted(group, key=int)]
        if any(array.ndim for array in arrays):  # a metric has only scalars
            yield _layer(name, arrays)


def _parts(group: Any) -> list[str]:
    parts: list[str] = group.name.strip("/").split("/")[:-1]
    return parts


def _place(group: Any) -> list[tuple[str, int]]:
    """Return a sort key that puts conv2d_2 before conv2d_10."""
    matches = [ADDED.fullmatch(part) for part in _parts(group)]
    return [(match[1], int(match[2] or 0)) for match in matches if match]


def _layer(name: str, arrays: list[Array]) -> KerasLayer:
    """Return a layer of a kernel and a bias. Raise _Unfit if it has other arrays."""
    if len(arrays) != COUNT or arrays[1].ndim != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise _Unfit(f"has a layer {name} with arrays of the shapes {shapes}, not a kernel and a bias")
    return KerasLayer(name, arrays[0], arrays[1])


def _array(group: Any, name: str) -> Array:
    """Return a data set of the file itself. Raise _Unfit if it is a link or its values are in another file."""
    import h5py

    place = group
    for part in name.strip("/").split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise _Unfit(f"has a link {part} in {group.name}, which may lead to another file")
        place = place[part]
    if place.external:
        raise _Unfit(f"has the values of {name} in another file")
    return np.asarray(place[()])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
