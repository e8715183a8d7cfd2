"""Published nets as others write them: random nets on torchvision's code, and writers of every format they come in."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import safetensors.torch
import scipy.io
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import vgg as theirs

Array = NDArray[np.float32]
Layers = dict[str, tuple[Array, Array]]  # Caffe's name of a layer -> its weights (out, in, ...) and biases
State = dict[str, Tensor]
Pixels = NDArray[np.uint8]

WIDTH = 1 / 16  # of Table 1's channels
FC, CLASSES = 24, 11
SIDE = 224

# ---------------------------------------------------------------------- the nets themselves

BY_HAND = {  # the nets that torchvision does not have, as (kernel, channels), "LRN" and "M"; C's 1x1 is third
    "A-LRN": [(3, 64), "LRN", "M", (3, 128), "M", *[(3, 256)] * 2, "M", *([*[(3, 512)] * 2, "M"] * 2)],
    "C": [*[(3, 64)] * 2, "M", *[(3, 128)] * 2, "M", *[(3, 256)] * 2, (1, 256), "M"]
    + [*[(3, 512)] * 2, (1, 512), "M"] * 2,
    "shallow": [part for wide in (64, 128, 256, 512, 512) for part in ((5, wide), "M")],
}


def features(net: str, width: float = WIDTH, batch_norm: bool = False) -> nn.Sequential:
    """The convolutional part of `net`, made by torchvision where it has that net."""
    if net in theirs.cfgs:
        narrow = [part if part == "M" else round(part * width) for part in theirs.cfgs[net]]
        return theirs.make_layers(narrow, batch_norm=batch_norm)
    layers: list[nn.Module] = []
    channels = 3
    for part in BY_HAND[net]:
        if part == "M":
            layers.append(nn.MaxPool2d(2, 2))
        elif part == "LRN":
            layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2))  # Krizhevsky's, whose alpha is not / n
        else:
            kernel, out = part[0], round(part[1] * width)
            layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
            channels = out
    return nn.Sequential(*layers)


def blank(net: str, classes: int = CLASSES, width: float = WIDTH, fc: int = FC, batch_norm: bool = False) -> theirs.VGG:
    """torchvision's net with smaller Linear layers and whatever values they begin with, ready to be evaluated."""
    parts = features(net, width, batch_norm)
    with torch.device("meta"):  # its own Linear layers would fill 400 MB
        made = theirs.VGG(parts, init_weights=False)
    channels = [part for part in parts if isinstance(part, nn.Conv2d)][-1].out_channels
    sizes = [channels * 7 * 7, fc, fc, classes]
    for place, (inward, outward) in zip((0, 3, 6), pairwise(sizes), strict=True):
        made.classifier[place] = nn.Linear(inward, outward)
    return made.eval()


