"""Published nets in trained ones' place: their rows in params.yaml, their import, their images, and their numbers."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from pipeline.datasets.readers.voc import VOC_CLASSES
from pipeline.datasets.shards import Shards
from tests.support import ROOT
from tests.support.cases import case
from tests.support.clones import call, executed, tiny_clone
from tests.support.commands import MarkedCommand, until
from tests.support.disk import FULL, Disk
from tests.support.foreign_files import Layers, State, caffemodel, features, safetensors_file, torch_file
from tests.support.ilsvrc_files import DEVKIT, TRAIN, VAL, WORDS, StandIn, make
from tests.support.images import USUAL, jpeg, photograph, run_seed
from tests.support.other_archives import Contents, unpack, voc
from tests.support.program import Outcome, program
from vgg.images import rescaled_batches

Random = np.random.Generator
Posteriors = NDArray[np.float64]

WIDTH, FC, CLASSES = 1 / 16, 24, 7
RATIO, CROP, SIDE = "2/7", 64, 2  # of the paper's pixels; a crop's side, and its last map's
NETS = {"C-384": "C", "D-jitter": "D", "E-jitter": "E"}
PIXELS = {256: 73, 384: 110, 512: 146}  # a jittered run's Q at RATIO
CLOSE = 1e-4


class Input(NamedTuple):
    """How a net takes a picture: channels in this order, 0 to `top`, minus `mean`, divided by `std`."""

    channels: str
    top: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


CAFFE = Input("BGR", 255, (103.939, 116.779, 123.68), (1, 1, 1))
TORCHVISION = Input("RGB", 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# ---------------------------------------------------------------------- the params and the folders


def small_text(rows: str = "imports: {}\n", data: Path | None = None, in_force: bool = True) -> str:
    """The repository's params.yaml with a tiny published profile; `rows` stand where its imports do."""
    text = (ROOT / "params.yaml").read_text()
    head, found, tail = text.partition("\n  published:\n")
    assert found and head.count("\nimports: {}\n") == 1
    for key, value in {"size_ratio": RATIO, "width_ratio": "1/16", "fc": FC, "processes": 1, "threads": 1}.items():
        tail, count = re.subn(rf"(?m)^(      {key}:) \S+", rf"\1 {value}", tail)
        assert count == (2 if key == "processes" else 1), key  # of prepare and of score
    if data:
        tail, count = re.subn(r"(?m)^(      path:) \S+", rf"\1 {data}", tail)
        assert count == 1
    head = head.replace("\nimports: {}\n", f"\n{rows}")
    if in_force:
        head = head.replace("\nprofile: mini\n", "\nprofile: published\n")
        head = head.replace("\nweights: trained\n", "\nweights: published\n")
        tail = tail.replace("\nlocated: table8\n", "\nlocated: table3\n")  # its images have no boxes
        tail = re.sub(r"(?m)^datasets:\n(  .*\n)+", "datasets: {}\n", tail)  # those of the file are drawn for mini
    return head + found + tail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the params alone, the published profile in force."""
    found = tmp_path / "folder"
    found.mkdir()
    (found / "params.yaml").write_text(small_text())
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the validation images are prepared, to be copied."""
    root = tmp_path_factory.mktemp("prepared")
    archives = make(np.random.default_rng(run_seed())).archives(root / "archives", [VAL, DEVKIT])
    (root / "folder").mkdir()
    (root / "folder/params.yaml").write_text(small_text(data=archives))
    done(program(root / "folder", "prepare", "--direct"))
    return root / "folder"


