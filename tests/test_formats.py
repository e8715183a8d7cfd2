"""Published nets of every format against torchvision's code, and everything that such a file can have wrong with it."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import scipy.io
import torch
from foreign import CLASSES, FC, SIDE, Layers, Pixels
from pictures import ROOT, jpeg, photograph
from PIL import Image

from pipeline.errors import Failure
from pipeline.formats import Given, Imported, load
from pipeline.params import load as params
from vgg.nets import NETS, VGG

WIDTH = Fraction(foreign.WIDTH)
SIZE = params(ROOT / "params.yaml").profiles["paper"].net.model_copy(update={"width_ratio": WIDTH, "fc": FC})
NARROW = SIZE.model_copy(update={"width_ratio": Fraction(1, 32), "fc": 5})  # files of some 100 KB
CAFFE_BGR, CAFFE_RGB = (103.939, 116.779, 123.68), (123.68, 116.779, 103.939)
TORCHVISION, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ONE = (1.0, 1.0, 1.0)
# What a net's publisher does to a picture: order of the channels, largest value, mean, deviation.
CAFFES = ("BGR", 255.0, CAFFE_BGR, ONE)
MATCONVNETS = ("RGB", 255.0, CAFFE_RGB, ONE)
TORCHVISIONS = ("RGB", 1.0, TORCHVISION, DEVIATION)
CONVENTIONS = {
    "caffe": CAFFES, "matconvnet": MATCONVNETS, "torchvision": TORCHVISIONS, "caffe in pytorch": CAFFES,
    "timm": TORCHVISIONS,
}  # fmt: skip
# float32 sums of up to 1568 terms in 8 to 19 layers in another order, relative to the largest output
TOLERANCE = 1e-4
Theirs = Any
Write = Callable[[Path, Theirs], object]


# ---------------------------------------------------------------------- writing and comparing


def caffe(**options: Any) -> Write:
    """A writer of a caffemodel."""
    return lambda path, net: path.write_bytes(foreign.caffemodel(foreign.layers(net), **options))


def matlab(**options: Any) -> Write:
    """A writer of a MatConvNet file; scipy would put .mat behind a name without it."""

    def write(path: Path, net: Theirs) -> None:
        with path.open("wb") as file:
            foreign.matconvnet(file, foreign.layers(net), **options)

    return write


def pytorch(change: Callable[[foreign.State], object] = dict, legacy: bool = False, old: bool = False) -> Write:
    """A writer of torch.save's files; `old`: with the classifier's old names."""

    def write(path: Path, net: Theirs) -> None:
        state = foreign.with_old_classifier(net.state_dict()) if old else net.state_dict()
        path.write_bytes(foreign.torch_file(change(state), legacy))

    return write


def safetensors(
    change: Callable[[foreign.State], foreign.State] = dict, metadata: dict[str, str] | None = None
) -> Write:
    """A writer of safetensors."""
    return lambda path, net: path.write_bytes(foreign.safetensors_file(change(net.state_dict()), metadata))


def wrapped(key: str) -> Callable[[foreign.State], object]:
    """A training script's checkpoint with the net under `key`."""
    others = {"epoch": 74, "arch": "vgg16", "best_acc1": torch.tensor(71.5), "optimizer": {"state": {}, "lr": [0.01]}}
    return lambda state: {**others, key: OrderedDict(state)}


def converted(dtype: torch.dtype) -> Callable[[foreign.State], foreign.State]:
    """Every tensor as `dtype`."""
    return lambda state: {name: value.to(dtype) for name, value in state.items()}


def channels_last(state: foreign.State) -> foreign.State:
    """The convolutions' weights stored as (out, h, w, in)."""
    return {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()}


def rebuilt(state: foreign.State) -> dict[str, object]:
    """As torch 0.1 pickled tensors."""
    return {name: foreign.Rebuilt(value) for name, value in state.items()}


def parallel(state: foreign.State) -> foreign.State:
    """The names of a net whose features alone were in DataParallel, as ImageNet's training script had it."""
    return foreign.prefixed(state, "features.", "features.module.")


def all_parallel(state: foreign.State) -> foreign.State:
    """The names of a net in DataParallel."""
    return foreign.prefixed(state, "", "module.")


def parameters(state: foreign.State) -> object:
    """nn.Parameters, which pickle by another function."""
    return OrderedDict((name, torch.nn.Parameter(value)) for name, value in state.items())


CAFFE_WRITERS = {
    "caffe V1": caffe(),
    "caffe V1, shapes behind data": caffe(shaped=True, last=True),
    "caffe V1, loose floats": caffe(how="loose"),
    "caffe V1, fc6 as a convolution": caffe(fc_as_conv=("fc6",)),
    "caffe new": caffe(layout="new", last=True),
    "caffe new, loose floats": caffe(layout="new", how="loose"),
    "caffe new, floats in chunks": caffe(layout="new", how="chunks"),
    "caffe new, doubles": caffe(layout="new", how="doubles"),
    "caffe new, four old numbers": caffe(layout="new", shaped=False),
    "caffe new with diffs": caffe(layout="new", diff=True),
    "caffe new, all fc as convolutions": caffe(layout="new", fc_as_conv=("fc6", "fc7", "fc8")),
}
MATLAB_WRITERS = {
    "matconvnet weights": matlab(),
    "matconvnet filters": matlab(old=True),
    "matconvnet weights, compressed": matlab(compress=True),
}
TORCH_WRITERS = {
    "torchvision zip": pytorch(lambda state: state),
    "torchvision legacy": pytorch(lambda state: state, legacy=True),
    "torchvision under state_dict": pytorch(wrapped("state_dict")),
    "torchvision under model, legacy": pytorch(wrapped("model"), legacy=True),
    "torchvision under weights": pytorch(wrapped("weights")),
    "torchvision in DataParallel": pytorch(all_parallel),
    "torchvision, features in DataParallel, legacy": pytorch(parallel, legacy=True),
    "torchvision, features in DataParallel, under state_dict": pytorch(lambda s: wrapped("state_dict")(parallel(s))),
    "torchvision of torch 0.1": pytorch(rebuilt, legacy=True),
    "torchvision of torch 0.1 in a zip": pytorch(rebuilt),
    "torchvision, parameters": pytorch(parameters),
    "torchvision, channels last": pytorch(channels_last),
    "torchvision, one storage": pytorch(foreign.in_one_storage),
    "torchvision, one storage, legacy": pytorch(foreign.in_one_storage, legacy=True),
    "torchvision float64": pytorch(converted(torch.float64)),
    "torchvision float16": pytorch(converted(torch.float16), legacy=True),
    "torchvision bfloat16": pytorch(converted(torch.bfloat16)),
    "caffe in pytorch zip": pytorch(old=True),
    "caffe in pytorch legacy, torch 0.1": pytorch(rebuilt, legacy=True, old=True),
}
SAFE_WRITERS = {
    "torchvision safetensors": safetensors(),
    "torchvision safetensors float16": safetensors(converted(torch.float16)),
    "torchvision safetensors bfloat16": safetensors(converted(torch.bfloat16)),
    "torchvision safetensors float64": safetensors(converted(torch.float64)),
    "caffe in pytorch safetensors": safetensors(foreign.with_old_classifier),
    "timm safetensors": safetensors(foreign.with_timms_names, {"format": "pt"}),  # as Hugging Face's libraries write
}
WRITERS: dict[str, Write] = {**CAFFE_WRITERS, **MATLAB_WRITERS, **TORCH_WRITERS, **SAFE_WRITERS}
# One of each kind and container.
FEW = [
    "caffe V1", "caffe new", "matconvnet weights", "torchvision zip", "torchvision legacy", "caffe in pytorch zip",
    "torchvision safetensors", "timm safetensors",
]  # fmt: skip


