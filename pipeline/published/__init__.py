"""Published nets: files of several frameworks, identified by content and fitted to our nets."""

from __future__ import annotations

import os
import stat
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.experiment.params import Net
from pipeline.published.class_map import class_order, read_map
from pipeline.published.convention import ConvertedWeights, InputOverride, RawWeights
from pipeline.published.conversion import matched_weights, reversed_input
from pipeline.published.hub_folder import hub_description, is_hub_file, weight_files

__all__ = ["ConvertedWeights", "InputOverride", "load", "read_net"]
HEAD = 520  # bytes that identify a file's kind
STRANGERS = {  # the first bytes of other kinds of files
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"<": "a web page, not a net: the download failed",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
    b"\x93NUMPY": "an array of NumPy: save the net as safetensors or as a state dict",
    b"{": "JSON, not a net: give the file of the weights, or the folder that they are in",
    b"\x08": "a model of ONNX or another unsupported framework: use the file that it was converted from",
}
ZIP = b"PK\x03\x04"
PICKLE = 0x80  # the first byte of a pickle since Python 2.3
LAST = "fc3"


def load_published(file: Path, net: str, size: Net, override: InputOverride = InputOverride()) -> ConvertedWeights:  # noqa: B008 - immutable
    """Return the published net in `file` as `net` at the profile's `size`, with RGB input and our order of classes.

    Raise Failure, naming the file and its layers, if it is damaged, no net, another net, or would run code.
    """
    raw = read_net(file)
    weights = matched_weights(raw, net, size)
    convention = override.over(raw.convention)
    if convention is None:
        raise Failure(f"{file} does not specify the input of its net: give --mean, and --channels, --range, --std")
    if convention.channels == "BGR":
        weights["conv1_1.weight"] = reversed_input(weights["conv1_1.weight"])
    classes = _reorder_outputs(raw, weights, override)
    kind = raw.kind if raw.exported is None else "vgg-repro"
    return ConvertedWeights(kind, weights, convention, classes, raw.exported, raw.unused)


def _reorder_outputs(raw: RawWeights, weights: dict[str, Any], override: InputOverride) -> tuple[str, ...]:
    """Put the last layer's outputs in our order of classes, in place. Return their WordNet ids if they are known."""
    outputs = len(weights[f"{LAST}.bias"])
    words, origin = list(raw.classes), f"the class list of {raw.file}"
    if override.class_map is not None:
        words, origin = read_map(override.class_map, outputs), f"the class map {override.class_map}"
    elif words and len(words) != outputs:
        raise Failure(f"{raw.file} lists {len(words)} classes, but its net has {outputs} outputs")
    if words:
        permutation = class_order(words, origin)
        for part in ("weight", "bias"):
            weights[f"{LAST}.{part}"] = np.ascontiguousarray(weights[f"{LAST}.{part}"][permutation])
    return tuple(sorted(word for word in words if WNID.fullmatch(word)))


def read_net(path: Path) -> RawWeights:
    """Return the tensors in a file or a folder of Hugging Face's hub unchanged. Raise Failure if it is no known net."""
    from pipeline.published.pytorch import read_safetensors

    files = weight_files(path)
    if len(files) > 1:
        for file in files:
            _head(file)
        raw = read_safetensors(path, files)
    else:
        raw = _read_file(files[0])
    if raw.exported is not None or not is_hub_file(files[0]):
        return raw
    convention, classes = hub_description(files[0])
    return replace(raw, convention=convention or raw.convention, classes=classes)


def _read_file(file: Path) -> RawWeights:
    """Return the tensors in a file unchanged. Raise Failure if it is no net of a known kind."""
    from pipeline.published.caffe import read_caffe
    from pipeline.published.keras import read_keras
    from pipeline.published.matconvnet import read_matconvnet
    from pipeline.published.pytorch import read_safetensors, read_torch

    head = _head(file)
    if not head:
        raise Failure(f"{file} is empty")
    if head.startswith(b"MATLAB 7.3"):
        raise Failure(f"{file} is in MATLAB's format 7.3 (HDF5), which is not supported: save it in MATLAB with -v7")
    if head.startswith(b"\x89HDF\r\n\x1a\n") or _is_keras_archive(file, head):
        return read_keras(file)
    if head.startswith(b"MATLAB 5.0"):
        return read_matconvnet(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return read_safetensors(file, [file])
    if head.startswith(ZIP) or head[0] == PICKLE:
        return read_torch(file, head[0] != PICKLE)
    for start, what in STRANGERS.items():
        if head.startswith(start):
            raise Failure(f"{file} is {what}")
    return read_caffe(file)


def _is_keras_archive(file: Path, head: bytes) -> bool:
    """Return True for a .keras file, which is a zip of the weights and their model."""
    if not head.startswith(ZIP):
        return False
    with suppress(Exception), zipfile.ZipFile(file) as archive:  # it raises many types for a damaged file
        return "model.weights.h5" in archive.namelist()
    return False


def _head(file: Path) -> bytes:
    """Return a file's first bytes. Raise Failure if it cannot be read or is no regular file."""
    try:
        mode = os.stat(file).st_mode
        if not stat.S_ISREG(mode):
            raise Failure(f"{file} is a folder, not a file" if stat.S_ISDIR(mode) else f"{file} is not a regular file")
        with file.open("rb") as opened:
            return opened.read(HEAD)
    except FileNotFoundError:
        raise Failure(f"there is no file {file}") from None
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
