"""Published nets: files of Caffe, MatConvNet, PyTorch and safetensors, told by their content and fitted to our nets."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.experiment.params import Net
from pipeline.published.class_map import order, read_map
from pipeline.published.convention import ConvertedWeights, InputOverride, RawWeights
from pipeline.published.conversion import fit, reversed_input

__all__ = ["ConvertedWeights", "InputOverride", "load", "read_net"]
HEAD = 520  # bytes that tell a file's kind
STRANGERS = {  # what others the first bytes tell
    b"\x1f\x8b": "packed by gzip: unpack it first",
    b"<": "a page of the web, not a net: the download went wrong",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
    b"\x08": "an ONNX model, or one of another framework, which is not read here: take the file it was made from",
}
PICKLE = 0x80  # the first byte of a pickle since Python 2.3
LAST = "fc3"


def load(file: Path, net: str, size: Net, given: InputOverride = InputOverride()) -> ConvertedWeights:  # noqa: B008 - it cannot be changed
    """The published net in `file` as `net` at the profile's `size`: it takes RGB, its outputs in our classes' order.

    Failure, naming the file and its layers, if it is damaged, no net, another net, or asks for code to be run.
    """
    foreign = read_net(file)
    weights = fit(foreign, net, size)
    convention = given.over(foreign.convention)
    if convention is None:
        raise Failure(
            f"{file} does not say what input its net takes: give its --mean, and --channels, --range, --deviation"
        )
    if convention.channels == "BGR":
        weights["conv1_1.weight"] = reversed_input(weights["conv1_1.weight"])
    classes = _put_in_order(foreign, weights, given)
    kind = foreign.kind if foreign.exported is None else "vgg-repro"
    return ConvertedWeights(kind, weights, convention, classes, foreign.exported)


def _put_in_order(foreign: RawWeights, weights: dict[str, Any], given: InputOverride) -> tuple[str, ...]:
    """Put the last layer's outputs in our classes' order, and give their WordNet ids if somebody says them."""
    outputs = len(weights[f"{LAST}.bias"])
    words, said_by = list(foreign.classes), f"{foreign.file}, in its list of classes,"
    if given.class_map is not None:
        words, said_by = read_map(given.class_map, outputs), f"the class map {given.class_map}"
    elif words and len(words) != outputs:
        raise Failure(f"{foreign.file} lists {len(words)} classes, and its net has {outputs} outputs")
    if words:
        wanted = order(words, said_by)
        for part in ("weight", "bias"):
            weights[f"{LAST}.{part}"] = np.ascontiguousarray(weights[f"{LAST}.{part}"][wanted])
    return tuple(sorted(word for word in words if WNID.fullmatch(word)))


def read_net(file: Path) -> RawWeights:
    """The tensors in `file`, as they are there. Failure if it is no net of a kind that is known."""
    from pipeline.published.caffe import read_caffe
    from pipeline.published.matconvnet import read_matconvnet
    from pipeline.published.pytorch import read_safetensors, read_torch

    head = _head(file)
    if not head:
        raise Failure(f"{file} is empty")
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in head:
        raise Failure(
            f"{file} is in MATLAB's format 7.3 (HDF5), which MatConvNet's published nets are not: save it as -v7"
        )
    if head.startswith(b"MATLAB 5.0"):
        return read_matconvnet(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return read_safetensors(file)
    if head.startswith(b"PK\x03\x04") or head[0] == PICKLE:
        return read_torch(file, head[0] != PICKLE)
    for start, what in STRANGERS.items():
        if head.startswith(start):
            raise Failure(f"{file} is {what}")
    return read_caffe(file)


def _head(file: Path) -> bytes:
    """A file's first bytes."""
    try:
        mode = os.stat(file).st_mode
        if not stat.S_ISREG(mode):
            raise Failure(f"{file} is a folder, not a file" if stat.S_ISDIR(mode) else f"{file} is no regular file")
        with file.open("rb") as opened:
            return opened.read(HEAD)
    except FileNotFoundError:
        raise Failure(f"there is no file {file}") from None
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
