"""A reader of PyTorch's state dicts and safetensors with torchvision's, timm's or our names. No code is run."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pipeline.errors import Failure
from pipeline.published.convention import CAFFE, TORCHVISION, Array, Convention, RawWeights

INSIDE = ("state_dict", "model", "weights")  # keys of a state dict in a checkpoint
PARALLEL = re.compile(r"(^|\.)module\.")  # the prefix that DataParallel adds to names
OURS = "vgg_repro"  # the key of the note that `weights export` writes next to the tensors


def read_torch(file: Path, zipped: bool) -> RawWeights:
    """Return the tensors of a torch.save file. Raise Failure if it holds anything but tensors, or is damaged."""
    import torch

    try:
        with file.open("rb") as opened:  # not by path, because torch then looks at the extension
            if zipped:
                _check_sums(opened)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols
                values = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken file
        raise Failure(f"{file} {_refusal(str(error))}") from None
    note: Any = None
    while isinstance(values, Mapping):
        note = _note(values) or note
        inside = [key for key in INSIDE if isinstance(values.get(key), Mapping)]
        if len(inside) > 1:
            raise Failure(f"{file} contains several state dicts, {' and '.join(inside)}: save only the one to import")
        if not inside:
            break
        values = values[inside[0]]
    if not isinstance(values, Mapping) or not values:
        raise Failure(f"{file} contains no state dict, but {type(values).__name__}")
    for name, value in values.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            raise Failure(f"{file} contains more than tensors: {name!r:.80} is {type(value).__name__}")
    return _raw_weights(file, values, note)


def read_safetensors(file: Path) -> RawWeights:
    """Return the tensors of a safetensors file. Raise Failure if it is damaged."""
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
            note = (opened.metadata() or {}).get(OURS)
    except Exception as error:  # the reader's own types
        raise Failure(f"{file} is a truncated or damaged safetensors file ({error})") from None
    return _raw_weights(file, tensors, _parsed(note))


def _check_sums(opened: IO[bytes]) -> None:
    """Raise ValueError if a member of a zip file does not match its checksum, which torch does not verify."""
    with zipfile.ZipFile(opened) as archive:
        if (member := archive.testzip()) is not None:
            raise ValueError(f"{member} does not match its checksum")
    opened.seek(0)


def _refusal(error: str) -> str:
    """Return the reason why torch does not read a file, in our words."""
    if (match := re.search(r"GLOBAL (\S+)", error)) is not None:
        return (
            f"would run code when it is loaded ({match[1]}), so it is not loaded; save a state dict, which contains "
            "only tensors"
        )
    if "Unsupported operand" in error:
        return (
            "is a pickle that may run code when it is loaded (protocol 4 or later), so it is not loaded; torch.save "
            "writes state dicts in protocol 2"
        )
    return f"is truncated, damaged or not a PyTorch file ({' '.join(error.split())[:200]})"


def _note(values: Mapping[str, Any]) -> Any:
    """Return the note that `weights export` wrote next to a state dict, or None."""
    return _parsed((getattr(values, "_metadata", None) or {}).get("", {}).get(OURS))


def _parsed(note: Any) -> Any:
    try:
        return json.loads(note)
    except (TypeError, ValueError):
        return None


def _raw_weights(file: Path, tensors: Mapping[str, Any], note: Any) -> RawWeights:
    """Return the tensors as arrays under names without DataParallel's prefix, with the net's kind by those names.

    Raise Failure if a tensor is no plain tensor of weights or a name occurs twice.
    """
    import torch

    arrays: dict[str, Array] = {}
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise Failure(f"{name} in {file} is not a plain tensor of numbers")
        if not value.is_floating_point() and not name.endswith("num_batches_tracked"):
            raise Failure(f"{name} in {file} has the type {value.dtype}, not floating point")
        plain = PARALLEL.sub(r"\1", name)
        if plain in arrays:
            raise Failure(f"{file} has two tensors named {plain}")
        arrays[plain] = value.detach().float().numpy()
    kind, convention = _kind(file, arrays)
    if isinstance(note, dict):
        try:
            convention = Convention.of(note["input"])
        except (KeyError, TypeError, ValueError):
            raise Failure(
                f"the net input recorded in {file} is not as `vgg-repro weights export` writes it: export it again"
            ) from None
    return RawWeights(file, kind, arrays, convention, exported=note if isinstance(note, dict) else None)


def _kind(file: Path, names: Mapping[str, Array]) -> tuple[str, Convention | None]:
    """Return the kind of file with these names and the input that such nets take. Raise Failure if it is unknown."""
    if any(name.startswith("conv1_1.") for name in names):
        return "vgg-repro", None
    if any(name.startswith(("pre_logits.", "head.fc.")) for name in names):
        return "timm", TORCHVISION
    if "classifier.1.weight" in names or "classifier.4.weight" in names:
        return "caffe in pytorch", CAFFE
    if any(name.startswith("classifier.") for name in names):
        return "torchvision", TORCHVISION
    if any(name.startswith("features.") for name in names):
        raise Failure(f"{file} has a net's features but no classifier, which the paper's nets need")
    some = ", ".join(list(names)[:3])
    raise Failure(f"{file} has tensors with unknown names: {some}")
