"""Published nets of every format against torchvision's code, and everything that such a file can have wrong with it."""

from __future__ import annotations

import io
import json
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from pipeline.errors import Failure
from pipeline.published import InputOverride, load_published, own_process, read_net
from pipeline.published.class_map import read_map
from pipeline.published.conversion import matched_weights
from tests.support import ROOT, foreign_files
from tests.support.cases import case
from tests.support.foreign_files import CLASSES, FC, SIDE
from tests.support.images import jpeg, photograph
from tests.support.net_outputs import (
    CAFFE_BGR,
    CAFFE_RGB,
    CAFFES,
    CONVENTIONS,
    MATCONVNETS,
    NARROW,
    ONE,
    SIZE,
    TOLERANCE,
    TORCHVISION,
    Theirs,
    apart,
    check_outputs,
    drawn,
    pictures,
)
from vgg.nets import NETS

Write = Callable[[Path, Theirs], object]


# ---------------------------------------------------------------------- writing and comparing


def caffe(**options: Any) -> Write:
    """A writer of a caffemodel."""
    return lambda path, net: path.write_bytes(foreign_files.caffemodel(foreign_files.layers(net), **options))


def matlab(**options: Any) -> Write:
    """A writer of a MatConvNet file; scipy would put .mat behind a name without it."""

    def write(path: Path, net: Theirs) -> None:
        with path.open("wb") as file:
            foreign_files.matconvnet(file, foreign_files.layers(net), **options)

    return write


def pytorch(change: Callable[[foreign_files.State], object] = dict, legacy: bool = False, old: bool = False) -> Write:
    """A writer of torch.save's files; `old`: with the classifier's old names."""

    def write(path: Path, net: Theirs) -> None:
        state = foreign_files.with_old_classifier(net.state_dict()) if old else net.state_dict()
        path.write_bytes(foreign_files.torch_file(change(state), legacy))

    return write


def safetensors(
    change: Callable[[foreign_files.State], foreign_files.State] = dict, metadata: dict[str, str] | None = None
) -> Write:
    """A writer of safetensors."""
    return lambda path, net: path.write_bytes(foreign_files.safetensors_file(change(net.state_dict()), metadata))


def wrapped(key: str) -> Callable[[foreign_files.State], object]:
    """A training script's checkpoint with the net under `key`."""
    others = {"epoch": 74, "arch": "vgg16", "best_acc1": torch.tensor(71.5), "optimizer": {"state": {}, "lr": [0.01]}}
    return lambda state: {**others, key: OrderedDict(state)}


def converted(dtype: torch.dtype) -> Callable[[foreign_files.State], foreign_files.State]:
    """Every tensor as `dtype`."""
    return lambda state: {name: value.to(dtype) for name, value in state.items()}


def channels_last(state: foreign_files.State) -> foreign_files.State:
    """The convolutions' weights stored as (out, h, w, in)."""
    return {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()}


def rebuilt(state: foreign_files.State) -> dict[str, object]:
    """As torch 0.1 pickled tensors."""
    return {name: foreign_files.Rebuilt(value) for name, value in state.items()}


# the names of a net whose features alone were in DataParallel, as ImageNet's training script had it, or all of it
parallel = partial(foreign_files.prefixed, find="features.", put="features.module.")
all_parallel = partial(foreign_files.prefixed, find="", put="module.")


WRITERS: dict[str, dict[str, Write]] = {
    "caffe": {
        "caffe V1": caffe(),
        "caffe V1, shapes behind data": caffe(shaped=True, last=True),
        "caffe V1, loose floats": caffe(how="loose"),
        "caffe V1, fc6 as a convolution": caffe(fc_as_conv=("fc6",)),
        "caffe new": caffe(layout="new", last=True),
        "caffe new, floats in chunks": caffe(layout="new", how="chunks"),
        "caffe new, doubles": caffe(layout="new", how="doubles"),
        "caffe new, four old numbers": caffe(layout="new", shaped=False),
        "caffe new with diffs": caffe(layout="new", diff=True),
    },
    "matconvnet": {
        "matconvnet weights": matlab(),
        "matconvnet filters, compressed": matlab(old=True, compress=True),
    },
    "torch": {
        "torchvision zip": pytorch(lambda state: state),
        "torchvision legacy": pytorch(lambda state: state, legacy=True),
        "torchvision, features in DataParallel, under state_dict": pytorch(
            lambda s: wrapped("state_dict")(parallel(s))
        ),
        "torchvision under model, legacy": pytorch(wrapped("model"), legacy=True),
        "torchvision under weights": pytorch(wrapped("weights")),
        "torchvision in DataParallel": pytorch(all_parallel),
        "torchvision of torch 0.1": pytorch(rebuilt, legacy=True),
        "torchvision, channels last": pytorch(channels_last),
        "torchvision, one storage": pytorch(foreign_files.in_one_storage),
        "torchvision, one storage, legacy": pytorch(foreign_files.in_one_storage, legacy=True),
        "torchvision float64": pytorch(converted(torch.float64)),
        "torchvision float16": pytorch(converted(torch.float16), legacy=True),
        "torchvision bfloat16": pytorch(converted(torch.bfloat16)),
        "caffe in pytorch zip": pytorch(old=True),
    },
    "safetensors": {
        "torchvision safetensors": safetensors(),
        "torchvision safetensors bfloat16": safetensors(converted(torch.bfloat16)),
        "torchvision safetensors float64": safetensors(converted(torch.float64)),
        "caffe in pytorch safetensors": safetensors(foreign_files.with_old_classifier),
        # as Hugging Face's libraries write
        "timm safetensors": safetensors(foreign_files.with_timms_names, {"format": "pt"}),
    },
}
# One of each kind and container.
FEW = [
    "caffe V1", "caffe new", "matconvnet weights", "torchvision zip", "torchvision legacy", "caffe in pytorch zip",
    "torchvision safetensors", "timm safetensors",
]  # fmt: skip