@pytest.fixture
def images(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder."""
    return shutil.copytree(prepared, tmp_path / "images")


def done(said: Outcome) -> Outcome:
    """A good end."""
    assert said.code == 0, said
    return said


def refused(said: Outcome, *words: str, code: int = 1, closing: Sequence[str] = ()) -> str:
    """One readable line that has these words in it, and the closing lines."""
    assert said.code == code, said
    lines = said.error.splitlines()
    assert "Traceback" not in said.out + said.error and lines[1:] == list(closing), said
    assert lines[0].startswith("vgg-repro: ") and "unexpected" not in lines[0], lines[0]
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines[0]


def import_(folder: Path, run: str, *words: object) -> Outcome:
    """`weights import` here and now."""
    return program(folder, "weights", "import", run, *map(str, words), "--direct")


def imports(folder: Path) -> dict[str, Any]:
    """The rows in params.yaml."""
    return dict(yaml.safe_load((folder / "params.yaml").read_text())["imports"])


def said_of(folder: Path, run: str) -> dict[str, Any]:
    """The record of an import."""
    return dict(json.loads((folder / f"weights/published/{run}.json").read_text()))


def scores(folder: Path, mode: str, run: str) -> dict[str, NDArray[Any]]:
    """A score file's arrays."""
    with np.load(folder / f"scores/{mode}-{run}.npz") as arrays:
        return dict(arrays)


# ---------------------------------------------------------------------- the nets, and what they should say


def random_net(random: Random, run: str, taken: Input = CAFFE, classes: int = CLASSES, width: float = WIDTH) -> Layers:
    """Random weights by Caffe's names, for pictures as `taken` prepares them: it finds several classes among such."""
    while True:
        net = any_net(random, run, taken, classes, width)
        if width != WIDTH:
            return net
        colours = random.integers(0, 256, (20, 1, 1, 3)) + random.normal(0, 20, (20, 73, 73, 3))
        found = reference(run, net, taken)(np.clip(colours, 0, 255).astype(np.uint8), True)
        weights, biases = net["fc8"]
        strength = 2 / max(float(found.std(0).mean()), 0.01)  # logits that differ from picture to picture by 2
        net["fc8"] = (weights * strength).astype(np.float32), ((biases - found.mean(0)) * strength).astype(np.float32)
        if strength < 10:
            return net


def any_net(random: Random, run: str, taken: Input, classes: int, width: float) -> Layers:
    """Random weights by Caffe's names that keep a signal, as a rule."""
    found: Layers = {}
    block, index, channels = 1, 0, 3
    for part in features(NETS[run], width):
        if isinstance(part, nn.MaxPool2d):
            block, index = block + 1, 0
        elif isinstance(part, nn.Conv2d):
            index, channels = index + 1, part.out_channels
            found[f"conv{block}_{index}"] = drawn(random, tuple(part.weight.shape))
    for name, (inward, outward) in zip(("fc6", "fc7"), pairwise([channels * SIDE**2, FC, FC]), strict=True):
        found[name] = drawn(random, (outward, inward))
    last = random.standard_normal((classes, FC)).astype(np.float32)
    found["fc8"] = last, random.standard_normal(classes).astype(np.float32) * np.float32(0.3)
    first, bias = found["conv1_1"]
    strength = 60 * taken.top / 255 / np.mean(taken.std)
    found["conv1_1"] = (first / strength).astype(np.float32), bias
    return found


def drawn(random: Random, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A hidden layer's weights, half of its filters nearly the negatives of the others, and biases."""
    half = random.standard_normal((-(-shape[0] // 2), *shape[1:]))
    weights = np.concatenate([half, 0.3 * random.standard_normal(half.shape) - half])[: shape[0]]
    biases = random.standard_normal(shape[0]) * 0.2
    return (weights * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32), biases.astype(np.float32)


def state_of(run: str, net: Layers) -> State:
    """The same by torchvision's names."""
    places = [i for i, part in enumerate(features(NETS[run], WIDTH)) if isinstance(part, nn.Conv2d)]
    names = [*(f"features.{place}" for place in places), "classifier.0", "classifier.3", "classifier.6"]
    found: State = {}
    for name, (weights, biases) in zip(names, net.values(), strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = torch.from_numpy(weights), torch.from_numpy(biases)
    return found


def with_first(net: Layers, weights: NDArray[Any]) -> Layers:
    """Another first convolution."""
    return {**net, "conv1_1": (np.ascontiguousarray(weights, np.float32), net["conv1_1"][1])}


def with_outputs(net: Layers, order: NDArray[np.int64]) -> Layers:
    """Output i is what was output order[i]."""
    weights, biases = net["fc8"]
    return {**net, "fc8": (np.ascontiguousarray(weights[order]), np.ascontiguousarray(biases[order]))}


Reference = Callable[..., Posteriors]


def reference(run: str, net: Layers, taken: Input, ceil: bool = True, hidden: bool = False) -> Reference:
    """What gives posteriors or scores (N, K) of RGB pixels (N, H, W, 3), in float64 by torchvision's layers.

    With `ceil` the poolings keep what does not fill a window, as the profile asks for and Caffe does. With `hidden` it
    gives the mean activations (N, F) before the last layer instead.
    """
    layers = [torch.from_numpy(values).double() for pair in net.values() for values in pair]
    parts = features(NETS[run], WIDTH).double()
    for layer in parts:
        layer.ceil_mode = ceil  # has no effect on other layers than poolings
    with torch.no_grad():
        for parameter, values in zip(parts.parameters(), layers[:-6], strict=True):
            parameter.copy_(values)

    @torch.inference_mode()
    def says(pixels: NDArray[np.uint8], raw: bool = False) -> Posteriors:
        x = (pixels[..., ::-1] if taken.channels == "BGR" else pixels) * (taken.top / 255)
        x = (x - np.array(taken.mean)) / np.array(taken.std)
        y = parts(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
        y = nn.functional.conv2d(y, layers[-6].reshape(FC, -1, SIDE, SIDE), layers[-5]).relu()
        y = nn.functional.conv2d(y, layers[-4][:, :, None, None], layers[-3]).relu()
        if hidden:
            return y.mean((2, 3)).numpy()
        y = nn.functional.conv2d(y, layers[-2][:, :, None, None], layers[-1])
        y = y.mean((2, 3))
        return (y if raw else y.softmax(1)).numpy()

    return says


def dense(says: Reference, pixels: NDArray[np.uint8]) -> Posteriors:
    """The mean over the whole images and their flips."""
    return np.mean([says(one) for one in (pixels, pixels[:, :, ::-1])], 0)


def crops(says: Reference, pixels: NDArray[np.uint8]) -> Posteriors:
    """The mean over 50 crops: a regular 5 x 5 grid from edge to edge, and flips."""
    height, width = pixels.shape[1:3]
    parts = [
        pixels[:, top : top + CROP, left : left + CROP]
        for top in (round((height - CROP) * i / 4) for i in range(5))
        for left in (round((width - CROP) * i / 4) for i in range(5))
    ]
    return dense(says, np.concatenate(parts)).reshape(25, len(pixels), -1).mean(0)


def expected(
    mode: str,
    run: str,
    net: Layers,
    taken: Input,
    folder: Path,
    scale: int,
    ceil: bool = True,
    resize: str = "bilinear",
) -> Posteriors:
    """What a run's net says of all prepared validation images at the paper's Q."""
    name = (folder / "data/classification/shards.txt").read_text().split()[0]
    shards = Shards(folder / "data/shards" / name, "val")
    found, says = np.full((len(shards), len(net["fc8"][1])), np.nan), reference(run, net, taken, ceil)
    for pixels, ids in rescaled_batches(shards, PIXELS[scale], 4, resize=resize, decoder=USUAL):
        shown = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
        assert min(shown.shape[1:3]) == PIXELS[scale]
        found[ids] = {"dense": dense, "crops": crops}[mode](says, shown)
    assert np.isfinite(found).all()
    return found


def wrong(found: Posteriors, labels: NDArray[np.int64], k: int) -> int:
    """How many labels are not among the k likeliest."""
    return sum(int(label) not in np.argsort(-row)[:k] for row, label in zip(found, labels, strict=True))


def apart(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> float:
    """How far two score files' posteriors are apart."""
    assert set(one) == set(other) == {*map(str, PIXELS), "labels", "weights"}
    return max(float(np.abs(one[str(scale)] - other[str(scale)]).max()) for scale in PIXELS)


# ---------------------------------------------------------------------- rows of params.yaml


@pytest.fixture(scope="module")
def net() -> Layers:
    """A net D that nothing is scored with."""
    return any_net(np.random.default_rng(run_seed()), "D-jitter", CAFFE, CLASSES, WIDTH)


def comments(text: str) -> list[str]:
    """All comments in order; no value of these files has a # in it."""
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_an_import_writes_its_row_and_again_the_same(folder: Path, rng: Random) -> None:
    file = folder.parent / "d.caffemodel"
    file.write_bytes(caffemodel(random_net(rng, "D-jitter")))
    done(import_(folder, "D-jitter", file))
    text = (folder / "params.yaml").read_text()
    assert imports(folder) == {"D-jitter": {"file": str(file)}}
    done(import_(folder, "D-jitter", file, "--mean", "1,2.5,3"))
    assert imports(folder)["D-jitter"] == {"file": str(file), "mean": [1.0, 2.5, 3.0]}
    done(import_(folder, "D-jitter", file))
    assert (folder / "params.yaml").read_text() == text, "a row is replaced, and what was given once is forgotten"


def test_what_is_said_of_the_input_stands_in_the_row_and_in_the_record(folder: Path, rng: Random) -> None:
    net = any_net(rng, "E-jitter", TORCHVISION, CLASSES, WIDTH)
    file, map_ = folder / "net.pt", folder / "classes.txt"
    file.write_bytes(torch_file(state_of("E-jitter", net)))
    map_.write_text("".join(f"{number} thing\n" for number in rng.permutation(CLASSES)))
    words = ["--channels", "BGR", "--range", "255", "--mean", "1,2,3.5", "--std", "4,5,6", "--class-map"]
    done(program(folder, "weights", "import", "E-jitter", "net.pt", *words, "classes.txt", "--direct"))
    row = imports(folder)["E-jitter"]
    assert row == {
        "file": str(file), "channels": "BGR", "range": 255, "mean": [1.0, 2.0, 3.5], "std": [4.0, 5.0, 6.0],
        "class_map": str(map_), "class_map_sha256": hashlib.sha256(map_.read_bytes()).hexdigest(),
    }  # fmt: skip
    found = said_of(folder, "E-jitter")
    content = file.read_bytes()
    assert (found["file"], found["bytes"], found["known"]) == ("net.pt", len(content), None)
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["sha1"] == hashlib.sha1(content, usedforsecurity=False).hexdigest()
    assert (found["kind"], found["outputs"], found["class_map"]) == ("torchvision", CLASSES, "classes.txt")
    assert found["input"] == {"channels": "BGR", "range": 255, "mean": [1.0, 2.0, 3.5], "std": [4.0, 5.0, 6.0]}
    assert set(found["input_given"]) == {"channels", "range", "mean", "std"}

    done(import_(folder, "E-jitter", file, "--mean", "0.5,0.25,0.125"))
    assert said_of(folder, "E-jitter")["input_given"] == ["mean"]
    done(import_(folder, "E-jitter", file, "--input", "caffe"))
    found = said_of(folder, "E-jitter")["input"]
    assert (found["channels"], found["range"]) == ("BGR", 255)
    assert found["mean"] == pytest.approx(CAFFE.mean) and found["std"] == [1, 1, 1]
    done(import_(folder, "E-jitter", file))
    found = said_of(folder, "E-jitter")
    assert found["input_given"] == [] and found["class_map"] is None
    assert found["input"] == {"channels": "RGB", "range": 1, "mean": [*TORCHVISION.mean],
                              "std": [*TORCHVISION.std]}  # fmt: skip


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.flag),)


def test_a_file_that_does_not_fit_changes_nothing_and_says_why(folder: Path, net: Layers, rng: Random) -> None:
    good, flag, file = folder.parent / "good.caffemodel", folder.parent / "flag", folder.parent / "a net.bin"
    good.write_bytes(caffemodel(net))
    (folder.parent / "a net.txt").write_text("0\n1\n2\n")
    done(import_(folder, "D-jitter", good))
    before, state = published_files(folder), state_of("D-jitter", net)
    wide, another = (
        any_net(rng, run, CAFFE, CLASSES, width) for run, width in (("D-jitter", 1 / 8), ("E-jitter", WIDTH))
    )
    map_ = ["--class-map", folder.parent / "a net.txt"]
    cases: dict[str, tuple[bytes | None, list[object], list[str]]] = {
        "nothing": (None, [], [file.name]),
        "another net": (caffemodel(another), [], [file.name, "net E", "net D"]),
        "another size": (caffemodel(wide), [], [file.name, "conv1_1"]),
        "cut short": (safetensors_file(state)[:-2000], [], [file.name]),
        "code": (torch_file({**state, "more": Hostile(flag)}), [], [file.name, "code"]),
        "another class map": (good.read_bytes(), map_, ["a net.txt", "3", str(CLASSES)]),
    }
    for what, (content, more, words) in cases.items():
        if content:
            file.write_bytes(content)
        with case(what):
            refused(import_(folder, "D-jitter", file, *more), *words)
            assert published_files(folder) == before
    assert not flag.exists(), "the file's code was run"


def test_wrong_use_ends_with_2_and_changes_nothing(folder: Path) -> None:
    before, file = (folder / "params.yaml").read_bytes(), folder.parent / "net.caffemodel"
    for words, said in (
        (["D-jiter", file], "D-jitter"),
        (["D-jitter", file, "--mean", "1,2"], "three numbers"),
        (["D-jitter", file, "--mean", "nan,2,3"], "mean"),
        (["D-jitter", file, "--std", "red,green,blue"], "three numbers"),
        (["D-jitter", file, "--std", "1,0,1"], "--std"),
        (["D-jitter", file, "--range", "7"], "--range"),
        (["D-jitter", file, "--channels", "GBR"], "--channels"),
        (["D-jitter", file, "--input", "tensorflow"], "torchvision"),
        (["D-jitter", "--class-map", file], "FILE"),
        (["D-jitter", "--mean", "1,2,3"], "FILE"),
        (["D-jitter"], "weights import D-jitter"),
    ):
        with case(words):
            refused(import_(folder, *words), said, code=2)
    assert (folder / "params.yaml").read_bytes() == before and not (folder / "weights").exists()


# ---------------------------------------------------------------------- the images


def made(folder: Path) -> dict[str, Any]:
    """All that came of a preparation: shards, manifest, facts and fingerprint."""
    assert program(folder, "stage", "fingerprint").code == 0
    name = (folder / "data/classification/shards.txt").read_text().split()[0]
    shards = folder / "data/shards" / name
    assert not list(shards.glob("train-*.bin")) or sum(path.stat().st_size for path in shards.glob("train-*.bin")) == 0
    found = {path.name: path.read_bytes() for path in sorted(shards.glob("val-*.bin"))}
    names = ("fingerprint.json", "manifest.csv", "statistics.json")
    places = (*(f"data/classification/{name}" for name in names), "data/classification/facts-published.json")
    return found | {place: (folder / place).read_bytes() for place in places}


def check_labels(folder: Path, stand_in: StandIn) -> None:
    """All validation images are there, with their classes, and no others."""
    name = (folder / "data/classification/shards.txt").read_text().split()[0]
    shards = Shards(folder / "data/shards" / name, "val")
    found = {Path(id_).stem: int(label) for id_, label in zip(shards.ids, shards.labels, strict=True)}
    assert found == {picture.id: picture.label for picture in stand_in.val}
    facts = json.loads((folder / "data/classification/facts-published.json").read_text())
    assert (facts["train"], facts["val"], len(facts["classes"])) == (0, len(stand_in.val), len(stand_in.wnids))
    assert "train" not in {
        line.split(",")[0] for line in (folder / "data/classification/manifest.csv").read_text().splitlines()
    }


def test_the_validation_archive_and_the_devkit_are_enough_and_training_images_are_not_looked_at(
    tmp_path: Path, rng: Random
) -> None:
    stand_in = make(rng)
    archives = stand_in.archives(tmp_path / "archives", [VAL, DEVKIT])
    found = []
    for place in ("alone", "beside"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "params.yaml").write_text(small_text(in_force=False))
        if place == "beside":
            (archives / TRAIN).write_bytes(rng.bytes(3000))  # no tar
        said = done(program(tmp_path / place, "prepare", "--profile", "published", "--path", str(archives), "--direct"))
        assert "active profile: published" in said.out and "published weights" in said.out
        values = yaml.safe_load((tmp_path / place / "params.yaml").read_text())
        assert (values["profile"], values["weights"]) == ("published", "published")
        assert values["profiles"]["published"]["data"]["path"] == str(archives)
        assert comments((tmp_path / place / "params.yaml").read_text()) == comments(small_text())
        check_labels(tmp_path / place, stand_in)
        found.append(made(tmp_path / place))
    assert found[0] == found[1]
    (archives / TRAIN).unlink()
    (archives / TRAIN).mkdir()
    assert made(tmp_path / "alone") == found[0]


@pytest.mark.parametrize("layout", ["flat, kit packed", "class folders", "imagefolder"])
def test_a_folder_of_validation_images_is_enough_too(layout: str, folder: Path, rng: Random) -> None:
    stand_in, root = make(rng), folder.parent / "images"
    devkit = "archive" if layout.startswith("flat") else "none"
    stand_in.tree(root, "flat" if layout.startswith("flat") else "folders", devkit, boxes=False)
    shutil.rmtree(root / "train")
    if rng.integers(2):  # something of no interest
        (root / "train").mkdir()
        (root / "train/n01440764").write_bytes(b"no folder")
    source = ["--source", "imagefolder"] if layout == "imagefolder" else []
    done(program(folder, "prepare", "--profile", "published", *source, "--path", str(root), "--direct"))
    check_labels(folder, stand_in)


def test_an_archive_that_is_needed_is_named_if_it_is_missing(folder: Path, rng: Random) -> None:
    before = (folder / "params.yaml").read_bytes()
    for lacking in (VAL, DEVKIT):
        there = [name for name in (TRAIN, VAL, DEVKIT) if name != lacking]
        archives = make(rng).archives(folder.parent / f"without {lacking}", there)
        said = program(folder, "prepare", "--profile", "published", "--path", str(archives), "--direct")
        refused(said, lacking, code=2, closing=["params.yaml is unchanged"])
        assert (folder / "params.yaml").read_bytes() == before


def test_a_profile_without_training_that_scores_trained_nets_is_refused(folder: Path) -> None:
    (folder / "params.yaml").write_text(small_text().replace("\nweights: published\n", "\nweights: trained\n"))
    for words in (["prepare", "--direct"], ["status"], ["score", "dense", "D-jitter", "--direct"]):
        refused(program(folder, *words), "weights", "published", "params.yaml", code=2)


# ---------------------------------------------------------------------- what the nets say of the images


def scored(folder: Path, run: str, content: bytes, *words: object) -> dict[str, NDArray[Any]]:
    """Import a file's bytes and score the run densely."""
    file = folder / "net.bin"
    file.write_bytes(content)
    done(import_(folder, run, file, *words))
    done(program(folder, "score", "dense", run, "--direct"))
    return scores(folder, "dense", run)


def listed(values: NDArray[np.float64]) -> str:
    """Three numbers for an option."""
    return ",".join(f"{value:.9g}" for value in values)


def test_the_input_convention_travels_with_the_net(images: Path, rng: Random) -> None:
    run = "D-jitter"
    net = random_net(rng, run, TORCHVISION)
    mean, std = np.array(TORCHVISION.mean), np.array(TORCHVISION.std)
    plain = scored(images, run, torch_file(state_of(run, net)))
    for scale in PIXELS:
        wanted = expected("dense", run, net, TORCHVISION, images, scale)
        assert np.abs(plain[str(scale)] - wanted).max() < CLOSE, scale
    folded = with_first(net, (net["conv1_1"][0].astype(np.float64) / (255 * std)[:, None, None])[:, ::-1])
    bgr = ["--channels", "BGR", "--range", "255", "--mean", listed(255 * mean[::-1]), "--std", "1,1,1"]
    assert apart(scored(images, run, safetensors_file(state_of(run, folded)), *bgr), plain) < CLOSE
    assert apart(scored(images, run, caffemodel(net), "--input", "torchvision"), plain) < CLOSE
    assert apart(scored(images, run, torch_file(state_of(run, net)), "--input", "caffe"), plain) > 100 * CLOSE


@pytest.mark.parametrize(("remainder", "resize"), [("floor", "bicubic"), ("ceil", "bicubic"), ("floor", "bilinear")])
def test_whole_images_are_scored_with_the_remainder_and_the_filter_asked_for(
    remainder: str, resize: str, images: Path, rng: Random
) -> None:
    file = images / "params.yaml"
    values = yaml.safe_load(file.read_text())
    values["profiles"]["published"]["score"] |= {"remainder": remainder, "resize": resize}
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    run = "D-jitter"
    net = random_net(rng, run, TORCHVISION)
    found = scored(images, run, torch_file(state_of(run, net)))
    for scale in PIXELS:
        wanted = expected("dense", run, net, TORCHVISION, images, scale, remainder == "ceil", resize)
        assert np.abs(found[str(scale)] - wanted).max() < CLOSE, scale


def test_caffes_input_travels_with_the_net_as_well(images: Path, rng: Random) -> None:
    run = "E-jitter"
    net = random_net(rng, run, CAFFE)
    plain = scored(images, run, caffemodel(net))
    wanted = expected("dense", run, net, CAFFE, images, 256)
    assert np.abs(plain["256"] - wanted).max() < CLOSE
    turned = with_first(net, net["conv1_1"][0][:, ::-1])
    assert apart(scored(images, run, caffemodel(turned), "--input", "matconvnet"), plain) < CLOSE


def test_outputs_of_another_order_are_put_right_by_a_class_map(images: Path, rng: Random) -> None:
    run, map_ = "D-jitter", images / "map.txt"
    net = random_net(rng, run)
    plain = scored(images, run, caffemodel(net))
    order = rng.permutation(CLASSES)
    wnids = sorted(list(WORDS)[:CLASSES])  # the images'
    map_.write_text("".join(f"{wnids[one]} a thing, or another\n" for one in order))
    assert apart(scored(images, run, caffemodel(with_outputs(net, order)), "--class-map", map_), plain) < CLOSE

    weights, biases = net["fc8"]  # an output of none of the classes, as some nets have
    at = int(rng.integers(CLASSES + 1))
    more = {**net, "fc8": (np.insert(weights[order], at, 9, 0), np.insert(biases[order], at, 50).astype(np.float32))}
    map_.write_text("\n".join([*map(str, order[:at]), "-", *map(str, order[at:])]))
    assert apart(scored(images, run, caffemodel(more), "--class-map", map_), plain) < CLOSE

    map_.write_text("\n".join(str(one) for one in np.roll(order, 1)))
    refused(import_(images, run), "map.txt", "import")  # it has changed since it was given


def test_a_net_of_other_classes_or_of_another_size_is_not_scored(images: Path, rng: Random) -> None:
    run, others = "D-jitter", 11
    (images / "net.bin").write_bytes(caffemodel(any_net(rng, run, CAFFE, others, WIDTH)))
    done(import_(images, run, images / "net.bin"))
    refused(program(images, "score", "dense", run, "--direct"), run, f"{others} classes", str(CLASSES))
    assert not (images / "scores").exists()

    (images / "net.bin").write_bytes(caffemodel(any_net(rng, run, CAFFE, CLASSES, WIDTH)))
    done(import_(images, run, images / "net.bin"))
    text = (images / "params.yaml").read_text()
    head, found, tail = text.partition("\n  published:\n")
    (images / "params.yaml").write_text(head + found + tail.replace("width_ratio: 1/16", "width_ratio: 1/8"))
    refused(program(images, "score", "dense", run, "--direct"), "D-jitter", "size")
    assert not (images / "scores").exists()


# ---------------------------------------------------------------------- features (appendix B)


FEATURE_PIXELS = {256: 73, 384: 110, 512: 146, 640: 183, 768: 219}  # Q at RATIO


def voc_of_photographs(random: Random, **sets: Sequence[str]) -> Contents:
    """VOC-2007 with photographs of some sizes. Two images of a set have all classes between them."""
    labels = ([1 if column % 2 == number else -1 for column in range(len(VOC_CLASSES))] for number in (0, 1))
    both = itertools.cycle(labels)
    found = voc(2007, {name: {id: next(both) for id in ids} for name, ids in sets.items()})
    sizes = itertools.cycle([(100, 120), (120, 100), (75, 110)])
    return {
        name: jpeg(photograph(random, *next(sizes))) if name.endswith(".jpg") else content
        for name, content in found.items()
    }


def activations(run: str, net: Layers, images: Shards) -> list[Posteriors]:
    """An independent forward pass: the mean over the map and both flips before the last layer, at each Q."""
    says, rows = reference(run, net, CAFFE, hidden=True), []
    for pixels in FEATURE_PIXELS.values():
        found = np.full((len(images), FC), np.nan)
        for batch, ids in rescaled_batches(images, pixels, 4, decoder=USUAL):
            found[ids] = dense(says, np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy()))
        rows.append(found)
    return rows


@pytest.mark.parametrize("run", ["D-jitter", "E-jitter"])
def test_features_of_a_published_net_equal_an_independent_forward_pass(run: str, folder: Path, rng: Random) -> None:
    """Those of the stage, at each Q, and the descriptors that the command computes of the same images."""
    net = random_net(rng, run)
    (folder / "net.caffemodel").write_bytes(caffemodel(net))
    done(import_(folder, run, folder / "net.caffemodel"))
    files = voc_of_photographs(rng, train=["000012", "000023"], val=["000005", "000009"], test=["000001", "000002"])
    unpack(files, folder / "voc")
    done(program(folder, "prepare", "voc2007", "--path", "voc", "--direct"))
    done(program(folder, "stage", "features", "voc2007", run))
    shards = Shards(next((folder / "data/shards").glob("*/facts.json")).parent, "val")
    wanted = activations(run, net, shards)
    with np.load(folder / f"scores/features/voc2007-{run}.npz") as stored:
        assert set(stored) == set(map(str, FEATURE_PIXELS))
        for scale, rows in zip(FEATURE_PIXELS, wanted, strict=True):
            assert rows.std() > 0.1 and np.abs(stored[str(scale)] - rows).max() < 1e-5 * np.abs(rows).max()
    photographs = folder / "voc/VOCdevkit/VOC2007/JPEGImages"
    done(program(folder, "features", str(photographs), "--run", run, "--out", "x.npz"))
    mean = np.mean(wanted, 0)
    with np.load(folder / "x.npz") as made:
        assert made["path"].tolist() == [f"{Path(id).stem}.jpg" for id in shards.ids]
        assert np.abs(made["vector"] - mean / np.linalg.norm(mean, axis=1, keepdims=True)).max() < 1e-5


def test_table_11_needs_no_imagenet(tmp_path: Path, rng: Random) -> None:
    """The commands of docs/other-data-sets.md, from a params.yaml as cloned to the table and the report."""
    (tmp_path / "params.yaml").write_text(small_text(in_force=False))
    refused(
        program(tmp_path, "prepare", "voc2007", "--path", "nowhere", "--profile", "published", "--direct"),
        "no folder nowhere", code=2, closing=["params.yaml is unchanged"],
    )  # fmt: skip
    assert (tmp_path / "params.yaml").read_text() == small_text(in_force=False)
    ids = [f"{number:06d}" for number in range(36)]
    labels = {id: [1 if (number + column) % 3 == 0 else -1 for column in range(20)] for number, id in enumerate(ids)}
    parts = {name: ids[first : first + 12] for name, first in (("train", 0), ("val", 12), ("test", 24))}
    found = voc(2007, {name: {id: labels[id] for id in members} for name, members in parts.items()})
    images = {name: jpeg(photograph(rng, 75, 100)) for name in found if name.endswith(".jpg")}
    unpack(found | images, tmp_path / "voc")
    done(program(tmp_path, "prepare", "voc2007", "--path", "voc", "--profile", "published", "--direct"))
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert (values["profile"], values["weights"], list(values["datasets"])) == ("published", "published", ["voc2007"])
    for run in ("D-jitter", "E-jitter"):
        (tmp_path / f"{run}.caffemodel").write_bytes(caffemodel(random_net(rng, run)))
        done(import_(tmp_path, run, tmp_path / f"{run}.caffemodel"))
        done(program(tmp_path, "stage", "features", "voc2007", run))
    for system in ("D", "E", "DE"):
        done(program(tmp_path, "stage", "svm", "voc2007", system))
    shown = done(program(tmp_path, "stage", "table", "table11")).out
    (row,) = [line for line in shown.splitlines() if line.startswith("| VOC-2007 ")]
    cells = [cell.strip() for cell in row.split("|")][3:-1]
    assert cells[::2] == ["89.3", "89.3", "89.7"] and all(0 < float(ours) < 100 for ours in cells[1::2])
    done(program(tmp_path, "report", "--out", "pages"))
    assert row in (tmp_path / "pages/published/table11.md").read_text()
    assert "There are results of other data sets" in (tmp_path / "pages/published/README.md").read_text()


def test_the_check_names_a_second_one_where_there_are_no_images_of_ilsvrc(folder: Path, rng: Random) -> None:
    (folder / "net.caffemodel").write_bytes(caffemodel(any_net(rng, "D-jitter", CAFFE, CLASSES, WIDTH)))
    done(import_(folder, "D-jitter", folder / "net.caffemodel"))
    said = program(folder, "weights", "check")
    assert said.code == 1 and "there is no folder data/ilsvrc2012" in said.error.splitlines()[0]
    assert "vgg-repro prepare voc2007 --path FOLDER --profile published, dvc repro table11" in said.error


# ---------------------------------------------------------------------- killed, and without room


KILLER = """
import io, os, signal, sys
from pathlib import Path
from cli.main import main
import cli.weights, pipeline.experiment.params_file, pipeline.published.caffe, stages.imported
import torchvision.models, vgg.nets
root, file, number = Path(sys.argv[1]), sys.argv[2], 0
while True:
    if not (child := os.fork()):
        os.chdir(root / str(number))
        left = number
        def dying(real):
            def called(*args, **more):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)
            return called
        real = io.open
        at_open = dying(real)
        io.open = lambda *args, **more: (at_open if set((args + ("r",))[1]) & set("wax+") else real)(*args, **more)
        os.fsync, os.replace, os.rename = dying(os.fsync), dying(os.replace), dying(os.rename)
        sys.argv = ["vgg-repro", "weights", "import", "D-jitter", file, "--direct"]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(number, status)
    if status != signal.SIGKILL:
        sys.exit(status)
    number += 1
"""


def published_files(folder: Path) -> dict[str, bytes]:
    """The params and all weights, hidden files too."""
    found = [folder / "params.yaml", *(path for path in (folder / "weights").rglob("*") if path.is_file())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_an_import_killed_at_any_write_leaves_whole_files_and_nothing_in_the_way(folder: Path, net: Layers) -> None:
    file, most = folder.parent / "net.caffemodel", 20
    file.write_bytes(caffemodel(net))
    for number in range(most):
        shutil.copytree(folder, folder.parent / "killed" / str(number))
    before = (folder / "params.yaml").read_bytes()
    done(import_(folder, "D-jitter", file))
    wanted = published_files(folder)
    assert set(wanted) == {"params.yaml", "weights/published/D-jitter.pt", "weights/published/D-jitter.json"}
    script = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder.parent / "killed"), str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert script.returncode == 0, script.stdout + script.stderr
    kills = len(re.findall(rf"^\d+ {int(signal.SIGKILL)}$", script.stdout, re.M))
    assert kills >= 9, "opened, synced and moved: three files"
    for number in range(kills):
        killed = folder.parent / "killed" / str(number)
        for name, content in published_files(killed).items():
            if name == "params.yaml":
                assert content in (before, wanted[name]), number
            elif not name.endswith(".partial"):
                assert content == wanted[name], (number, name)
        if number % 3 == kills % 3:
            done(import_(killed, "D-jitter", file))
            assert published_files(killed) == wanted, number


def test_a_disk_that_fills_in_an_import_is_one_line_and_harms_nothing(folder: Path, net: Layers, rng: Random) -> None:
    files = [folder.parent / name for name in ("old.caffemodel", "new.caffemodel")]
    for file, one in zip(files, (net, with_outputs(net, np.roll(np.arange(CLASSES), 1))), strict=True):
        file.write_bytes(caffemodel(one))
    done(import_(folder, "D-jitter", files[0]))
    before = published_files(folder)
    watched = shutil.copytree(folder, folder.parent / "watched")
    with Disk(watched) as disk:
        done(import_(watched, "D-jitter", files[1]))
    wanted = published_files(watched)
    names = [one.name for one in disk.opened]
    assert names == ["params.yaml", "weights/published/D-jitter.pt", "weights/published/D-jitter.json"]
    for number, one in enumerate(disk.opened):
        room = int(rng.integers(one.bytes))
        copy = shutil.copytree(folder, folder.parent / str(number))
        with Disk(copy, (number, room)) as full:
            said = import_(copy, "D-jitter", files[1])
        assert full.failed == number
        refused(said, Path(one.name).name, FULL)
        found = published_files(copy)
        assert [found[name] for name in names] == [*map(wanted.get, names[:number]), *map(before.get, names[number:])]
        assert set(found) == set(names)
    done(import_(copy, "D-jitter"))
    done(import_(copy, "D-jitter", files[1]))
    assert published_files(copy) == wanted


# ---------------------------------------------------------------------- the whole, through DVC


SCORED = {"dense@D-jitter", "dense@E-jitter", "crops@D-jitter", "crops@E-jitter"}


class Finished(NamedTuple):
    """A clone in which Table 5 has been made from two published nets."""

    folder: Path
    executed: list[set[str]]
    nets: dict[str, tuple[Layers, Input]]

    def copy(self, path: Path) -> Path:
        """A clone to go on with."""
        return shutil.copytree(self.folder, path, symlinks=True)

    def file(self, run: str) -> Path:
        """A run's file."""
        return Path(imports(self.folder)[run]["file"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """D by Caffe's model, and E by torchvision's names with Caffe's input."""
    random, root = np.random.default_rng(run_seed()), tmp_path_factory.mktemp("published")
    archives = make(random).archives(root / "archives", [VAL, DEVKIT])
    folder = tiny_clone(root / "clone", "published")
    values = yaml.safe_load((folder / "params.yaml").read_text())
    profile = values["profiles"]["published"]
    profile["net"] |= {"size_ratio": RATIO, "width_ratio": "1/16", "fc": FC}
    profile["data"]["path"] = str(archives)
    profile["prepare"]["processes"] = profile["score"]["processes"] = profile["score"]["threads"] = 1
    values["runs"]["D-jitter"]["init"] = "A-256"  # so that its training in mini is short
    values |= {"profile": "published", "weights": "published", "datasets": {}}  # those of the file are drawn for mini
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    nets = {run: (random_net(random, run), CAFFE) for run in ("D-jitter", "E-jitter")}
    (root / "VGG № 16 #2.caffemodel").write_bytes(caffemodel(nets["D-jitter"][0]))
    (root / "vgg19.pth").write_bytes(torch_file(state_of("E-jitter", nets["E-jitter"][0])))
    done(import_(folder, "D-jitter", root / "VGG № 16 #2.caffemodel"))
    done(import_(folder, "E-jitter", root / "vgg19.pth", "--input", "caffe"))
    shutil.rmtree(folder / "weights/published")  # DVC makes them
    ran = [executed(call(folder, "dvc", "repro", "table5")) for _ in range(2)]
    return Finished(folder, ran, nets)


@pytest.mark.slow
def test_the_illustrations_are_made_of_the_published_net(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path / "clone")
    ran = [executed(call(folder, "dvc", "repro", "illustrations")) for _ in range(2)]
    assert ran == [{"fingerprint", "illustrations"}, {"fingerprint"}]
    values = json.loads((folder / "reports/published/illustrations.json").read_text())
    assert values["training"] is None and values["run"] == "D-jitter"
    assert (
        values["weights_sha256"] == hashlib.sha256((folder / "weights/published/D-jitter.pt").read_bytes()).hexdigest()
    )
    call(folder, "vgg-repro", "report")
    page = (folder / "reports/published/images.md").read_text()
    assert "with published weights" in page and "](scoremap.jpg)" in page and "training-crops" not in page


def table(folder: Path, number: int, profile: str = "published") -> dict[str, Any]:
    """A table's values."""
    return dict(json.loads((folder / f"reports/{profile}/table{number}.json").read_text()))


@pytest.mark.slow
def test_table_5_is_made_of_published_nets_and_nothing_is_trained(finished: Finished) -> None:
    wanted = {"fingerprint", "prepare", "import@D-jitter", "import@E-jitter", "table5"} | SCORED
    assert finished.executed == [wanted, {"fingerprint"}]
    assert not (finished.folder / "weights/trained").exists()
    values = table(finished.folder, 5)
    assert values["published"] == {run: said_of(finished.folder, run) for run in finished.nets}
    labels = scores(finished.folder, "dense", "D-jitter")["labels"]
    k = values["k"]
    assert k == 5 and len(values["rows"]) == 6
    for run, (net, taken) in finished.nets.items():
        means = {}
        for mode in ("dense", "crops"):
            found = {scale: expected(mode, run, net, taken, finished.folder, scale) for scale in PIXELS}
            stored = scores(finished.folder, mode, run)
            for scale in PIXELS:
                assert np.abs(stored[str(scale)] - found[scale]).max() < CLOSE, (run, mode, scale)
            means[mode] = np.mean(list(found.values()), 0)
        methods = {"dense": [means["dense"]], "multi-crop": [means["crops"]],
                   "multi-crop & dense": list(means.values())}  # fmt: skip
        for method, parts in methods.items():
            label = {"net": run[0], "method": method}
            (row,) = [row for row in values["rows"] if label.items() <= row["label"].items()]
            mean = np.mean(parts, 0)
            ours = row["ours"]
            assert (ours["top1"]["wrong"], ours["topk"]["wrong"]) == (wrong(mean, labels, 1), wrong(mean, labels, k))
            assert ours["top1"]["error"] == pytest.approx(100 * wrong(mean, labels, 1) / len(labels))


@pytest.mark.slow
def test_what_changes_of_a_published_net_is_done_again_and_nothing_else(
    finished: Finished, tmp_path: Path, rng: Random
) -> None:
    folder, run, map_ = finished.copy(tmp_path / "clone"), "D-jitter", tmp_path / "map.txt"
    file = tmp_path / "net.caffemodel"
    shutil.copyfile(finished.file(run), file)

    def again(*words: str) -> set[str]:
        return executed(call(folder, "vgg-repro", "weights", "import", run, str(file), *words))

    said = "--std", "2,2,2", "--class-map", str(map_)
    map_.write_text("".join(f"{number}\n" for number in range(CLASSES)))
    assert again(*said) == {"import@D-jitter"}, "the file lies elsewhere, and more is said of it"
    map_.write_text("".join(f"{number}\n" for number in reversed(range(CLASSES))))
    assert again(*said) == {"import@D-jitter"}
    assert again(*said) == set()
    file.write_bytes(caffemodel(random_net(rng, run)))
    found = executed(call(folder, "dvc", "repro", "table5"))
    assert found == {"fingerprint", "import@D-jitter", "dense@D-jitter", "crops@D-jitter", "table5"}


@pytest.mark.slow
def test_tables_score_what_is_imported_and_say_of_the_rest_that_it_is_not_run(
    finished: Finished, tmp_path: Path, rng: Random
) -> None:
    folder, file = finished.copy(tmp_path / "clone"), tmp_path / "c.safetensors"
    file.write_bytes(safetensors_file(state_of("C-384", random_net(rng, "C-384", TORCHVISION))))
    done(import_(folder, "C-384", file))
    shutil.rmtree(folder / "weights/published")  # not only C's is to be had from DVC
    for number in (3, 4, 6, 7):
        said = call(folder, "vgg-repro", "table", str(number))
        values, there = table(folder, number), {"C-384", "D-jitter", "E-jitter"}
        text = said[said.rindex(f"Table {number}.") :]
        lines = [line for line in text.splitlines() if line.startswith("|")][2:]
        assert len(lines) == len(values["rows"])
        used = set()
        for row, line in zip(values["rows"], lines, strict=True):
            made_ = bool(row["runs"]) and set(row["runs"]) <= there
            used |= set(row["runs"]) if made_ else set()
            assert (row["ours"] is not None) == made_, (number, row)
            assert ("published weights" in line) == made_, line
            assert ("not run" in line) == (not made_ and bool(row["runs"])), line
        assert used and values["published"] == {run: said_of(folder, run) for run in used}
        assert not re.search(r"vgg-repro (train|score)", text)

    out = tmp_path / "report"
    done(program(folder, "report", "--out", str(out)))
    index = (out / "published/README.md").read_text()
    origin = index.partition("## Where these numbers come from")[2]
    for run in ("C-384", "D-jitter", "E-jitter"):
        (line,) = [line for line in origin.splitlines() if f"published weights, {run}" in line]
        assert said_of(folder, run)["sha256"][:12] in line
        assert Path(said_of(folder, run)["file"]).name in line
    assert "published weights" in index.partition("## Where these numbers come from")[0]
    for number in (3, 4, 5, 6, 7):
        assert "published weights" in (out / f"published/table{number}.md").read_text()


def of_training(text: str) -> list[str]:
    """The lines that speak of training, and do not say that there is none."""
    lines = [line for line in text.splitlines() if re.search(r"\btrain", line)]
    return [line for line in lines if not re.search(r"\b(no|none|nothing|nobody|not)\b", line)]


@pytest.mark.slow
def test_commands_without_targets_do_and_say_what_published_nets_are_enough_for(
    finished: Finished, tmp_path: Path
) -> None:
    folder = finished.copy(tmp_path / "clone")
    fresh = finished.copy(tmp_path / "fresh")
    for path in ("dvc.lock", "weights", "scores", "reports/published", ".dvc/cache"):
        shutil.rmtree(fresh / path) if (fresh / path).is_dir() else (fresh / path).unlink()
    said = done(program(fresh, "plan"))
    for stage in ("import@D-jitter", "import@E-jitter", *SCORED, "table5", "table1"):
        assert re.search(rf"^run +{stage} ", said.out, re.M), (stage, said.out)
    assert "train@" not in said.out and "table3" not in said.out

    for path in ("scores/dense-D-jitter.npz", "reports/published/table5.json"):
        (folder / path).unlink()
    out = call(folder, "vgg-repro", "run")
    assert of_training(out) == []
    for number in (1, 2, 5):
        assert table(folder, number)
    assert not (folder / "weights/trained").exists()
    done(program(folder, "report"))
    ledger = json.loads((folder / "reports/published/claims.json").read_text())
    assert ledger["counts"]["not run"] < len(ledger["claims"]), "Table 5's claims need D and E alone"
    assert "Claims](claims.md)" in (folder / "reports/published/README.md").read_text()
    said = done(program(folder, "plan"))
    assert "up to date" in said.out and not re.search("^(run|cached) ", said.out, re.M), said.out
    said = done(program(folder, "status"))
    for run, stand in {"D-jitter": "published", "C-384": "–"}.items():
        (line,) = [line for line in said.out.splitlines() if line.startswith(f"| {run} ")]
        assert stand in line
    done(program(folder, "data"))
    assert len(re.findall(r"^\| .* \|$", (folder / "reports/published/data.md").read_text(), re.M)) > CLASSES


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "status", "data"])
def test_where_nothing_is_trained_no_training_is_spoken_of(command: str, finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path / "clone")
    if command == "plan":
        shutil.rmtree(folder / ".dvc/cache")
        shutil.rmtree(folder / "scores")
    assert of_training(done(program(folder, command)).out) == []
    for page in folder.glob("reports/published/*.md"):
        assert of_training(page.read_text()) == []


def rows_of(text: str) -> list[str]:
    """The rows of a printed table."""
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| net")]


@pytest.mark.slow
def test_trained_nets_come_back_and_published_ones_too(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path / "clone")
    before = {mode: scores(folder, mode, "D-jitter") for mode in ("dense", "crops")}
    said = call(folder, "vgg-repro", "prepare", "--profile", "mini")
    assert "active profile: mini" in said and "trained weights" in said
    looked = rows_of(done(program(folder, "table", "3", "--direct")).out)
    assert len(looked) == 12 and all("not run" in row for row in looked), "those were published"
    trained = executed(call(folder, "dvc", "repro", "dense@D-jitter"))
    assert trained == {"fingerprint", "random@A", "train@A-256", "train@D-jitter", "dense@D-jitter"}
    looked = rows_of(said := done(program(folder, "table", "3", "--direct")).out)
    assert sum("not run" not in row for row in looked) == 1
    assert "published" not in said
    assert len(scores(folder, "dense", "D-jitter")["384"]) == 40

    said = call(folder, "vgg-repro", "prepare", "--profile", "published")
    assert "active profile: published" in said and "published weights" in said
    assert executed(said) == {"fingerprint"}
    assert executed(call(folder, "dvc", "repro", "table5")) == {"fingerprint"}
    for mode, arrays in before.items():
        assert apart(scores(folder, mode, "D-jitter"), arrays) == 0


@pytest.mark.slow
def test_dvc_says_which_net_is_of_other_classes_and_goes_on_once_it_is_right(
    finished: Finished, tmp_path: Path, rng: Random
) -> None:
    folder = finished.copy(tmp_path / "clone")
    file = tmp_path / "of 1000.caffemodel"
    file.write_bytes(caffemodel(random_net(rng, "D-jitter", classes=1000)))
    done(import_(folder, "D-jitter", file))
    with pytest.raises(AssertionError) as failed:
        call(folder, "dvc", "repro", "dense@D-jitter")
    said = str(failed.value)
    (line,) = [line for line in said.splitlines() if line.startswith("vgg-repro: ")]
    assert "D-jitter" in line and "1000" in line and re.search(rf"\b{CLASSES}\b", line), line
    assert "Traceback" not in said

    file.write_bytes(caffemodel(random_net(rng, "D-jitter")))
    command = ("vgg-repro", "weights", "import", "D-jitter", str(file))
    run = MarkedCommand(folder, *command)
    until("DVC to begin", lambda: "Running stage 'import@D-jitter'" in run.said)
    with suppress(ProcessLookupError):  # it was quick
        run.kill(bool(rng.integers(2)))
    run.clear()
    assert executed(call(folder, *command)) <= {"import@D-jitter"}
    found = published_files(folder)
    done(import_(folder, "D-jitter", file))
    assert published_files(folder) == found
    assert said_of(folder, "D-jitter")["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