def random_net(net: str, rng: np.random.Generator, strength: float, **size: Any) -> theirs.VGG:
    """Random weights of He's variance and random biases, for an input of standard deviation `strength`.

    Half of a layer's filters are nearly the negatives of the other half: in so narrow a net all of them could
    otherwise be dead behind a ReLU.
    """
    made = blank(net, **size)
    last = made.classifier[6]
    with torch.no_grad():
        for layer in layers_with_weights(made):
            shape = layer.weight.shape
            half = rng.standard_normal((-(-shape[0] // 2), *shape[1:]))
            values = np.concatenate([half, 0.3 * rng.standard_normal(half.shape) - half])[: shape[0]]
            if layer is last:
                values = rng.standard_normal(shape)
            layer.weight.copy_(torch.from_numpy(values * np.sqrt(2 / np.prod(shape[1:]))))
            layer.bias.copy_(torch.from_numpy(rng.standard_normal(shape[0]) * 0.2 * strength))
    return made


def layers_with_weights(net: nn.Module) -> list[Any]:
    """Its layers with weights, first to last."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def layers(net: theirs.VGG) -> Layers:
    """The weights by the names of Caffe's VGG: conv1_1 ... conv5_3, fc6, fc7, fc8."""
    tensors: Layers = {}
    block, index = 1, 0
    for part in net.features:
        if isinstance(part, nn.MaxPool2d):
            block, index = block + 1, 0
        elif isinstance(part, nn.Conv2d):
            index += 1
            tensors[f"conv{block}_{index}"] = values(part)
    for number, place in ((6, 0), (7, 3), (8, 6)):
        tensors[f"fc{number}"] = values(net.classifier[place])
    return tensors


def values(layer: Any) -> tuple[Array, Array]:
    """A layer's weights and biases."""
    return layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()


def run(
    net: nn.Module, pixels: Pixels, channels: str, top: float, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """The outputs of `net` for RGB pixels (N, H, W, 3), 0..255, prepared as its publisher says."""
    x = pixels[..., ::-1] if channels == "BGR" else pixels
    x = (x * (top / 255) - np.array(mean)) / np.array(std)
    with torch.inference_mode():
        return net(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)))


# ---------------------------------------------------------------------- Caffe

DATA, CONVOLUTION, DROPOUT, INNER_PRODUCT, POOLING, RELU, SOFTMAX = (
    5,
    4,
    6,
    14,
    17,
    18,
    20,
)  # V1LayerParameter.LayerType
CAMEL = {5: "Data", 4: "Convolution", 6: "Dropout", 14: "InnerProduct", 17: "Pooling", 18: "ReLU", 20: "Softmax"}


def varint(value: int) -> bytes:
    """Protobuf's number of as many bytes as it needs."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def message(field: int, *content: bytes) -> bytes:
    """A field that is a message, a text or packed numbers."""
    body = b"".join(content)
    return varint(field << 3 | 2) + varint(len(body)) + body


def floats(array: Array, how: str = "packed") -> bytes:
    """BlobProto's data: "packed", "loose" (a tag each), in "chunks", or as "doubles"."""
    flat = np.ascontiguousarray(array, "<f4").reshape(-1)
    if how == "doubles":
        return message(8, flat.astype("<f8").tobytes())
    if how == "chunks":
        return b"".join(message(5, part.tobytes()) for part in np.array_split(flat, 3))
    if how == "loose":
        tagged = np.empty(flat.size, [("tag", "u1"), ("value", "<f4")])
        tagged["tag"], tagged["value"] = 5 << 3 | 5, flat
        return tagged.tobytes()
    return message(5, flat.tobytes())


def blob(array: Array, shaped: bool, how: str = "packed", diff: bool = False, last: bool = False) -> bytes:
    """BlobProto: with a shape, or the four old numbers; `last` puts the shape behind the data, as Caffe does."""
    if shaped:
        shape = message(7, message(1, *map(varint, array.shape)))
    else:
        four = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(number(field, size) for field, size in enumerate(four, 1))
    other = message(6, np.full(array.size, 9, "<f4").tobytes()) if diff else b""
    return floats(array, how) + other + shape if last else shape + floats(array, how) + other


def v1_layer(name: str, kind: int, blobs: Iterable[bytes] = (), bottom: str = "data") -> bytes:
    """A V1LayerParameter in its NetParameter."""
    rates = b"".join(varint(7 << 3 | 5) + struct.pack("<f", rate) for rate in (1, 2)) if blobs else b""
    settings = message(10, number(1, 64), number(3, 1)) if kind == CONVOLUTION else b""
    heads = message(2, bottom.encode()), message(3, name.encode()), message(4, name.encode()), number(5, kind)
    return message(2, *heads, *(message(6, values) for values in blobs), rates, settings)


def new_layer(name: str, kind: int, blobs: Iterable[bytes] = (), bottom: str = "data") -> bytes:
    """A LayerParameter in its NetParameter."""
    heads = message(1, name.encode()), message(2, CAMEL[kind].encode()), message(3, bottom.encode())
    rate = message(6, varint(3 << 3 | 5) + struct.pack("<f", 1)) if blobs else b""
    settings = message(106, number(1, 64), number(3, 1)) if kind == CONVOLUTION else b""
    return message(100, *heads, message(4, name.encode()), rate, *(message(7, values) for values in blobs), settings)


def caffemodel(
    net: Layers,
    layout: str = "V1",
    shaped: bool | None = None,
    how: str = "packed",
    diff: bool = False,
    last: bool = False,
    fc_as_conv: Sequence[str] = (),
    bare: bool = False,
    title: bytes | None = b"VGG_ILSVRC_16_layers",
) -> bytes:
    """NetParameter with the layers without weights around these; `bare`: nothing that comes behind fc8."""
    layer = v1_layer if layout == "V1" else new_layer
    shaped = layout != "V1" if shaped is None else shaped
    parts = [message(1, title) if title else b"", layer("data", DATA)]
    before = "data"
    for name, (weights, biases) in net.items():
        kind, array = INNER_PRODUCT if name.startswith("fc") else CONVOLUTION, weights
        if name in fc_as_conv:
            kind, array = CONVOLUTION, as_convolution(name, weights)
        if before[:5] != name[:5] and before.startswith("conv"):
            parts.append(layer(f"pool{before[4]}", POOLING))
        parts.append(layer(name, kind, [blob(array, shaped, how, diff, last), blob(biases, shaped, how, diff, last)]))
        if name != "fc8":
            parts.append(layer(f"relu{name[4:] if kind == CONVOLUTION else name[2:]}", RELU))
        if name in ("fc6", "fc7"):
            parts.append(layer(f"drop{name[2:]}", DROPOUT))
        before = name
    return b"".join(parts if bare else [*parts, layer("prob", SOFTMAX), message(999, b"a field nobody knows")])


def as_convolution(name: str, weights: Array) -> Array:
    """A fully connected layer's weights (out, in) as (out, in, k, k)."""
    side = 7 if name == "fc6" else 1
    return weights.reshape(len(weights), -1, side, side)


# ---------------------------------------------------------------------- MatConvNet


def cell(*items: object) -> NDArray[np.object_]:
    """MATLAB's cell array of one row."""
    made = np.empty((1, len(items)), object)
    for place, item in enumerate(items):
        made[0, place] = item
    return made


def matconvnet_layers(net: Layers, old: bool = False) -> NDArray[np.object_]:
    """A SimpleNN's layers; `old`: with the fields filters and biases."""
    dicts: list[dict[str, object]] = []
    before = ""
    for name, (weights, biases) in net.items():
        if before[:5] != name[:5] and before.startswith("conv"):
            dicts.append(_pool(f"pool{before[4]}"))
        four = as_convolution(name, weights) if name.startswith("fc") else weights
        dicts.append(_convolution(name, np.ascontiguousarray(four.transpose(2, 3, 1, 0)), biases, old))
        if name != "fc8":
            dicts.append({"type": "relu", "name": "relu" + name.removeprefix("conv").removeprefix("fc")})
        before = name
    return cell(*dicts, {"type": "softmax", "name": "prob"})


def _pool(name: str) -> dict[str, object]:
    sizes = {"pool": np.array([[2.0, 2.0]]), "stride": np.array([[2.0, 2.0]]), "pad": np.zeros((1, 4))}
    return {"type": "pool", "name": name, "method": "max", **sizes}


def _convolution(name: str, filters: Array, biases: Array, old: bool) -> dict[str, object]:
    pad = np.full((1, 4), 0.0 if name.startswith("fc") else filters.shape[0] // 2)
    made: dict[str, object] = {"type": "conv", "name": name, "pad": pad, "stride": np.array([[1.0, 1.0]])}
    if old:
        return {"filters": filters, "biases": biases.reshape(1, -1), **made, "filtersWeightDecay": 1.0}
    return {**made, "weights": cell(filters, biases.reshape(-1, 1)), "opts": np.empty((0, 0), object), "precious": 0.0}


def matconvnet(
    path: Path | IO[bytes],
    net: Layers,
    old: bool = False,
    compress: bool = False,
    image: NDArray[np.float32] | None = None,
    names: Sequence[str] | None = None,
    top: bool | None = None,
) -> None:
    """imagenet-vgg-verydeep-*.mat; `top`: normalization and classes at top level, as in old files."""
    top = old if top is None else top
    extra: dict[str, object] = {}
    if names is not None:
        words = cell(*(f"thing {place}" for place in range(len(names))))
        extra["classes"] = {"name": cell(*names), "description": words}
    if image is not None:
        extra["normalization"] = {
            "imageSize": np.array([[224.0, 224.0, 3.0]]),
            "keepAspect": 1.0,
            "averageImage": image,
            "interpolation": "bilinear",
        }
    content = {"layers": matconvnet_layers(net, old), **(extra if top else {"meta": extra} if extra else {})}
    scipy.io.savemat(path, content, do_compression=compress, long_field_names=True)


# ---------------------------------------------------------------------- PyTorch


def with_old_classifier(state: Mapping[str, Tensor]) -> State:
    """The names of VGG's first PyTorch files: classifier.1, 4 and 6."""
    old = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    return OrderedDict((old.get(name[:12], name[:12]) + name[12:], value) for name, value in state.items())


def with_timms_names(state: Mapping[str, Tensor]) -> State:
    """timm's: the first two Linear layers as convolutions under pre_logits, and the last as head.fc."""
    new = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    made = OrderedDict((new.get(name[:12], name[:12]) + name[12:], value) for name, value in state.items())
    for name, side in (("pre_logits.fc1.weight", 7), ("pre_logits.fc2.weight", 1)):
        if name in made:
            made[name] = made[name].reshape(len(made[name]), -1, side, side)
    return made


def with_our_names(net: Layers) -> State:
    """vgg.nets' own names and shapes."""
    made: State = OrderedDict()
    for name, (weights, biases) in net.items():
        ours = f"fc{int(name[2:]) - 5}" if name.startswith("fc") else name
        array = as_convolution(name, weights) if name.startswith("fc") else weights
        made[f"{ours}.weight"], made[f"{ours}.bias"] = torch.from_numpy(array.copy()), torch.from_numpy(biases.copy())
    return made


class Rebuilt:
    """A tensor that pickles as torch's first versions did, or with whatever sizes and strides are given."""

    def __init__(self, tensor: Tensor, function: str = "_rebuild_tensor", **changes: object) -> None:
        self.tensor, self.function, self.changes = tensor, function, changes

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        one = self.tensor
        fields = {"offset": one.storage_offset(), "size": tuple(one.size()), "stride": one.stride(), **self.changes}
        tail = () if self.function == "_rebuild_tensor" else (False, OrderedDict())
        return getattr(torch._utils, self.function), (one._typed_storage(), *fields.values(), *tail)


def torch_file(content: object, legacy: bool = False) -> bytes:
    """torch.save's bytes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def in_one_storage(state: Mapping[str, Tensor]) -> State:
    """The same values as views of a single storage, as nets that were flattened are saved."""
    whole = torch.cat([value.reshape(-1) for value in state.values()])
    parts = whole.split([value.numel() for value in state.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(state.items(), parts, strict=True)}


def prefixed(state: Mapping[str, Tensor], find: str, put: str) -> State:
    """The names with `find` at their beginning exchanged for `put`."""
    return OrderedDict((put + k.removeprefix(find) if k.startswith(find) else k, v) for k, v in state.items())


# ---------------------------------------------------------------------- safetensors and zips


def safetensors_file(state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """safetensors' own bytes."""
    return safetensors.torch.save({name: value.contiguous().clone() for name, value in state.items()}, metadata)


def with_header(file: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file whose header was changed, and its data not."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + file[8 + length :]


def with_entries(file: bytes, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip whose entries were changed, or left out for None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return buffer.getvalue()


def encrypted(file: bytes) -> bytes:
    """A zip that says of every entry that it is encrypted."""
    changed = bytearray(file)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for place in occurrences(file, mark):
            changed[place + at] |= 1
    return bytes(changed)


def occurrences(text: bytes, part: bytes) -> Iterator[int]:
    """Where `part` stands."""
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


# ---------------------------------------------------------------------- Keras


def kernels(net: Layers) -> Layers:
    """Keras's names and layouts: (h, w, in, out), and (in, out) over (y, x, channel)."""
    made: Layers = {}
    for name, (weights, biases) in net.items():
        if name.startswith("conv"):
            made[f"block{name[4]}_{name[:4]}{name[6:]}"] = weights.transpose(2, 3, 1, 0), biases
        elif name == "fc6":
            channels_last = as_convolution(name, weights).transpose(2, 3, 1, 0)
            made["fc1"] = channels_last.reshape(-1, len(weights)), biases
        else:
            made[{"fc7": "fc2", "fc8": "predictions"}[name]] = weights.T, biases
    return made


def keras_2(file: Path | IO[bytes], layers: Layers, form: str = "kernel:0", within: Sequence[str] = ()) -> None:
    """A file of Keras 1 and 2; `form`: how arrays are called, `within`: the groups and models around the layers."""
    with h5py.File(file, "w") as opened:
        root = opened
        if "model_weights" in within:
            opened.attrs["model_config"], opened.attrs["keras_version"] = "{}", "2.15.0"
            opened.create_group("optimizer_weights").create_dataset("iteration:0", data=3)
            root = opened.create_group("model_weights")
        models = [name for name in within if name != "model_weights"]
        names = [*models, "flatten"] if models else ["input_1", *layers, "flatten"]
        root.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            root.create_group(name).attrs["weight_names"] = np.array([], "S1")
        listed: dict[str, list[str]] = {}
        for name, arrays in layers.items():
            for part, array in zip(form.split(), arrays, strict=True):
                weight = part.replace("NAME", name) if "NAME" in part else f"{name}/{part}"
                group = models[0] if models else name
                listed.setdefault(group, []).append(weight)
                root[group][weight] = array
        for group, weights in listed.items():
            root[group].attrs["weight_names"] = np.array([weight.encode() for weight in weights])


def keras_3(file: Path | IO[bytes], layers: Layers, within: str = "layers", named: bool = False) -> None:
    """A .weights.h5 of Keras 3: layers by kind and number, with what optimizer and dropout keep."""
    counts = {4: 0, 2: 0}
    with h5py.File(file, "w") as opened:
        opened.create_group("vars")
        for place, array in enumerate([np.array(3), np.zeros((4, 4), np.float32)]):
            opened[f"optimizer/vars/{place}"] = array
        opened["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        opened.create_group("layers/flatten/vars")
        for name, arrays in layers.items():
            rank = arrays[0].ndim
            kind, number = {4: "conv2d", 2: "dense"}[rank], counts[rank]
            counts[rank] += 1
            group = opened.create_group(f"{within}/{kind}_{number}/vars" if number else f"{within}/{kind}/vars")
            if named:
                group.attrs["name"] = name
            for place, array in enumerate(arrays):
                group[str(place)] = array


def keras_archive(layers: Layers, **options: Any) -> bytes:
    """A .keras file."""
    weights, buffer = io.BytesIO(), io.BytesIO()
    keras_3(weights, layers, **options)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.4.1"}')
        archive.writestr("config.json", '{"module": "evil", "class_name": "Lambda"}')
        archive.writestr("model.weights.h5", weights.getvalue())
    return buffer.getvalue()