def write(path: Path, writer: str, net: Theirs) -> None:
    """Write a net's file."""
    next(group[writer] for group in WRITERS.values() if writer in group)(path, net)


def kind_of(writer: str) -> str:
    """The kind that a writer's file is of."""
    kinds = [kind for kind in CONVENTIONS if writer.startswith(kind)]
    return max(kinds, key=len)


def ids(rng: np.random.Generator, count: int = CLASSES) -> list[str]:
    """Distinct WordNet ids in random order."""
    numbers = rng.choice(90_000_000, count, replace=False)
    words = [f"n{number:08d}" for number in numbers]
    return words if words != sorted(words) else words[::-1]


def permuted(theirs: Theirs, order: Sequence[int]) -> Theirs:
    """The net whose output i is the old one's output order[i]."""
    made = foreign_files.blank("A")
    made.features, made.classifier[0], made.classifier[3] = theirs.features, theirs.classifier[0], theirs.classifier[3]
    last = torch.nn.Linear(FC, len(order))
    last.load_state_dict({name: value[list(order)] for name, value in theirs.classifier[6].state_dict().items()})
    made.classifier[6] = last
    return made


def refused(path: Path, *patterns: str, net: str = "D", override: InputOverride | None = None, size: Any = SIZE) -> str:
    """The text of the Failure, which names the file and has every one of the patterns `patterns` in it."""
    with pytest.raises(Failure) as caught:
        load_published(path, net, size, override or InputOverride())
    text = str(caught.value)
    assert path.name in text, text
    for pattern in patterns:
        assert re.search(pattern, text.replace(str(path), "")), f"no {pattern} in: {text}"
    return text


@pytest.fixture
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB's files are read in this process: what is damaged may end it, and nothing else needs another."""
    monkeypatch.setattr(own_process, "run_apart", lambda work, file, _: work(file, False))


# ---------------------------------------------------------------------- the writers themselves


def test_the_comparison_fails_for_wrong_channels_mean_and_class_order(rng: np.random.Generator) -> None:
    net = drawn("D", "caffe", rng)
    pixels = pictures(rng)
    wanted = foreign_files.run(net, pixels, *CAFFES)
    again = foreign_files.blank("D")
    again.load_state_dict(net.state_dict())
    assert apart(foreign_files.run(again, pixels, *CAFFES), wanted) < TOLERANCE
    for wrong in (("RGB", 255.0, CAFFE_BGR, ONE), ("RGB", 255.0, CAFFE_RGB, ONE), ("BGR", 255.0, CAFFE_RGB, ONE)):
        assert apart(foreign_files.run(net, pixels, *wrong), wanted) > 10 * TOLERANCE
    torchvisions_mean = tuple(255 * value for value in reversed(TORCHVISION))  # within half a grey level of Caffe's
    assert apart(foreign_files.run(net, pixels, "BGR", 255.0, torchvisions_mean, ONE), wanted) > TOLERANCE
    assert apart(wanted[:, rng.permutation(np.roll(np.arange(CLASSES), 1))[::-1].copy()], wanted) > 10 * TOLERANCE


# ---------------------------------------------------------------------- files as they should be


