"""Keras's weights of every layout against torchvision's code, and what such a file can have wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import Failure
from pipeline.published import InputOverride, keras, load_published, own_process
from pipeline.system.worker_pool import run_apart
from tests.support import foreign_files
from tests.support.cases import case
from tests.support.foreign_files import Layers
from tests.support.net_outputs import CAFFES, CONVENTIONS, NARROW, SIZE, check_outputs, drawn

CLOSE = 1e-5
CAFFE_INPUT = InputOverride(channels="BGR", range=255, mean=CAFFES[2], std=CAFFES[3])


@pytest.fixture(autouse=True)
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process: nothing but damage needs another."""
    monkeypatch.setattr(own_process, "run_apart", lambda work, file, _: work(file, False))


def renamed(layers: Layers) -> Layers:
    """The layers by names that say nothing."""
    return {f"layer_{place * 7 % 31}": arrays for place, arrays in enumerate(layers.values())}


NAMED: dict[str, Callable[[Path, Layers], object]] = {
    "Keras 1, as its VGG16": lambda path, net: foreign_files.keras_2(path, net, "NAME_W_1:0 NAME_b_1:0"),
    "Keras 2, weights": lambda path, net: foreign_files.keras_2(path, net, "kernel:0 bias:0"),
    "Keras 2, full model": lambda path, net: foreign_files.keras_2(
        path, net, "kernel:0 bias:0", within=["model_weights"]
    ),
    "Keras 2, a model in a model": lambda path, net: foreign_files.keras_2(
        path, net, "kernel:0 bias:0", within=["model_weights", "vgg16"]
    ),
    "Keras 3 with names": lambda path, net: foreign_files.keras_3(path, net, named=True),
    "Keras 3 archive with names": lambda path, net: path.write_bytes(foreign_files.keras_archive(net, named=True)),
}
UNNAMED: dict[str, Callable[[Path, Layers], object]] = {
    "Keras 2, others' names": lambda path, net: foreign_files.keras_2(path, renamed(net), "kernel:0 bias:0"),
    "Keras 3": lambda path, net: foreign_files.keras_3(path, net),
    "Keras 3, a model in a model": lambda path, net: foreign_files.keras_3(path, net, "layers/functional/layers"),
    "Keras 3 archive": lambda path, net: path.write_bytes(foreign_files.keras_archive(net)),
}


@pytest.mark.parametrize("writer", [*NAMED, *UNNAMED])
def test_outputs_equal_torchvisions(writer: str, tmp_path: Path, rng: np.random.Generator) -> None:
    net = str(rng.choice(["D", "E"]))
    theirs = drawn(net, "caffe", rng)
    path = tmp_path / "vgg.pth"  # the content decides
    (NAMED | UNNAMED)[writer](path, foreign_files.kernels(foreign_files.layers(theirs)))
    named = writer in NAMED
    imported = load_published(path, net, SIZE, InputOverride() if named else CAFFE_INPUT)
    assert imported.kind == ("keras" if named else "numbered keras")
    check_outputs(imported, net, theirs, rng, CONVENTIONS["caffe"], CLOSE)


def test_layers_without_keras_names_need_an_input(tmp_path: Path, rng: np.random.Generator) -> None:
    UNNAMED["Keras 3"](tmp_path / "x", foreign_files.kernels(foreign_files.layers(drawn("A", "caffe", rng))))
    with pytest.raises(Failure, match="--mean"):
        load_published(tmp_path / "x", "A", SIZE)


def theano(layers: Layers) -> Layers:
    """The layers as Keras 1 stored them with Theano: (out, in, h, w)."""
    return {name: (k.transpose(3, 2, 0, 1) if k.ndim == 4 else k, b) for name, (k, b) in layers.items()}


def without(layers: Layers, *names: str) -> Layers:
    """The layers but for those."""
    return {name: arrays for name, arrays in layers.items() if name not in names}


def test_files_that_do_not_fit_are_named_for_what_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    net = foreign_files.kernels(foreign_files.layers(drawn("D", "caffe", rng)))
    bare = {"predictions": (net["predictions"][0], np.zeros((1, 1), np.float32))}
    whole = {name: (k.astype(np.int32), b) for name, (k, b) in net.items()}
    for what, layers, message in (
        ("notop", without(net, "fc1", "fc2", "predictions"), "no classifier.*include_top=True"),
        ("Theano's", theano(net), "tf_dim_ordering_tf_kernels"),
        ("no layer", without(net, "block3_conv2"), r"block3_conv2\b"),
        ("another net", without(net, "block3_conv3", "block4_conv3", "block5_conv3"), "net B"),
        ("not a bias", net | bare, r"predictions\b.*not a kernel and a bias"),
        ("whole numbers", whole, "floating point"),
        ("nothing", {}, "no layers"),
    ):
        path = tmp_path / "net.h5"
        foreign_files.keras_2(path, layers, "kernel:0 bias:0")
        with case(what), pytest.raises(Failure, match=message) as caught:
            load_published(path, "D", SIZE)
        assert str(path) in str(caught.value)


def test_values_of_other_files_are_not_read(tmp_path: Path, rng: np.random.Generator) -> None:
    net = foreign_files.kernels(foreign_files.layers(drawn("A", "caffe", rng, width=1 / 32, fc=5)))
    foreign_files.keras_2(tmp_path / "other.h5", net, "kernel:0 bias:0")
    for what, link in (
        ("external", h5py.ExternalLink("other.h5", "/block1_conv1/block1_conv1/kernel:0")),
        ("soft", h5py.SoftLink("/block2_conv1/block2_conv1/kernel:0")),
    ):
        foreign_files.keras_2(tmp_path / "net.h5", net, "kernel:0 bias:0")
        with h5py.File(tmp_path / "net.h5", "a") as opened:
            del opened["block1_conv1/block1_conv1/kernel:0"]
            opened["block1_conv1/block1_conv1/kernel:0"] = link
        with case(what), pytest.raises(Failure, match="link"):
            load_published(tmp_path / "net.h5", "A", NARROW)


def test_a_damaged_file_is_refused_and_ends_only_its_own_process(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # h5py in a process of its own
    path = tmp_path / "net.h5"
    NAMED["Keras 2, weights"](path, foreign_files.kernels(foreign_files.layers(drawn("A", "caffe", rng, width=1 / 32))))
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(600, len(content) - 1))])
    with pytest.raises(Failure, match=re.escape(str(path)) + r".*(truncated|damaged)"):
        load_published(path, "A", NARROW)


def test_without_h5py_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "net.h5", "w"):
        pass
    monkeypatch.setattr(keras, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"pip install 'h5py"):
        load_published(tmp_path / "net.h5", "A", NARROW)


def crash(file: Path, crashed: bool) -> keras.KerasContents:
    """End the process, as HDF5's library may do with a damaged file."""
    os._exit(1)


def test_a_file_that_crashes_the_library_is_named_and_ends_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_process, "run_apart", run_apart)
    monkeypatch.setattr(keras, "_contents", crash)
    with pytest.raises(Failure, match=r"net\.h5 is damaged or too large .*: the process that read it died"):
        keras.read_keras(tmp_path / "net.h5")