def kind_of(writer: str) -> str:
    """The kind that a writer's file is of."""
    kinds = [kind for kind in CONVENTIONS if writer.startswith(kind)]
    return max(kinds, key=len)


def drawn(net: str, kind: str, rng: np.random.Generator, **size: Any) -> Theirs:
    """A random net for that kind's input: grey levels deviate by some 70, normalised pixels by 1."""
    return foreign.random_net(net, rng, 70 if CONVENTIONS.get(kind, CAFFES)[3] == ONE else 1, **size)


def pictures(rng: np.random.Generator) -> Pixels:
    """Noise, and something like a photograph: RGB, (2, SIDE, SIDE, 3)."""
    return np.stack([rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), photograph(rng, SIDE, SIDE)])


def ours(imported: Imported, net: str, pixels: Pixels) -> torch.Tensor:
    """The outputs of this project's net with the imported weights and normalisation."""
    made = VGG(net, len(imported.weights["fc3.bias"]), crop=SIZE.crop, width=float(WIDTH), fc=FC).eval()
    made.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in imported.weights.items()})
    return foreign.run(made, pixels, "RGB", 255.0, imported.mean_rgb, imported.deviation_rgb).flatten(1)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference relative to the largest output; each output must depend on the picture."""
    assert (wanted[0] - wanted[1]).abs().max() > 0.01 * wanted.abs().max(), "these weights lost the signal"
    return float((found - wanted).abs().max() / wanted.abs().max())


def check_outputs(imported: Imported, net: str, theirs: Theirs, rng: np.random.Generator, how: Any = None) -> None:
    """Our net with the imported weights gives the outputs of torchvision's on pictures prepared as `how` says."""
    for name, value in imported.weights.items():
        assert value.dtype == np.float32, name
    pixels = pictures(rng)
    wanted = foreign.run(theirs, pixels, *(how or CONVENTIONS[imported.kind]))
    assert apart(ours(imported, net, pixels), wanted) < TOLERANCE


def ids(rng: np.random.Generator, count: int = CLASSES) -> list[str]:
    """Distinct WordNet ids in random order."""
    numbers = rng.choice(90_000_000, count, replace=False)
    found = [f"n{number:08d}" for number in numbers]
    return found if found != sorted(found) else found[::-1]


def permuted(theirs: Theirs, order: Sequence[int]) -> Theirs:
    """The net whose output i is the old one's output order[i]."""
    made = foreign.blank("A")
    made.features, made.classifier[0], made.classifier[3] = theirs.features, theirs.classifier[0], theirs.classifier[3]
    last = torch.nn.Linear(FC, len(order))
    last.load_state_dict({name: value[list(order)] for name, value in theirs.classifier[6].state_dict().items()})
    made.classifier[6] = last
    return made


def refused(path: Path, *said: str, net: str = "D", given: Given | None = None, size: Any = SIZE) -> str:
    """The text of the Failure, which names the file and has every one of the patterns `said` in it."""
    with pytest.raises(Failure) as caught:
        load(path, net, size, given or Given())
    text = str(caught.value)
    assert path.name in text, text
    for pattern in said:
        assert re.search(pattern, text.replace(path.name, "")), f"no {pattern} in: {text}"
    return text


# ---------------------------------------------------------------------- the writers themselves


def test_the_reference_nets_are_torchvisions_own() -> None:
    """The narrow nets have torchvision's names, and at full width its shapes."""
    for net, name in (("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")):
        with torch.device("meta"):
            wide = foreign.blank(net, 1000, 1, 4096).state_dict()
            full = foreign.theirs.__dict__[name](init_weights=False).state_dict()
        assert {k: v.shape for k, v in wide.items()} == {k: v.shape for k, v in full.items()}


def test_the_comparison_fails_for_wrong_channels_mean_and_class_order(rng: np.random.Generator) -> None:
    net = drawn("D", "caffe", rng)
    pixels = pictures(rng)
    wanted = foreign.run(net, pixels, *CAFFES)
    again = foreign.blank("D")
    again.load_state_dict(net.state_dict())
    assert apart(foreign.run(again, pixels, *CAFFES), wanted) < TOLERANCE
    for wrong in (("RGB", 255.0, CAFFE_BGR, ONE), ("RGB", 255.0, CAFFE_RGB, ONE), ("BGR", 255.0, CAFFE_RGB, ONE)):
        assert apart(foreign.run(net, pixels, *wrong), wanted) > 10 * TOLERANCE
    torchvisions_mean = tuple(255 * value for value in reversed(TORCHVISION))  # within half a grey level of Caffe's
    assert apart(foreign.run(net, pixels, "BGR", 255.0, torchvisions_mean, ONE), wanted) > TOLERANCE
    assert apart(wanted[:, rng.permutation(np.roll(np.arange(CLASSES), 1))[::-1].copy()], wanted) > 10 * TOLERANCE


# ---------------------------------------------------------------------- files as they should be