@pytest.mark.parametrize("group", WRITERS)
def test_outputs_equal_torchvisions_whatever_the_files_name(
    group: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    for writer in WRITERS[group]:
        with case(writer):
            kind, net = kind_of(writer), str(rng.choice(["A", "B", "D", "E"]))
            theirs = drawn(net, kind, rng)
            if "16" in writer:  # the file's values are rounded
                theirs = theirs.to(torch.bfloat16 if "bfloat16" in writer else torch.float16).float()
            path = tmp_path / f"vgg 11.{rng.choice(['caffemodel', 'mat', 'pth', 'safetensors', 'h5', 'zip', 'JPEG'])}"
            write(path, writer, theirs)
            imported = load_published(path, net, SIZE)
            assert (imported.kind, imported.classes) == (kind, ())
            check_outputs(imported, net, theirs, rng)


@pytest.mark.parametrize("writer", ["caffe new", "torchvision zip"])  # layers by their names, and by their numbers
def test_every_net_of_the_grid_is_read(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    for net in NETS:
        with case(net):
            theirs = drawn(net, kind_of(writer), rng, classes=int(rng.integers(2, 30)))
            write(tmp_path / "published", writer, theirs)
            check_outputs(load_published(tmp_path / "published", net, SIZE), net, theirs, rng)


def test_a_safetensors_header_may_be_of_any_length(tmp_path: Path, rng: np.random.Generator) -> None:
    """Its file begins with that length, which looks like a pickle's (80 02), a zip's (PK) or Caffe's beginning."""
    net = foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5)
    file = foreign_files.safetensors_file(net.state_dict())
    length = struct.unpack("<Q", file[:8])[0]
    begin = length + -length % 8
    others = (int.from_bytes(mark, "little") for mark in (b"PK", b"\x80\2\1", b"\x80\4\1"))
    for new in (*range(begin, begin + 256, 8), *others):
        assert new >= length
        path = tmp_path / f"{new}.bin"
        path.write_bytes(struct.pack("<Q", new) + file[8 : 8 + length].ljust(new) + file[8 + length :])
        assert load_published(path, "A", NARROW).kind == "torchvision"


def test_a_caffemodel_needs_no_name(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign_files.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    for layout, first in (("V1", 0x12), ("new", 0xA2)):
        content = foreign_files.caffemodel(layers, layout, title=None)
        assert content[0] == first
        (tmp_path / "published").write_bytes(content)
        assert load_published(tmp_path / "published", "A", NARROW).kind == "caffe"


@pytest.mark.parametrize("form", ["vector", "pixel", "image"])
def test_matconvnets_average_image_is_the_mean(
    form: str, read_in_this_process: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    old = form == "vector"
    image = rng.uniform(80, 160, {"vector": (3, 1), "pixel": (1, 1, 3), "image": (SIDE, SIDE, 3)}[form])
    image = (image + rng.uniform(-40, 40, 3) if form == "image" else image).astype(np.float32)
    mean = tuple(image.reshape(-1, 3).mean(0, dtype=np.float64))
    net = drawn("A", "matconvnet", rng)
    matlab(old=old, image=image)(tmp_path / "net.mat", net)
    imported = load_published(tmp_path / "net.mat", "A", SIZE)
    assert imported.mean_rgb == pytest.approx(mean, rel=1e-5)  # float32 sums of 50,176 pixels
    check_outputs(imported, "A", net, rng, ("RGB", 255.0, mean, ONE))


@pytest.mark.parametrize("old", [False, True], ids=["meta", "top level"])
def test_matconvnets_classes_are_put_in_the_order_of_their_ids(
    old: bool, read_in_this_process: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    net, names = drawn("A", "matconvnet", rng), ids(rng)
    matlab(old=old, names=names)(tmp_path / "net.mat", net)
    imported = load_published(tmp_path / "net.mat", "A", SIZE)
    assert imported.classes == tuple(sorted(names))
    check_outputs(imported, "A", permuted(net, np.argsort(names)), rng)
    names[int(rng.integers(CLASSES))] = "background"  # no WordNet ids: they stay as they are
    matlab(old=old, names=names)(tmp_path / "net.mat", net)
    imported = load_published(tmp_path / "net.mat", "A", SIZE)
    assert imported.classes == ()
    check_outputs(imported, "A", net, rng)


# ---------------------------------------------------------------------- what is given overrides


@pytest.mark.parametrize("writer", ["caffe V1", "torchvision zip"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_given_channels_range_mean_and_std_override_the_kinds(
    channels: str, writer: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    top = float(rng.choice([1.0, 255.0]))
    mean = tuple(float(value) for value in rng.uniform(0.3, 0.6, 3) * top)
    std = tuple(float(value) for value in rng.uniform(0.1, 0.4, 3) * top)
    net = foreign_files.random_net("A", rng, 1)
    write(tmp_path / "published", writer, net)
    override = InputOverride(channels=channels, range=top, mean=mean, std=std)
    imported = load_published(tmp_path / "published", "A", SIZE, override)
    turn = -1 if channels == "BGR" else 1
    assert imported.mean_rgb == pytest.approx([255 / top * value for value in mean][::turn], rel=1e-6)
    check_outputs(imported, "A", net, rng, (channels, top, mean, std))


def test_what_is_not_given_stays_the_kinds(tmp_path: Path, rng: np.random.Generator) -> None:
    """A mean alone is in the kind's order and range; with channels alone each colour keeps its mean."""
    for writer, top in (("caffe new", 255.0), ("torchvision legacy", 1.0)):
        kind = kind_of(writer)
        mean = tuple(float(value) for value in rng.uniform(0.3, 0.6, 3) * top)
        net = drawn("A", kind, rng)
        write(tmp_path / "published", writer, net)
        imported = load_published(tmp_path / "published", "A", SIZE, InputOverride(mean=mean))
        check_outputs(imported, "A", net, rng, (CONVENTIONS[kind][0], top, mean, CONVENTIONS[kind][3]))
    caffe()(tmp_path / "published", net)
    check_outputs(
        load_published(tmp_path / "published", "A", SIZE, InputOverride(channels="RGB")), "A", net, rng, MATCONVNETS
    )


def test_our_own_names_need_a_convention(tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "caffe", rng)
    path = tmp_path / "ours.safetensors"
    path.write_bytes(foreign_files.safetensors_file(foreign_files.with_our_names(foreign_files.layers(net))))
    refused(path, net="A")
    for how in (CAFFES, MATCONVNETS):
        override = InputOverride(channels=how[0], range=how[1], mean=how[2], std=how[3])
        imported = load_published(path, "A", SIZE, override)
        assert imported.kind == "vgg-repro"
        check_outputs(imported, "A", net, rng, how)


# ---------------------------------------------------------------------- class maps


def write_map(path: Path, lines: Iterable[str], ending: str = "\n") -> InputOverride:
    """A class map."""
    path.write_text("\n".join(lines) + ending)
    return InputOverride(class_map=path)


@pytest.mark.parametrize("numbers", [False, True], ids=["ids", "numbers"])
def test_a_map_orders_the_outputs(
    numbers: bool, read_in_this_process: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Also those of a file that says their classes itself; words behind the first are for people."""
    net, keys = drawn("A", "matconvnet", rng), [str(n) for n in rng.permutation(CLASSES)] if numbers else ids(rng)
    matlab(names=ids(rng))(tmp_path / "net.mat", net)
    words = [f"{key}\tthing, n01440764" for key in keys]
    override = write_map(tmp_path / "words.txt", words if rng.integers(2) else keys, str(rng.choice(["", "\n"])))
    imported = load_published(tmp_path / "net.mat", "A", SIZE, override)
    assert imported.classes == (() if numbers else tuple(sorted(keys)))
    order = np.argsort([int(key) for key in keys] if numbers else keys)
    check_outputs(imported, "A", permuted(net, order), rng)


@pytest.mark.parametrize("numbers", [False, True], ids=["ids", "numbers"])
def test_outputs_that_are_no_class_are_dropped(numbers: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "caffe", rng)
    caffe(layout="new")(tmp_path / "published", net)
    dropped = {int(place) for place in rng.choice(CLASSES, int(rng.integers(1, 4)), replace=False)}
    left = [place for place in range(CLASSES) if place not in dropped]
    keys = [str(n) for n in rng.permutation(len(left))] if numbers else ids(rng, len(left))
    where = dict(zip(left, keys, strict=True))
    override = write_map(tmp_path / "map.txt", (where.get(place, "- background") for place in range(CLASSES)))
    imported = load_published(tmp_path / "published", "A", SIZE, override)
    assert imported.weights["fc3.weight"].shape == (len(left), FC, 1, 1)
    assert imported.classes == (() if numbers else tuple(sorted(keys)))
    order = sorted(left, key=lambda place: int(where[place]) if numbers else where[place])
    check_outputs(imported, "A", permuted(net, order), rng)


def test_a_bad_map_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    caffe()(tmp_path / "published", drawn("A", "caffe", rng, width=1 / 32, fc=5))
    names, numbers = ids(rng), [str(number) for number in rng.permutation(CLASSES)]
    place, other = (int(output) for output in rng.choice(CLASSES, 2, replace=False))
    put = lambda lines, word: [*lines[:place], word, *lines[place + 1 :]]
    line = rf"\b{place + 1}\b"
    for trouble, lines, message in (
        ("short", names[1:], rf"\b{CLASSES - 1} lines\b.*\b{CLASSES}\b"),
        ("long", [*numbers, str(CLASSES)], rf"\b{CLASSES + 1} lines\b.*\b{CLASSES}\b"),
        ("twice", put(names, names[other]), names[other]),
        ("number twice", put(numbers, numbers[other]), rf"\b{numbers[other]}\b"),
        ("missing", [str(int(n) + (n == str(CLASSES - 1))) for n in numbers], rf"\b({CLASSES - 1}|{CLASSES})\b"),
        ("mixed", put(names, "3"), rf"{line}|\b3\b"),
        ("word", put(names, "tench"), rf"{line}|\btench\b"),
        ("empty", [], ""),
        ("all -", ["-"] * CLASSES, ""),
    ):
        with case(trouble), pytest.raises(Failure, match=rf"map\.txt(?s:.*){message}"):
            load_published(tmp_path / "published", "A", NARROW, write_map(tmp_path / "map.txt", lines))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_map_may_have_a_byte_order_mark_and_any_line_ends(
    encoding: str, ending: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = ids(rng)
    (tmp_path / "words.txt").write_bytes("".join(f"{key} thing, é{ending}" for key in keys).encode(encoding))
    assert read_map(tmp_path / "words.txt", CLASSES) == keys


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_a_map_may_be_json(mark: str, tmp_path: Path, rng: np.random.Generator) -> None:
    keys, path = ids(rng), tmp_path / "map.json"
    shuffled = [int(place) for place in rng.permutation(CLASSES)]
    for what, values, wanted in (
        ("list", keys, keys),
        ("list with words", [f"{key} thing" for key in keys], keys),
        ("list of pairs", [[key, "thing"] for key in keys], keys),
        ("Keras's", {str(place): [keys[place], "thing"] for place in shuffled}, keys),
        ("outputs to ids", {str(place): keys[place] for place in shuffled}, keys),
        ("ImageFolder's", {keys[place]: place for place in shuffled}, keys),
        ("ids to texts of outputs", {keys[place]: str(place) for place in shuffled}, keys),
        ("with none", {"0": "-", **{str(place): keys[place] for place in range(1, CLASSES)}}, ["-", *keys[1:]]),
        ("numbers", shuffled, [*map(str, shuffled)]),
        ("every number itself", {str(place): place for place in shuffled}, [*map(str, range(CLASSES))]),
    ):
        path.write_text(mark + json.dumps(values))
        with case(what):
            assert read_map(path, CLASSES) == wanted


def test_bad_json_of_a_map_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    keys, path = ids(rng), tmp_path / "map.json"
    by_output = {str(place): key for place, key in enumerate(keys)}
    for what, text, message in (
        ("cut", json.dumps(keys)[:-3], "valid JSON"),
        ("short", json.dumps(keys[1:]), rf"{CLASSES - 1} entries.*{CLASSES} outputs"),
        ("words", json.dumps([*keys[:3], "tench", *keys[4:]]), "output 3 .*'tench'"),
        ("gap", json.dumps({"12" if key == "3" else key: value for key, value in by_output.items()}), "output 3"),
        ("twice", json.dumps(dict.fromkeys(keys, 1)), "output 0"),
        ("either way", json.dumps({str(place): (place + 1) % CLASSES for place in range(CLASSES)}), "use a list"),
        ("nested", json.dumps({"0": {"a": 1}, **{key: by_output[key] for key in [*by_output][1:]}}), "output 0"),
        ("empty", "{}", "0 entries"),
    ):
        path.write_text(text)
        with case(what), pytest.raises(Failure, match=rf"(?=.*map\.json).*{message}"):
            read_map(path, CLASSES)


def test_a_map_that_is_no_text_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    caffe()(tmp_path / "published", drawn("A", "caffe", rng, width=1 / 32, fc=5))
    utf_16 = "\n".join(ids(rng)).encode("utf-16-le")  # without its mark
    for what, content in (("UTF-16", utf_16), ("noise", b"\x9d" + rng.bytes(300)), ("gone", None)):
        path = tmp_path / f"{what}.map.txt"
        if content:
            path.write_bytes(content)
        with case(what), pytest.raises(Failure, match=r"map\.txt"):
            load_published(tmp_path / "published", "A", NARROW, InputOverride(class_map=path))


# ---------------------------------------------------------------------- nets that do not fit


@pytest.mark.parametrize(("theirs", "wanted"), [("E", "D"), ("D", "E"), ("C", "D"), ("A", "B")])
def test_another_net_is_refused_by_its_name(theirs: str, wanted: str, tmp_path: Path, rng: np.random.Generator) -> None:
    for writer in ("caffe new", "torchvision zip", "caffe in pytorch zip", "timm safetensors"):
        with case(writer):
            write(tmp_path / "published", writer, drawn(theirs, kind_of(writer), rng))
            refused(tmp_path / "published", rf"\bnet {theirs}\b", net=wanted)


def numbers(shape: Sequence[int]) -> str:
    """A pattern for a shape, however it is written."""
    return r"(?<!\d)" + r"\D{1,4}".join(map(str, shape)) + r"(?!\d)"


@pytest.mark.parametrize("writer", [writer for writer in FEW if "legacy" not in writer])
def test_what_does_not_fit_is_named_as_the_file_has_it(
    writer: str, read_in_this_process: None, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "published"
    write(path, writer, drawn("D", kind_of(writer), rng))
    raw = read_net(path)
    tensors = dict(raw.tensors)
    layers = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    # not a block's last convolution in PyTorch, where the numbers behind it would be those of another net as well
    middle, some = f"{layers[5]}.weight", str(rng.choice(list(tensors)))
    right, more = tensors[middle].shape, np.concatenate([tensors[middle], tensors[middle][:, :1]], 1)
    broken = np.full_like(tensors[some], 1)
    broken.reshape(-1)[-1] = float(rng.choice(["nan", "inf", "-inf"]))
    extra = {f"conv6_1.{part}": tensors[f"{layers[5]}.{part}"] for part in ("weight", "bias")}
    for what, changed, patterns in (
        *((f"no {one}", {k: v for k, v in tensors.items() if not k.startswith(f"{one}.")}, [rf"{re.escape(one)}\b"])
          for one in (layers[0], layers[5], layers[-1])),
        ("no bias", {k: v for k, v in tensors.items() if k != f"{layers[5]}.bias"}, [re.escape(layers[5]), "bias"]),
        ("another shape", tensors | {middle: more}, [re.escape(middle), *map(numbers, (more.shape, right))]),
        ("no number", tensors | {some: broken}, [re.escape(some)]),
        ("a layer too many", tensors | extra, [r"\bconv6_1\b"]),
    ):  # fmt: skip
        with case(what), pytest.raises(Failure) as caught:
            matched_weights(replace(raw, tensors=changed), "D", SIZE)
        text = str(caught.value)
        assert path.name in text and all(re.search(one, text.replace(str(path), "")) for one in patterns), (what, text)


def test_tensors_that_hold_no_weights_or_are_too_many_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    state, seventh = dict(drawn("D", "torchvision", rng).state_dict()), "features.7.weight"
    huge = state[seventh].double()
    huge[3, 2, 1, 0] = 1e300
    for what, changed, patterns in (
        *((dtype, {seventh: state[seventh].to(dtype)}, r"features\.7\b") for dtype in (torch.int64, torch.complex64)),
        ("too large for float32", {seventh: huge}, r"features\.7\b"),
        ("one too many", {"features.40.weight": torch.zeros(4)}, r"features\.40\b"),
        ("batch normalisation", foreign_files.blank("D", batch_norm=True).state_dict(), "has batch normalisation"),
    ):
        for file in (foreign_files.torch_file, foreign_files.safetensors_file):
            (tmp_path / "published").write_bytes(file(state | changed))
            with case(what):
                refused(tmp_path / "published", patterns)


def test_a_layer_that_comes_twice_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign_files.layers(drawn("D", "caffe", rng))
    for layout, again in (("V1", foreign_files.v1_layer), ("new", foreign_files.new_layer)):
        blobs = [foreign_files.blob(values, layout == "new") for values in layers["conv3_2"]]
        (tmp_path / "published").write_bytes(foreign_files.caffemodel(layers, layout) + again("conv3_2", 4, blobs))
        refused(tmp_path / "published", r"\bconv3_2\b")


# ---------------------------------------------------------------------- files that are none


def matlab_7_3() -> bytes:
    """The head of an HDF5 file as MATLAB's save -v7.3 writes it."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Mar 10 12:00:00 2015 HDF5 schema 1.00 ."
    return (text.ljust(116) + bytes(8) + b"\x00\x02IM").ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + os.urandom(1500)


def archive(**files: bytes) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


NO_NETS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n" * 20,
    "page of a server": lambda: b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n",
    "git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 553432081\n",
    "noise": lambda: os.urandom(4096),
    "JPEG": lambda: jpeg(photograph(np.random.default_rng(), 60, 50)),
    "gzip": lambda: b"\x1f\x8b" + zlib.compress(bytes(100)),
    "zip of a text": lambda: archive(readme=b"no net here"),
    "zip of a wrong data.pkl": lambda: archive(**{"archive/data.pkl": b"\x80\x02nonsense", "archive/version": b"3\n"}),
    "TorchScript": lambda: archive(
        **{"net/data.pkl": b"\x80\x02}.", "net/constants.pkl": b"\x80\x02).", "net/code/x.py": b""}
    ),
    "npy of objects": lambda: b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    "ONNX": lambda: (
        foreign_files.number(1, 8) + foreign_files.message(2, b"pytorch") + foreign_files.message(3, b"2.1.0")
    ),
    "MATLAB 7.3": matlab_7_3,
    "MATLAB's head alone": lambda: b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM",
    "encrypted zip": lambda: foreign_files.encrypted(foreign_files.torch_file(foreign_files.blank("A").state_dict())),
    "torch file of a list, legacy": lambda: foreign_files.torch_file([torch.zeros(3)], legacy=True),
    "torch file of nothing": lambda: foreign_files.torch_file({}),
    "torch file of numbers": lambda: foreign_files.torch_file({1: torch.zeros(2), (2, 3): "x"}),
    "torch file nested in itself": lambda: foreign_files.torch_file({"state_dict": {"state_dict": {"model": {}}}}),
    "state dict of another net": lambda: foreign_files.torch_file(
        torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict()
    ),
    "safetensors of nothing": lambda: foreign_files.safetensors_file({}),
    "safetensors of another net": lambda: foreign_files.safetensors_file({"layer1.0.conv1.weight": torch.zeros(4, 4)}),
}


def test_a_file_that_is_no_net_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    for what, content in NO_NETS.items():
        path = tmp_path / f"vgg16.{rng.choice(['caffemodel', 'mat', 'pth', 'safetensors'])}"
        path.write_bytes(content())
        with case(what):
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
        return load_published(path, "A", NARROW).weights
    except Failure as failure:
        text = str(failure)
    assert path.name in text, text
    return None


def survives(path: Path, wanted: dict[str, np.ndarray]) -> bool:
    """Whether a damaged file was read: its weights are then those of the whole one."""
    if (weights := attempted(path)) is None:
        return False
    assert weights.keys() == wanted.keys()
    for name, value in weights.items():
        assert np.array_equal(value, wanted[name]), name
    return True


SHORT = dict.fromkeys(("caffe V1", "caffe new", "caffe V1, loose floats", *FEW[3:]), 10)
SHORT |= {"matconvnet weights": 2, "matconvnet filters, compressed": 2}  # each starts a process


@pytest.mark.parametrize("writer", SHORT)
def test_a_file_cut_short_is_refused(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", kind_of(writer), rng, width=1 / 32, fc=5, classes=3)
    path = tmp_path / "published"
    write(path, writer, net)
    if kind_of(writer) == "caffe":  # behind fc8 everything could be missing
        layout, how = ("new" if "new" in writer else "V1"), ("loose" if "loose" in writer else "packed")
        path.write_bytes(foreign_files.caffemodel(foreign_files.layers(net), layout, how=how, bare=True))
    content = path.read_bytes()
    load_published(path, "A", NARROW)
    ends = {1, 7, 8, len(content) - 1, *(int(end) for end in rng.integers(1, len(content), SHORT[writer]))}
    ends |= {int(end) for end in rng.integers(1, 600, SHORT[writer])}  # in whatever head it has
    for end in sorted(ends) if kind_of(writer) != "matconvnet" else rng.choice(sorted(ends), SHORT[writer]):
        path.write_bytes(content[:end])
        with case(f"{end} bytes of {len(content)}"):
            refused(path, net="A", size=NARROW)


def test_bytes_behind_the_end_or_before_the_beginning_do_no_harm(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "published"
    for writer in ("torchvision safetensors", "torchvision zip"):
        write(path, writer, drawn("A", kind_of(writer), rng, width=1 / 32, fc=5))
        content, wanted = path.read_bytes(), load_published(path, "A", NARROW).weights
        for changed in (content + rng.bytes(40), rng.bytes(16) + content, content + content):
            path.write_bytes(changed)
            with case(writer):
                survives(path, wanted)


FLIPS = {
    "caffe V1": 80, "caffe new": 80, "torchvision zip": 40, "torchvision legacy": 40, "timm safetensors": 40,
    "matconvnet weights": 2, "matconvnet filters, compressed": 2,  # each starts a process
}  # fmt: skip


@pytest.mark.parametrize("writer", FLIPS)
def test_flipped_bytes_outside_the_values_are_survived(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """In a caffemodel they never change weights; elsewhere other values may be read, but no other shapes."""
    net = drawn("A", kind_of(writer), rng, width=1 / 32, fc=5, classes=3)
    path = tmp_path / "published"
    write(path, writer, net)
    content, wanted = path.read_bytes(), load_published(path, "A", NARROW).weights
    outside = np.ones(len(content), bool)
    for array in (array for pair in foreign_files.layers(net).values() for array in pair):
        if (place := content.find(array.tobytes())) >= 0:
            outside[place : place + array.nbytes] = False
    read = 0
    for place in rng.choice(np.flatnonzero(outside), FLIPS[writer], replace=False):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256)) if rng.integers(2) else 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with case(f"byte {place}"):
            if kind_of(writer) == "caffe":
                read += survives(path, wanted)
            elif (weights := attempted(path)) is not None:
                assert {name: one.shape for name, one in weights.items()} == {k: v.shape for k, v in wanted.items()}
    assert read < FLIPS[writer]


def matlab_with(**content: object) -> bytes:
    """A .mat of anything."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


def test_a_mat_of_other_things_is_refused(read_in_this_process: None, tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "matconvnet", rng, width=1 / 32, fc=5)
    texts, conv = (foreign_files.matconvnet_layers(foreign_files.layers(net)) for _ in range(2))
    texts[0, 0]["weights"] = foreign_files.cell("not", "numbers")
    del conv[0, 0]["weights"]
    for layers in (None, np.zeros((2, 3)), "conv1_1", foreign_files.cell("conv", 1.0), texts, conv,
                   {"name": "conv1_1", "type": "dagnn.Conv"}):  # fmt: skip  # the last is a DagNN's
        (tmp_path / "net.mat").write_bytes(
            matlab_with(**({"x": np.zeros(3)} if layers is None else {"layers": layers}))
        )
        refused(tmp_path / "net.mat", net="A", size=NARROW)
    for shape, level in (((1, 1, 3), np.nan), ((1, 1, 4), 120), ((2, 2), 120)):
        matlab(image=np.full(shape, level, np.float32))(tmp_path / "net.mat", net)
        refused(tmp_path / "net.mat", "averageImage", net="A", size=NARROW)


def test_lengths_that_lead_outside_are_refused_in_a_caffemodel(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign_files.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    whole, key = foreign_files.caffemodel(layers, bare=True), b"\x12"  # field 2, a message
    floats = foreign_files.v1_layer("conv9_9", 4, [b"\x2a" + foreign_files.varint(2**40) + bytes(40)])
    for tail in (
        key + foreign_files.varint(100) + b"x", key + foreign_files.varint(2**31 - 1),
        key + foreign_files.varint(2**63), key, key + b"\xff" * 9, key + b"\xff" * 40, b"\x13", b"\x14", b"\x16\x00",
        b"\x17", b"\x11abc", b"\x15ab", b"\x08", b"\x08\xff", floats, key + b"\x03\x32\x7f\x00",
        foreign_files.v1_layer("conv9_9", 4, [foreign_files.message(5, b"12345")]), foreign_files.v1_layer("conv9_9",
        4, [b"\x2dab"]),
    ):  # fmt: skip
        (tmp_path / "published").write_bytes(whole + tail)
        refused(tmp_path / "published", net="A", size=NARROW)


@pytest.mark.parametrize("layout", ["V1", "new"])
def test_a_blob_whose_shape_lies_is_refused(layout: str, tmp_path: Path, rng: np.random.Generator) -> None:
    layers = foreign_files.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5))
    weights, biases = layers.pop("conv2_1")
    layer = foreign_files.v1_layer if layout == "V1" else foreign_files.new_layer
    second = foreign_files.blob(biases, layout == "new")
    rest = foreign_files.caffemodel(layers, layout)
    ones = foreign_files.message(7, *(foreign_files.number(1, size) for size in weights.shape)) + foreign_files.floats(
        weights
    )
    (tmp_path / "published").write_bytes(rest + layer("conv2_1", 4, [ones, second]))
    assert np.array_equal(load_published(tmp_path / "published", "A", NARROW).weights["conv2_1.weight"], weights), (
        "one by one"
    )
    for shape in ((4, 2, 3, 4), (2**40, 2**40, 2**40, 2**40), (2**64 - 4, 2, 3, 3), (0, 0, 0, 0)):
        dims = foreign_files.message(7, foreign_files.message(1, *map(foreign_files.varint, shape)))
        old = b"".join(foreign_files.number(field, size) for field, size in enumerate(shape, 1))
        first = (old if layout == "V1" else dims) + foreign_files.floats(weights)
        (tmp_path / "published").write_bytes(rest + layer("conv2_1", 4, [first, second]))
        refused(tmp_path / "published", r"\bconv2_1\b", net="A", size=NARROW)


def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    file = foreign_files.safetensors_file(foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict())
    name, path = "features.3.weight", tmp_path / "published"
    changed = lambda key, value: foreign_files.with_header(file, lambda header: header[name].update({key: value}))
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    for what, content in {
        "outside": changed("data_offsets", [2**62, 2**62 + 288]),
        "negative": changed("data_offsets", [-288, 0]),
        "overlap": changed("data_offsets", [4, 292]),
        "no offsets": foreign_files.with_header(file, lambda header: header[name].pop("data_offsets")),
        "no dict": foreign_files.with_header(file, lambda header: header.update({name: [1, 2]})),
        "huge shape": changed("shape", [2**40, 2**40, 3, 3]),
        "unknown type": changed("dtype", "F31"),
        "bytes behind": file + bytes(8),
        "huge header": struct.pack("<Q", 2**63 - 1) + file[8:],
        "header of the rest": struct.pack("<Q", len(file) - 8) + file[8:],
        "deep header": struct.pack("<Q", len(deep)) + deep,
        "no UTF-8": struct.pack("<Q", 8) + b'{"\xff\xfe":1',
    }.items():
        path.write_bytes(content)
        with case(what):
            refused(path, net="A", size=NARROW)


@pytest.mark.parametrize(("legacy", "function"), [(False, "_rebuild_tensor_v2"), (True, "_rebuild_tensor")])
def test_a_tensor_that_leads_outside_its_storage_is_refused(
    legacy: bool, function: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    state = foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    path, name = tmp_path / "published", "features.3.weight"
    lies: list[dict[str, object]] = [
        {"offset": 1}, {"offset": -1}, {"stride": (2**40, 9, 3, 1)}, {"stride": (-18, 9, 3, 1)}, {"offset": "0"},
        {"size": (4, 2, 3, 4)}, {"size": (2**40, 2**40, 3, 3), "stride": (0, 0, 0, 0)}, {"size": None},
    ]  # fmt: skip
    for lie in lies:
        changed = {**state, name: foreign_files.Rebuilt(state[name], function, **lie)}
        path.write_bytes(foreign_files.torch_file(changed, legacy))
        with case(lie):
            refused(path, net="A", size=NARROW)


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
        "torch": Evil(torch.save, 3, str(mark)),
        "getattr": Evil(getattr, Evil(__import__, "os"), "system"),
    }


def inst(mark: Path) -> bytes:
    """Protocol 0's own way to call something, and a call by name from the stack."""
    return b"(S'touch %s'\nios\nsystem\n." % str(mark).encode()


@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    container: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    mark, path = tmp_path / "touched", tmp_path / "published"
    state = foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    ways = evils(mark)
    evil = ways["os.system"]
    contents: dict[str, object] = {
        **ways,
        "beside the weights": {"state_dict": state, "hooks": evil},
        "deep": {"state_dict": state, "args": [{"a": ({"b": [1, [evil]]},)}]},
        "as a key": {**state, evil: 3},
        "in a tensor's place": {**state, "features.3.weight": evil},
        "before": OrderedDict([("a", evil), *state.items()]),
        "a whole module": foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5),
    }
    if container == "bare":  # by pickle.dump, not torch.save
        contents["weights alone"] = state
    for what, content in contents.items():
        message, protocol = r"(?i)\bcode\b", int(rng.integers(6))
        if container == "bare":
            path.write_bytes(pickle.dumps(content, protocol))
            message = message if protocol > 1 else ""  # older ones have no mark that tells them from any other text
        else:
            path.write_bytes(foreign_files.torch_file(content, container == "legacy"))
        with case(what):
            refused(path, message, net="A", size=NARROW)
            assert not mark.exists()


def test_code_in_the_other_pickles_of_a_torch_file_is_not_run(tmp_path: Path, rng: np.random.Generator) -> None:
    mark, path = tmp_path / "touched", tmp_path / "published"
    state = foreign_files.random_net("A", rng, 1, width=1 / 32, fc=5).state_dict()
    zipped, legacy = foreign_files.torch_file(state), foreign_files.torch_file(state, legacy=True)
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
        "INST in a zip": foreign_files.with_entries(zipped, lambda n, t: inst(mark) if n.endswith("data.pkl") else t),
        "tar": tar.getvalue(),
    }
    for what, content in files.items():
        path.write_bytes(content)
        refused(path, net="A", size=NARROW)
        assert not mark.exists(), what


# ---------------------------------------------------------------------- the published size

CHILD = r"""
import re, resource, sys, zlib
from pathlib import Path
import numpy as np
from pipeline.experiment.validation import load as params
from pipeline.published import load_published
made = load_published(Path(sys.argv[1]), "D", params(Path("params.yaml")).profiles["paper"].net)
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
        shapes = [one.shape for one in foreign_files.blank("D", 1000, 1, 4096).parameters() if one.dim() > 1]
    names = [f"conv{block}_{j}" for block, many in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, many + 1)]
    with path.open("wb") as file:
        for name, shape in zip([*names, "fc6", "fc7", "fc8"], shapes, strict=True):
            weights, biases = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[0], np.float32)
            ours = f"fc{int(name[2:]) - 5}" if name.startswith("fc") else name
            right = np.ascontiguousarray(weights[:, ::-1]) if name == "conv1_1" else weights
            sums[f"{ours}.weight"], sums[f"{ours}.bias"] = (zlib.crc32(one.data.cast("B")) for one in (right, biases))
            kind = foreign_files.INNER_PRODUCT if name.startswith("fc") else foreign_files.CONVOLUTION
            file.write(
                foreign_files.v1_layer(name, kind, [foreign_files.blob(one, False) for one in (weights, biases)])
            )
    return sums


@pytest.mark.slow
@pytest.mark.exhaustive
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
        name, checksum = line.split()
        assert int(checksum) == sums[name], name
    assert peak < 3 * 1024**2, f"{peak / 1024**2:.2f} GiB"  # ru_maxrss is in KiB; the weights are 0.52 GiB