@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_equal_torchvisions(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    kind, net = kind_of(writer), str(rng.choice(["A", "B", "D", "E"]))
    theirs = drawn(net, kind, rng)
    if "16" in writer:  # the file's values are rounded
        theirs = theirs.to(torch.bfloat16 if "bfloat16" in writer else torch.float16).float()
    WRITERS[writer](tmp_path / "published", theirs)
    imported = load(tmp_path / "published", net, SIZE)
    assert (imported.kind, imported.classes) == (kind, ())
    check_outputs(imported, net, theirs, rng)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("writer", FEW)
def test_every_net_of_the_grid_is_read_from_every_format(
    net: str, writer: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    kind = kind_of(writer)
    theirs = drawn(net, kind, rng, classes=int(rng.integers(2, 30)))
    WRITERS[writer](tmp_path / "published", theirs)
    imported = load(tmp_path / "published", net, SIZE)
    wanted = VGG(net, theirs.classifier[6].out_features, SIZE.crop, float(WIDTH), FC).state_dict()
    assert {k: v.shape for k, v in imported.weights.items()} == {k: tuple(v.shape) for k, v in wanted.items()}
    check_outputs(imported, net, theirs, rng)


def test_the_normalisation_is_the_kinds_in_grey_levels(tmp_path: Path, rng: np.random.Generator) -> None:
    for writer in FEW:
        net = drawn("A", kind_of(writer), rng)
        WRITERS[writer](tmp_path / "published", net)
        imported = load(tmp_path / "published", "A", SIZE)
        channels, top, mean, deviation = CONVENTIONS[imported.kind]
        turn = -1 if channels == "BGR" else 1
        assert imported.mean_rgb == pytest.approx([255 / top * value for value in mean][::turn], rel=1e-6), writer
        assert imported.deviation_rgb == pytest.approx([255 / top * value for value in deviation][::turn], rel=1e-6)


def test_caffes_channels_are_reversed_and_no_others(tmp_path: Path, rng: np.random.Generator) -> None:
    for writer in FEW:
        kind = kind_of(writer)
        net = drawn("A", kind, rng)
        WRITERS[writer](tmp_path / "published", net)
        first = foreign.layers(net)["conv1_1"][0]
        found = load(tmp_path / "published", "A", SIZE).weights["conv1_1.weight"]
        assert np.array_equal(found, first[:, ::-1] if CONVENTIONS[kind][0] == "BGR" else first), writer


@pytest.mark.parametrize("writer", [*FEW, "caffe in pytorch safetensors", "torchvision of torch 0.1"])
def test_the_kind_is_told_by_the_content(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", kind_of(writer), rng)
    WRITERS[writer](tmp_path / "published", net)
    content = (tmp_path / "published").read_bytes()
    names = ["caffemodel", "mat", "pth", "pt", "safetensors", "h5", "zip", "JPEG", "tar.gz"]
    for name in rng.choice(names, 2 if "matconvnet" in writer else len(names), replace=False):
        path = tmp_path / f"vgg 11.{name}"
        path.write_bytes(content)
        imported = load(path, "A", SIZE)
        assert imported.kind == kind_of(writer), name
        assert np.array_equal(imported.weights["fc2.bias"], net.classifier[3].bias.detach()), name


def test_a_safetensors_header_may_be_of_any_length(tmp_path: Path, rng: np.random.Generator) -> None:
    """Its file begins with that length, which looks like a pickle's (80 02), a zip's (PK) or Caffe's beginning."""
    net = foreign.random_net("A", rng, 1, width=1 / 32, fc=5)
    file = foreign.safetensors_file(net.state_dict())
    length = struct.unpack("<Q", file[:8])[0]
    begin = length + -length % 8
    others = (int.from_bytes(mark, "little") for mark in (b"PK", b"\x80\2\1", b"\x80\4\1"))
    for new in (*range(begin, begin + 256, 8), *others):
        assert new >= length
        path = tmp_path / f"{new}.bin"
        path.write_bytes(struct.pack("<Q", new) + file[8 : 8 + length].ljust(new) + file[8 + length :])
        assert load(path, "A", NARROW).kind == "torchvision"


@pytest.mark.parametrize("layout", ["V1", "new"])
def test_a_caffemodel_needs_no_name(layout: str, tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    content = foreign.caffemodel(layers, layout, title=None)
    assert content[0] == (0x12 if layout == "V1" else 0xA2)
    (tmp_path / "published").write_bytes(content)
    assert load(tmp_path / "published", "A", NARROW).kind == "caffe"


@pytest.mark.parametrize("form", ["vector", "pixel", "image"])
def test_matconvnets_average_image_is_the_mean(form: str, tmp_path: Path, rng: np.random.Generator) -> None:
    old = bool(rng.integers(2))
    shape = {"vector": (3, 1) if old else (1, 3), "pixel": (1, 1, 3), "image": (SIDE, SIDE, 3)}[form]
    image = rng.uniform(80, 160, shape).astype(np.float32)
    if form == "image":
        image += rng.uniform(-40, 40, 3).astype(np.float32)
    mean = tuple(image.reshape(-1, 3).mean(0, dtype=np.float64))
    net = drawn("A", "matconvnet", rng)
    matlab(old=old, image=image, compress=bool(rng.integers(2)))(tmp_path / "net.mat", net)
    imported = load(tmp_path / "net.mat", "A", SIZE)
    assert imported.mean_rgb == pytest.approx(mean, rel=1e-5)  # float32 sums of 50,176 pixels
    check_outputs(imported, "A", net, rng, ("RGB", 255.0, mean, ONE))


@pytest.mark.parametrize("bad", ["nan", "four values", "matrix"])
def test_an_average_image_that_gives_no_mean_is_refused(bad: str, tmp_path: Path, rng: np.random.Generator) -> None:
    shape = {"nan": (1, 1, 3), "four values": (1, 1, 4), "matrix": (2, 2)}[bad]
    average = np.full(shape, np.nan if bad == "nan" else 120, np.float32)
    matlab(image=average)(tmp_path / "net.mat", drawn("A", "matconvnet", rng, width=1 / 32, fc=5))
    refused(tmp_path / "net.mat", r"(?i)average|mean", net="A", size=NARROW)


@pytest.mark.parametrize("old", [False, True], ids=["meta", "top level"])
def test_matconvnets_classes_are_put_in_the_order_of_their_ids(
    old: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    net, names = drawn("A", "matconvnet", rng), ids(rng)
    matlab(old=old, names=names, image=np.full((1, 1, 3), 120, np.float32))(tmp_path / "net.mat", net)
    imported = load(tmp_path / "net.mat", "A", SIZE)
    assert imported.classes == tuple(sorted(names))
    order = np.argsort(names)
    how = ("RGB", 255.0, (120.0,) * 3, ONE)
    check_outputs(imported, "A", permuted(net, order), rng, how)
    pixels = pictures(rng)
    assert apart(ours(imported, "A", pixels), foreign.run(net, pixels, *how)) > 10 * TOLERANCE


def test_matconvnets_classes_that_are_no_wordnet_ids_stay_as_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    net, names = drawn("A", "matconvnet", rng), ids(rng)
    names[int(rng.integers(CLASSES))] = "background"
    matlab(names=names)(tmp_path / "net.mat", net)
    imported = load(tmp_path / "net.mat", "A", SIZE)
    assert imported.classes == ()
    check_outputs(imported, "A", net, rng)


# ---------------------------------------------------------------------- what is given overrides


def test_given_channels_range_mean_and_deviation_override_the_kinds(tmp_path: Path, rng: np.random.Generator) -> None:
    for writer in ("caffe V1", "torchvision zip", "timm safetensors", "caffe in pytorch zip"):
        for channels in ("RGB", "BGR"):
            top = float(rng.choice([1.0, 255.0]))
            mean = tuple(float(value) for value in rng.uniform(0.3, 0.6, 3) * top)
            deviation = tuple(float(value) for value in rng.uniform(0.1, 0.4, 3) * top)
            net = foreign.random_net("A", rng, 1)
            WRITERS[writer](tmp_path / "published", net)
            given = Given(channels=channels, range=top, mean=mean, deviation=deviation)
            imported = load(tmp_path / "published", "A", SIZE, given)
            assert imported.kind == kind_of(writer)
            turn = -1 if channels == "BGR" else 1
            assert imported.mean_rgb == pytest.approx([255 / top * value for value in mean][::turn], rel=1e-6)
            check_outputs(imported, "A", net, rng, (channels, top, mean, deviation))


def test_a_given_mean_alone_is_in_the_kinds_order_and_range(tmp_path: Path, rng: np.random.Generator) -> None:
    for writer, top in (("caffe new", 255.0), ("torchvision legacy", 1.0), ("matconvnet filters", 255.0)):
        kind = kind_of(writer)
        mean = tuple(float(value) for value in rng.uniform(0.3, 0.6, 3) * top)
        net = drawn("A", kind, rng)
        WRITERS[writer](tmp_path / "published", net)
        imported = load(tmp_path / "published", "A", SIZE, Given(mean=mean))
        check_outputs(imported, "A", net, rng, (CONVENTIONS[kind][0], top, mean, CONVENTIONS[kind][3]))


def test_given_channels_alone_keep_each_colours_mean(tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "caffe", rng)
    caffe()(tmp_path / "published", net)
    check_outputs(load(tmp_path / "published", "A", SIZE, Given(channels="RGB")), "A", net, rng, MATCONVNETS)


def test_our_own_names_need_a_convention(tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "caffe", rng)
    path = tmp_path / "ours.safetensors"
    path.write_bytes(foreign.safetensors_file(foreign.with_our_names(foreign.layers(net))))
    refused(path, net="A")
    for how in (CAFFES, MATCONVNETS):
        given = Given(channels=how[0], range=how[1], mean=how[2], deviation=how[3])
        imported = load(path, "A", SIZE, given)
        assert imported.kind == "vgg-repro"
        check_outputs(imported, "A", net, rng, how)


# ---------------------------------------------------------------------- class maps


def write_map(path: Path, lines: Iterable[str], ending: str = "\n") -> Given:
    """A class map."""
    path.write_text("\n".join(lines) + ending)
    return Given(class_map=path)


@pytest.mark.parametrize("writer", ["caffe V1", "torchvision zip", "timm safetensors", "matconvnet weights"])
def test_a_map_of_wordnet_ids_orders_the_outputs(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net, names = drawn("A", kind_of(writer), rng), ids(rng)
    WRITERS[writer](tmp_path / "published", net)
    words = [f"{name} thing {place}, other word" for place, name in enumerate(names)]
    given = write_map(tmp_path / "synset_words.txt", words if rng.integers(2) else names, str(rng.choice(["", "\n"])))
    imported = load(tmp_path / "published", "A", SIZE, given)
    assert imported.classes == tuple(sorted(names))
    check_outputs(imported, "A", permuted(net, np.argsort(names)), rng)


def test_a_map_of_numbers_orders_the_outputs(tmp_path: Path, rng: np.random.Generator) -> None:
    net, numbers = drawn("A", "torchvision", rng), rng.permutation(CLASSES)
    pytorch()(tmp_path / "published", net)
    given = write_map(tmp_path / "map.txt", (f"{number}\tword, n01440764" for number in numbers))
    imported = load(tmp_path / "published", "A", SIZE, given)
    assert imported.classes == ()
    check_outputs(imported, "A", permuted(net, np.argsort(numbers)), rng)


@pytest.mark.parametrize("numbers", [False, True], ids=["ids", "numbers"])
def test_outputs_that_are_no_class_are_dropped(numbers: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "caffe", rng)
    caffe(layout="new")(tmp_path / "published", net)
    dropped = {int(place) for place in rng.choice(CLASSES, int(rng.integers(1, 4)), replace=False)}
    left = [place for place in range(CLASSES) if place not in dropped]
    keys = [str(n) for n in rng.permutation(len(left))] if numbers else ids(rng, len(left))
    where = dict(zip(left, keys, strict=True))
    given = write_map(tmp_path / "map.txt", (where.get(place, "- background") for place in range(CLASSES)))
    imported = load(tmp_path / "published", "A", SIZE, given)
    assert imported.weights["fc3.weight"].shape == (len(left), FC, 1, 1)
    assert imported.classes == (() if numbers else tuple(sorted(keys)))
    order = sorted(left, key=lambda place: int(where[place]) if numbers else where[place])
    check_outputs(imported, "A", permuted(net, order), rng)


def test_a_map_overrides_matconvnets_own_classes(tmp_path: Path, rng: np.random.Generator) -> None:
    net, numbers = drawn("A", "matconvnet", rng), rng.permutation(CLASSES)
    matlab(names=ids(rng))(tmp_path / "net.mat", net)
    imported = load(tmp_path / "net.mat", "A", SIZE, write_map(tmp_path / "map.txt", map(str, numbers)))
    check_outputs(imported, "A", permuted(net, np.argsort(numbers)), rng)


@pytest.mark.parametrize(
    "trouble", ["short", "long", "twice", "number twice", "missing", "mixed", "word", "empty", "all -"]
)
def test_a_bad_map_is_refused(trouble: str, tmp_path: Path, rng: np.random.Generator) -> None:
    caffe()(tmp_path / "published", drawn("A", "caffe", rng))
    names, numbers = ids(rng), [str(number) for number in rng.permutation(CLASSES)]
    place, other = (int(one) for one in rng.choice(CLASSES, 2, replace=False))
    lines = {
        "short": names[1:], "long": [*numbers, str(CLASSES)], "twice": [*names], "number twice": [*numbers],
        "missing": [str(int(n) + (n == str(CLASSES - 1))) for n in numbers], "mixed": [*names], "word": [*names],
        "empty": [], "all -": ["-"] * CLASSES,
    }[trouble]  # fmt: skip
    line, said = rf"\b{place + 1}\b", ""
    if trouble == "twice":
        lines[place], said = lines[other], lines[other]
    elif trouble == "number twice":
        lines[place], said = lines[other], rf"\b{lines[other]}\b"
    elif trouble == "missing":
        said = rf"\b({CLASSES - 1}|{CLASSES})\b"
    elif trouble in ("mixed", "word"):
        lines[place] = "3" if trouble == "mixed" else "tench"
        said = rf"{line}|\b{lines[place]}\b"
    elif trouble in ("short", "long"):
        said = rf"\b{len(lines)}\b(?s:.*)\b{CLASSES}\b|\b{CLASSES}\b(?s:.*)\b{len(lines)}\b"
    given = write_map(tmp_path / "map.txt", lines)
    with pytest.raises(Failure) as caught:
        load(tmp_path / "published", "A", SIZE, given)
    text = str(caught.value)
    assert "map.txt" in text
    assert re.search(said, text), text


@pytest.mark.parametrize("what", ["UTF-16", "PNG", "noise", "missing", "folder"])
def test_a_map_that_is_no_text_is_refused(what: str, tmp_path: Path, rng: np.random.Generator) -> None:
    caffe()(tmp_path / "published", drawn("A", "caffe", rng))
    path = tmp_path / "map.txt"
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        utf16 = "\n".join(ids(rng)).encode("utf-16")
        path.write_bytes({"UTF-16": utf16, "PNG": image("PNG"), "noise": rng.bytes(300)}[what])
    with pytest.raises(Failure, match=r"map\.txt"):
        load(tmp_path / "published", "A", SIZE, Given(class_map=path))


# ---------------------------------------------------------------------- nets that do not fit


@pytest.mark.parametrize("writer", FEW)
def test_another_net_is_refused_by_its_name(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    theirs, wanted = (str(net) for net in rng.choice(["A", "B", "C", "D", "E"], 2, replace=False))
    if rng.integers(2):
        theirs, wanted = "E", "D"
    WRITERS[writer](tmp_path / "published", drawn(theirs, kind_of(writer), rng))
    refused(tmp_path / "published", rf"\b[Nn]et {theirs}\b", net=wanted)


def places(net: Theirs) -> dict[str, str]:
    """Caffe's name of a layer -> torchvision's."""
    names = [name for name, layer in net.named_modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    return dict(zip(foreign.layers(net), names, strict=True))


TIMMS = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
OLDS = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}


def written(path: Path, writer: str, net: Theirs, change: Callable[[Layers], object]) -> Callable[[str], str]:
    """Write `net` after `change` of its layers by Caffe's names; returns the file's own name of such a layer.

    A layer that is no longer there, or biases that are None, are left out.
    """
    layers, where, kind = foreign.layers(net), places(net), kind_of(writer)
    change(layers)
    if kind in ("caffe", "matconvnet"):
        layout = "new" if "new" in writer else "V1"
        if kind == "caffe":
            content = foreign.caffemodel({k: v for k, v in layers.items() if v[1] is not None}, layout)
            path.write_bytes(content + b"".join(lonely(k, v[0], layout) for k, v in layers.items() if v[1] is None))
        else:
            matlab_layers(path, layers)
        return lambda name: name
    state = OrderedDict()
    for name, (weights, biases) in layers.items():
        state[f"{where[name]}.weight"] = torch.from_numpy(weights)
        if biases is not None:
            state[f"{where[name]}.bias"] = torch.from_numpy(biases)
    names = TIMMS if kind == "timm" else OLDS if kind == "caffe in pytorch" else {}
    renamed = {"timm": foreign.with_timms_names, "caffe in pytorch": foreign.with_old_classifier}.get(kind, dict)
    if "safetensors" in writer:
        path.write_bytes(foreign.safetensors_file(renamed(state)))
    else:
        path.write_bytes(foreign.torch_file(renamed(state), "legacy" in writer))
    return lambda name: names.get(where[name], where[name])


def lonely(name: str, weights: foreign.Array, layout: str) -> bytes:
    """A layer of a caffemodel that has no biases."""
    layer = foreign.v1_layer if layout == "V1" else foreign.new_layer
    return layer(name, foreign.CONVOLUTION, [foreign.blob(weights, layout != "V1")])


def matlab_layers(path: Path, layers: Layers) -> None:
    """A MatConvNet file in which a layer without biases has an empty matrix for them."""
    whole = {name: (w, np.zeros(0, np.float32) if b is None else b) for name, (w, b) in layers.items()}
    with path.open("wb") as file:
        foreign.matconvnet(file, whole)


@pytest.mark.parametrize("writer", FEW)
def test_a_missing_layer_is_named(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng)
    # not a block's last convolution in PyTorch, where the numbers behind it would be those of another net as well
    gone = str(rng.choice(["conv1_1", "conv2_1", "conv3_2", "conv4_2", "conv5_1"]))
    if rng.integers(2):
        gone = str(rng.choice(["fc6", "fc7", "fc8"]))
    name = written(tmp_path / "published", writer, net, lambda layers: layers.pop(gone))
    refused(tmp_path / "published", re.escape(name(gone)) + r"\b")


@pytest.mark.parametrize("writer", FEW)
def test_missing_biases_are_named(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng)
    gone = str(rng.choice(["conv1_1", "conv2_2", "conv5_3", "fc6", "fc8"]))
    name = written(tmp_path / "published", writer, net, lambda layers: layers.update({gone: (layers[gone][0], None)}))
    refused(tmp_path / "published", re.escape(name(gone)) + r"\b", r"(?i)bias|blob")


def numbers(shape: Sequence[int]) -> str:
    """A pattern for a shape, however it is written."""
    return r"(?<!\d)" + r"\D{1,4}".join(map(str, shape)) + r"(?!\d)"


@pytest.mark.parametrize("writer", FEW)
def test_a_wrong_shape_is_named_with_the_right_one(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng)
    wrong = str(rng.choice(["conv2_2", "conv3_2", "conv5_1"]))
    weights, biases = foreign.layers(net)[wrong]
    more = np.concatenate([weights, weights[:, :1]], 1)  # one input channel too many
    name = written(tmp_path / "published", writer, net, lambda layers: layers.update({wrong: (more, biases)}))
    text = refused(tmp_path / "published", re.escape(name(wrong)) + r"\b")
    for shape in (more.shape, weights.shape):
        assert any(re.search(numbers(one), text) for one in (shape, shape[2:] + shape[1::-1])), text


@pytest.mark.parametrize("writer", FEW)
def test_fc_layers_of_another_width_are_refused(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng, fc=FC + 5)
    name = written(tmp_path / "published", writer, net, lambda layers: None)
    refused(tmp_path / "published", re.escape(name("fc6")) + r"\b", rf"\b{FC}\b", rf"\b{FC + 5}\b")


@pytest.mark.parametrize("writer", FEW)
def test_values_that_are_no_numbers_are_refused(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng)
    layer, part = str(rng.choice(list(foreign.layers(net)))), int(rng.integers(2))

    def change(layers: Layers) -> None:
        values = layers[layer][part].reshape(-1)
        values[rng.integers(values.size)] = float(rng.choice(["nan", "inf", "-inf"]))

    name = written(tmp_path / "published", writer, net, change)
    refused(tmp_path / "published", re.escape(name(layer)) + r"\b")


def test_doubles_too_large_for_float32_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    state = converted(torch.float64)(drawn("D", "torchvision", rng).state_dict())
    state["features.7.weight"][3, 2, 1, 0] = 1e300
    (tmp_path / "published").write_bytes(foreign.torch_file(state))
    refused(tmp_path / "published", r"features\.7\b")
    (tmp_path / "published").write_bytes(foreign.safetensors_file(state))
    refused(tmp_path / "published", r"features\.7\b")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8], ids=str)
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, tmp_path: Path, rng: np.random.Generator) -> None:
    state = dict(drawn("D", "torchvision", rng).state_dict())
    state["features.7.weight"] = state["features.7.weight"].to(dtype)
    for content in (foreign.torch_file(state), foreign.safetensors_file(state)):
        (tmp_path / "published").write_bytes(content)
        refused(tmp_path / "published")


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_batch_normalisation_is_a_layer_too_many(container: str, tmp_path: Path, rng: np.random.Generator) -> None:
    made = foreign.blank("D", batch_norm=True)
    state = made.state_dict()
    safe = container == "safetensors"
    content = foreign.safetensors_file(state) if safe else foreign.torch_file(state, container == "legacy")
    (tmp_path / "published").write_bytes(content)
    refused(tmp_path / "published", r"(?i)batch.?norm|features\.1\b")


@pytest.mark.parametrize("writer", ["caffe V1", "caffe new", "matconvnet weights"])
def test_a_layer_too_many_is_named(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("D", kind_of(writer), rng)
    extra = str(rng.choice(["conv6_1", "scale1", "conv2_3", "fc9"]))
    written(tmp_path / "published", writer, net, lambda layers: layers.update({extra: layers["conv2_1"]}))
    refused(tmp_path / "published", rf"\b{extra}\b")


def test_a_tensor_too_many_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    state = dict(drawn("D", "torchvision", rng).state_dict())
    extra = str(rng.choice(["features.40.weight", "aux.weight", "classifier.9.bias", "features.1.running_mean"]))
    state[extra] = torch.zeros(4)
    for content in (foreign.torch_file(state), foreign.safetensors_file(state)):
        (tmp_path / "published").write_bytes(content)
        refused(tmp_path / "published", re.escape(extra.rpartition(".")[0]) + r"\b")


@pytest.mark.parametrize("layout", ["V1", "new"])
def test_a_layer_that_comes_twice_is_named(layout: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = foreign.layers(drawn("D", "caffe", rng))
    again = foreign.v1_layer if layout == "V1" else foreign.new_layer
    blobs = [foreign.blob(one, layout == "new") for one in net["conv3_2"]]
    (tmp_path / "published").write_bytes(foreign.caffemodel(net, layout) + again("conv3_2", 4, blobs))
    refused(tmp_path / "published", r"\bconv3_2\b")


# ---------------------------------------------------------------------- files that are none


def onnx() -> bytes:
    """Something like an ONNX ModelProto: version, producer, a graph with a node and initializers."""
    weights = np.zeros((4, 3, 3, 3), "<f4")
    tensor = b"".join(foreign.number(1, size) for size in weights.shape) + foreign.number(2, 1)
    tensor += foreign.message(8, b"conv1_1.weight") + foreign.message(9, weights.tobytes())
    node = foreign.message(1, b"input") + foreign.message(2, b"output") + foreign.message(4, b"Conv")
    graph = foreign.message(1, node) + foreign.message(2, b"torch-jit-export") + foreign.message(5, tensor)
    head = foreign.number(1, 8) + foreign.message(2, b"pytorch") + foreign.message(3, b"2.1.0")
    return head + foreign.message(7, graph) + foreign.message(8, foreign.message(1), foreign.number(2, 17))


def matlab_7_3() -> bytes:
    """The head of an HDF5 file as MATLAB's save -v7.3 writes it."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Mar 10 12:00:00 2015 HDF5 schema 1.00 ."
    return (text.ljust(116) + bytes(8) + b"\x00\x02IM").ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + os.urandom(1500)


def image(kind: str) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng().integers(0, 256, (40, 30, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def npz(*arrays: object) -> bytes:
    """NumPy's archive."""
    buffer = io.BytesIO()
    np.savez(buffer, *(np.asarray(one) for one in arrays))
    return buffer.getvalue()


def objects() -> object:
    """An array that NumPy can only pickle."""
    made = np.empty(2, object)
    made[:] = [{"conv1_1": 3}, None]
    return made


NO_NETS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"\n",
    "text": lambda: b"n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n" * 20,
    "JSON": lambda: b'{"state_dict": {"features.0.weight": [1, 2, 3]}}',
    "page of a server": lambda: b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n",
    "git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 553432081\n",
    "zeros": lambda: bytes(4096),
    "noise": lambda: os.urandom(4096),
    "JPEG": lambda: jpeg(photograph(np.random.default_rng(), 60, 50)),
    "PNG": lambda: image("PNG"),
    "BMP": lambda: image("BMP"),
    "gzip": lambda: b"\x1f\x8b" + zlib.compress(bytes(100)),
    "zip of a text": lambda: archive(readme=b"no net here"),
    "zip of nothing": lambda: archive(),
    "zip of a wrong data.pkl": lambda: archive(**{"archive/data.pkl": b"\x80\x02nonsense", "archive/version": b"3\n"}),
    "zip of an empty data.pkl": lambda: archive(**{"archive/data.pkl": b"", "archive/version": b"3\n"}),
    "TorchScript": lambda: archive(
        **{"net/data.pkl": b"\x80\x02}.", "net/constants.pkl": b"\x80\x02).", "net/code/x.py": b""}
    ),
    "npz": lambda: npz(np.zeros(3)),
    "npz of objects": lambda: npz(objects()),
    "npy of objects": lambda: b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    "ONNX": onnx,
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + os.urandom(2000),
    "MATLAB 7.3": matlab_7_3,
    "MATLAB's head alone": lambda: b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM",
    "encrypted zip": lambda: foreign.encrypted(foreign.torch_file(foreign.blank("A").state_dict())),
    "pickled numbers": lambda: pickle.dumps({"conv1_1": [1.0, 2.0], "fc6": 3}, 2),
    "torch file of a number": lambda: foreign.torch_file(3),
    "torch file of a tensor": lambda: foreign.torch_file(torch.zeros(3)),
    "torch file of a list, legacy": lambda: foreign.torch_file([torch.zeros(3)], legacy=True),
    "torch file of nothing": lambda: foreign.torch_file({}),
    "torch file of numbers": lambda: foreign.torch_file({1: torch.zeros(2), (2, 3): "x"}),
    "torch file nested in itself": lambda: foreign.torch_file({"state_dict": {"state_dict": {"model": {}}}}),
    "state dict of another net": lambda: foreign.torch_file(torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict()),
    "safetensors of nothing": lambda: foreign.safetensors_file({}),
    "safetensors of another net": lambda: foreign.safetensors_file({"layer1.0.conv1.weight": torch.zeros(4, 4)}),
}


@pytest.mark.parametrize("what", NO_NETS)
def test_a_file_that_is_no_net_is_refused(what: str, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / str(rng.choice(["vgg16.caffemodel", "vgg16.mat", "vgg16.pth", "vgg16.safetensors", "published"]))
    path.write_bytes(NO_NETS[what]())
    refused(path, r"7\.3" if what == "MATLAB 7.3" else "")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "gone.pth")
    refused(tmp_path / "gone" / "gone.pth")
    (tmp_path / "folder.mat").mkdir()
    refused(tmp_path / "folder.mat")


# ---------------------------------------------------------------------- damage


def attempted(path: Path) -> dict[str, np.ndarray] | None:
    """The weights of a damaged file of a narrow net A, None for a Failure; anything else is raised."""
    try:
        return load(path, "A", NARROW).weights
    except Failure as failure:
        text = str(failure)
    assert path.name in text, text
    return None


def survives(path: Path, wanted: dict[str, np.ndarray]) -> bool:
    """Whether a damaged file was read: its weights are then those of the whole one."""
    if (found := attempted(path)) is None:
        return False
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert np.array_equal(value, wanted[name]), name
    return True


SHORT = dict.fromkeys((*FEW, "caffe new, loose floats", "torchvision, one storage, legacy"), 25)
SHORT |= {"matconvnet weights": 3, "matconvnet weights, compressed": 2}  # each starts a process


@pytest.mark.parametrize("writer", SHORT)
def test_a_file_cut_short_is_refused(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", kind_of(writer), rng, width=1 / 32, fc=5, classes=3)
    if kind_of(writer) == "caffe":  # behind fc8 everything could be missing
        layout, how = ("new" if "new" in writer else "V1"), ("loose" if "loose" in writer else "packed")
        content = foreign.caffemodel(foreign.layers(net), layout, how=how, bare=True)
    else:
        WRITERS[writer](tmp_path / "whole", net)
        content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "published"
    path.write_bytes(content)
    load(path, "A", NARROW)
    ends = {1, 7, 8, len(content) - 1, *(int(end) for end in rng.integers(1, len(content), SHORT[writer]))}
    ends |= {int(end) for end in rng.integers(1, 600, SHORT[writer])}  # in whatever head it has
    for end in sorted(ends) if kind_of(writer) != "matconvnet" else rng.choice(sorted(ends), SHORT[writer]):
        path.write_bytes(content[:end])
        refused(path, net="A", size=NARROW)


@pytest.mark.parametrize("writer", ["torchvision safetensors", "torchvision zip"])
def test_bytes_behind_the_end_or_before_the_beginning_do_no_harm(
    writer: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    net = drawn("A", kind_of(writer), rng, width=1 / 32, fc=5)
    path = tmp_path / "published"
    WRITERS[writer](path, net)
    content, wanted = path.read_bytes(), load(path, "A", NARROW).weights
    for changed in (content + os.urandom(40), os.urandom(16) + content, content + content):
        path.write_bytes(changed)
        survives(path, wanted)


@pytest.mark.parametrize("layout", ["V1", "new"])
def test_flipped_bytes_of_a_caffemodels_structure_never_change_weights(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    layers = foreign.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5, classes=3))
    content = foreign.caffemodel(layers, layout)
    structure = np.ones(len(content), bool)
    for array in (array for pair in layers.values() for array in pair):
        place = content.index(array.tobytes())
        structure[place : place + array.nbytes] = False
    path = tmp_path / "published"
    path.write_bytes(content)
    wanted, read = load(path, "A", NARROW).weights, 0
    for place in rng.choice(np.flatnonzero(structure), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256)) if rng.integers(2) else 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        read += survives(path, wanted)
    assert read < 150


@pytest.mark.parametrize("writer", ["torchvision zip", "torchvision legacy", "timm safetensors"])
def test_flipped_bytes_anywhere_are_survived(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", kind_of(writer), rng, width=1 / 32, fc=5, classes=3)
    path = tmp_path / "published"
    WRITERS[writer](path, net)
    content = path.read_bytes()
    shapes = {name: value.shape for name, value in load(path, "A", NARROW).weights.items()}
    values = np.zeros(len(content), bool)  # where damage is only another value
    for array in (array for pair in foreign.layers(net).values() for array in pair):
        place = content.index(array.tobytes())
        values[place : place + array.nbytes] = True
    for place in rng.choice(np.flatnonzero(~values), 80, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256)) if rng.integers(2) else 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        if (found := attempted(path)) is not None:
            assert {name: value.shape for name, value in found.items()} == shapes


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_a_damaged_mat_is_survived(compress: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "matconvnet", rng, width=1 / 32, fc=5, classes=3)
    layers = foreign.layers(net)
    path = tmp_path / "net.mat"
    matlab(compress=compress, image=np.full((1, 1, 3), 120, np.float32), names=ids(rng, 3))(path, net)
    content = path.read_bytes()
    places = np.ones(len(content), bool)
    for name, (weights, biases) in layers.items() if not compress else ():
        four = foreign.as_convolution(name, weights) if name.startswith("fc") else weights
        for array in (four.transpose(2, 3, 1, 0).tobytes("F"), biases.tobytes()):
            place = content.index(array)
            places[place : place + len(array)] = False
    for _ in range(2 if compress else 4):  # each starts a process
        damaged = bytearray(content)
        for place in rng.choice(np.flatnonzero(places), int(rng.integers(1, 12))):
            damaged[place] = int(rng.choice([0, 255, int(rng.integers(256))]))
        path.write_bytes(damaged)
        if (found := attempted(path)) is not None:
            assert found["fc3.weight"].shape == (3, 5, 1, 1)


def matlab_with(**content: object) -> bytes:
    """A .mat of anything."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


def test_a_mat_of_other_things_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign.layers(drawn("A", "matconvnet", rng, width=1 / 32, fc=5))
    texts = foreign.matconvnet_layers(layers)
    texts[0, 0]["weights"] = foreign.cell("not", "numbers")
    conv = foreign.matconvnet_layers(layers)
    del conv[0, 0]["weights"]
    params = {"name": "conv1_1f", "value": np.zeros((3, 3, 3, 4), np.float32)}  # a DagNN has params beside its layers
    dag = {"layers": {"name": "conv1_1", "type": "dagnn.Conv"}, "params": params, "vars": {"name": "x0"}}
    for content in (
        matlab_with(x=np.zeros(3)), matlab_with(layers=np.zeros((2, 3))), matlab_with(layers="conv1_1"),
        matlab_with(layers=foreign.cell("conv", 1.0)), matlab_with(layers=texts), matlab_with(layers=conv),
        matlab_with(**dag),
    ):  # fmt: skip
        (tmp_path / "net.mat").write_bytes(content)
        refused(tmp_path / "net.mat", net="A", size=NARROW)


def test_lengths_that_lead_outside_are_refused_in_a_caffemodel(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    whole, key = foreign.caffemodel(layers, bare=True), b"\x12"  # field 2, a message
    floats = foreign.v1_layer("conv9_9", 4, [b"\x2a" + foreign.varint(2**40) + bytes(40)])
    for tail in (
        key + foreign.varint(100) + b"x", key + foreign.varint(2**31 - 1), key + foreign.varint(2**63), key,
        key + b"\xff" * 9, key + b"\xff" * 40, b"\x13", b"\x14", b"\x16\x00", b"\x17", b"\x11abc", b"\x15ab", b"\x08",
        b"\x08\xff", floats, key + b"\x03\x32\x7f\x00", foreign.v1_layer("conv9_9", 4, [foreign.message(5, b"12345")]),
    ):  # fmt: skip
        (tmp_path / "published").write_bytes(whole + tail)
        refused(tmp_path / "published", net="A", size=NARROW)


@pytest.mark.parametrize("layout", ["V1", "new"])
def test_a_blob_whose_shape_lies_is_refused(layout: str, tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    weights, biases = layers.pop("conv2_1")
    layer = foreign.v1_layer if layout == "V1" else foreign.new_layer
    second = foreign.blob(biases, layout == "new")
    rest = foreign.caffemodel(layers, layout)
    for shape in ((4, 2, 3, 4), (2**40, 2**40, 2**40, 2**40), (2**64 - 4, 2, 3, 3), (0, 0, 0, 0)):
        dims = foreign.message(7, foreign.message(1, *map(foreign.varint, shape)))
        old = b"".join(foreign.number(field, size) for field, size in enumerate(shape, 1))
        first = (old if layout == "V1" else dims) + foreign.floats(weights)
        (tmp_path / "published").write_bytes(rest + layer("conv2_1", 4, [first, second]))
        refused(tmp_path / "published", r"\bconv2_1\b", net="A", size=NARROW)


def safetensors_lies(rng: np.random.Generator) -> dict[str, bytes]:
    """Files whose header does not fit their data."""
    net = foreign.random_net("A", rng, 1, width=1 / 32, fc=5)
    file = foreign.safetensors_file(net.state_dict())
    one, other = "features.3.weight", "features.6.weight"

    def changed(key: str, value: object) -> bytes:
        return foreign.with_header(file, lambda header: header[one].update({key: value}))

    def at(begin: int, end: int) -> bytes:
        return foreign.with_header(file, lambda header: header[one].update({"data_offsets": [begin, end]}))

    def swap(header: dict[str, Any]) -> None:
        header[one]["data_offsets"] = [header[other]["data_offsets"][0], header[other]["data_offsets"][0] + 288]

    size = 4 * net.state_dict()[one].numel()
    assert size == 288
    length = struct.unpack("<Q", file[:8])[0]
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    return {
        "outside": at(len(file), len(file) + size),
        "far outside": at(2**62, 2**62 + size),
        "negative": at(-size, 0),
        "backwards": at(size, 0),
        "too long": at(0, size + 4),
        "empty": at(0, 0),
        "overlap": foreign.with_header(file, swap),
        "no offsets": foreign.with_header(file, lambda header: header[one].pop("data_offsets")),
        "no dict": foreign.with_header(file, lambda header: header.update({one: [1, 2]})),
        "offsets of texts": changed("data_offsets", ["0", "288"]),
        "offsets of fractions": changed("data_offsets", [0.5, 288.5]),
        "one offset": changed("data_offsets", [0]),
        "other shape": changed("shape", [4, 2, 3, 4]),
        "huge shape": changed("shape", [2**40, 2**40, 3, 3]),
        "negative shape": changed("shape", [-4, -2, 3, 3]),
        "shape of texts": changed("shape", ["4", "2", "3", "3"]),
        "unknown type": changed("dtype", "F31"),
        "type of numbers": changed("dtype", 32),
        "bytes behind": file + bytes(8),
        "huge header": struct.pack("<Q", 2**63 - 1) + file[8:],
        "largest header": struct.pack("<Q", 2**64 - 1) + file[8:],
        "header of the rest": struct.pack("<Q", len(file) - 8) + file[8:],
        "header of nothing": struct.pack("<Q", 0) + file[8:],
        "header too short": struct.pack("<Q", length - 5) + file[8:],
        "deep header": struct.pack("<Q", len(deep)) + deep,
        "list": struct.pack("<Q", 8) + b"[1,2,3] ",
        "no UTF-8": struct.pack("<Q", 8) + b'{"\xff\xfe":1',
        "huge number": struct.pack("<Q", 5007) + b'{"a": ' + b"9" * 5000 + b"}",
    }


def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    for what, content in safetensors_lies(rng).items():
        path = tmp_path / f"{what}.safetensors"
        path.write_bytes(content)
        refused(path, net="A", size=NARROW)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("function", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_a_tensor_that_leads_outside_its_storage_is_refused(
    legacy: bool, function: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    state = foreign.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    path, one = tmp_path / "published", "features.3.weight"
    lies: list[dict[str, object]] = [
        {"offset": 1}, {"offset": -1}, {"offset": 2**62}, {"stride": (2**40, 9, 3, 1)}, {"stride": (-18, 9, 3, 1)},
        {"size": (2**40, 2, 3, 3)}, {"size": (4, 2, 3, 4)}, {"size": (-4, 2, 3, 3)}, {"stride": (18, 9, 3)},
        {"size": (2**40, 2**40, 3, 3), "stride": (0, 0, 0, 0)}, {"offset": "0"}, {"size": "4233"}, {"size": None},
    ]  # fmt: skip
    for lie in lies:
        changed = {**state, one: foreign.Rebuilt(state[one], function, **lie)}
        path.write_bytes(foreign.torch_file(changed, legacy))
        refused(path, net="A", size=NARROW)


@pytest.mark.parametrize("what", ["gone", "cut", "empty", "too long", "far too short"])
def test_a_torch_file_whose_values_are_cut_or_gone_is_refused(
    what: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    state = dict(foreign.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict())
    state["features.3.weight"] = torch.zeros(1001).as_strided((4, 2, 3, 3), (18, 9, 3, 1), 929)  # the last of many

    def change(name: str, values: bytes) -> bytes | None:
        if not name.endswith("data/2"):
            return values
        assert len(values) == 4004
        return {"gone": None, "cut": values[:-4], "empty": b"", "too long": values + bytes(4)}.get(what, values[:288])

    (tmp_path / "published").write_bytes(foreign.with_entries(foreign.torch_file(state), change))
    refused(tmp_path / "published", net="A", size=NARROW)


def test_a_torch_file_that_was_zipped_again_keeps_its_values(tmp_path: Path, rng: np.random.Generator) -> None:
    file = foreign.torch_file(foreign.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict())
    path = tmp_path / "published"
    path.write_bytes(file)
    wanted = load(path, "A", NARROW).weights
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        path.write_bytes(foreign.with_entries(file, lambda name, content: content, method))
        assert survives(path, wanted) or method != zipfile.ZIP_STORED


# ---------------------------------------------------------------------- files that run code


class Evil:
    """Its pickle calls `function` when it is read."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


def evils(mark: Path) -> dict[str, Evil]:
    """Several ways to make the file `mark`."""
    return {
        "os.system": Evil(os.system, f"touch {mark}"),
        "eval": Evil(eval, f"open({str(mark)!r}, 'w').close()"),
        "open": Evil(open, str(mark), "w"),
        "subprocess": Evil(subprocess.check_call, ["touch", str(mark)]),
        "Path": Evil(Path.touch, mark),
        "torch": Evil(torch.save, 3, str(mark)),
        "getattr": Evil(getattr, Evil(__import__, "os"), "system"),
    }


def inst(mark: Path) -> bytes:
    """Protocol 0's own way to call something, and a call by name from the stack."""
    return b"(S'touch %s'\nios\nsystem\n." % str(mark).encode()


@pytest.mark.parametrize("place", ["alone", "beside the weights", "deep", "as a key", "in a tensor's place", "before"])
@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    container: str, place: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    mark, path = tmp_path / "touched", tmp_path / "published"
    state = foreign.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    for name, evil in evils(mark).items():
        content: object = {
            "alone": evil,
            "beside the weights": {"state_dict": state, "hooks": evil},
            "deep": {"state_dict": state, "args": [{"a": ({"b": [1, [evil]]},)}]},
            "as a key": {**state, evil: 3},
            "in a tensor's place": {**state, "features.3.weight": evil},
            "before": OrderedDict([("a", evil), *state.items()]),
        }[place]
        said, protocol = r"(?i)\bcode\b", int(rng.integers(6))
        if container == "bare":
            path.write_bytes(pickle.dumps(content, protocol))
            said = said if protocol > 1 else ""  # older ones have no mark that tells them from any other text
        else:
            path.write_bytes(foreign.torch_file(content, container == "legacy"))
        refused(path, said, net="A", size=NARROW)
        assert not mark.exists(), name


def test_code_in_the_other_pickles_of_a_torch_file_is_not_run(tmp_path: Path, rng: np.random.Generator) -> None:
    mark, path = tmp_path / "touched", tmp_path / "published"
    state = foreign.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    zipped, legacy = foreign.torch_file(state), foreign.torch_file(state, legacy=True)
    evil = pickle.dumps(evils(mark)["os.system"], 2)
    magic, protocol = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2), pickle.dumps(1001, 2)
    assert legacy.startswith(magic + protocol)
    tar = io.BytesIO()  # torch.save's first format
    with tarfile.open(fileobj=tar, mode="w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil)
            file.addfile(entry, io.BytesIO(evil))
    files = {
        "system's information": magic + protocol + evil,
        "magic number": evil + legacy,
        "protocol": magic + evil,
        "INST": inst(mark),
        "INST in a zip": foreign.with_entries(zipped, lambda n, t: inst(mark) if n.endswith("data.pkl") else t),
        "tar": tar.getvalue(),
        "npz of objects": npz(np.array([evils(mark)["os.system"]], object)),
    }
    for what, content in files.items():
        path.write_bytes(content)
        refused(path, net="A", size=NARROW)
        assert not mark.exists(), what


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_pickled_module_is_refused(legacy: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "published"
    path.write_bytes(foreign.torch_file(foreign.random_net("A", rng, 1, width=1 / 32, fc=5), legacy))
    refused(path, r"(?i)code", net="A", size=NARROW)


# ---------------------------------------------------------------------- the published size

CHILD = r"""
import re, resource, sys, zlib
from pathlib import Path
import numpy as np
from pipeline.formats import load
from pipeline.params import load as params
made = load(Path(sys.argv[1]), "D", params(Path("params.yaml")).profiles["paper"].net)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
if (status := Path("/proc/self/status")).exists():  # Linux counts the parent's memory before exec in ru_maxrss
    peak = max(peak, int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]))
else:
    peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peak, sum(value.size for value in made.weights.values()))
for name in ("conv1_1.weight", "conv5_3.bias", "fc1.weight", "fc3.weight", "fc3.bias"):
    print(name, zlib.crc32(np.ascontiguousarray(made.weights[name]).data.cast("B")))
"""


def write_full_net(path: Path, rng: np.random.Generator) -> dict[str, int]:
    """D of 1000 classes as a V1 caffemodel, layer by layer; returns checksums of what our net is to have."""
    sums: dict[str, int] = {}
    with torch.device("meta"):
        shapes = [one.shape for one in foreign.blank("D", 1000, 1, 4096).parameters() if one.dim() > 1]
    names = [f"conv{block}_{j}" for block, many in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, many + 1)]
    with path.open("wb") as file:
        for name, shape in zip([*names, "fc6", "fc7", "fc8"], shapes, strict=True):
            weights, biases = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[0], np.float32)
            ours = f"fc{int(name[2:]) - 5}" if name.startswith("fc") else name
            right = np.ascontiguousarray(weights[:, ::-1]) if name == "conv1_1" else weights
            sums[f"{ours}.weight"], sums[f"{ours}.bias"] = (zlib.crc32(one.data.cast("B")) for one in (right, biases))
            kind = foreign.INNER_PRODUCT if name.startswith("fc") else foreign.CONVOLUTION
            file.write(foreign.v1_layer(name, kind, [foreign.blob(one, False) for one in (weights, biases)]))
    return sums


@pytest.mark.slow
def test_the_published_size_takes_less_than_3_gib(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    try:
        sums = write_full_net(path, rng)
        command = [sys.executable, "-c", CHILD, str(path)]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    finally:
        path.unlink(missing_ok=True)
    assert told.returncode == 0, told.stderr
    first, *rest = told.stdout.splitlines()
    peak, count = map(int, first.split())
    assert count == 138_357_544
    for line in rest:
        name, found = line.split()
        assert int(found) == sums[name], name
    assert peak < 3 * 1024**2, f"{peak / 1024**2:.2f} GiB"  # ru_maxrss is in KiB; the weights are 0.52 GiB
