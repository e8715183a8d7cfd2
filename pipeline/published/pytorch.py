"""A reader of PyTorch's state dicts and safetensors with torchvision's, timm's or our names. No code is run."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import Failure
from pipeline.published.convention import CAFFE, TORCHVISION, WHOLE, Array, Convention, RawWeights
from pipeline.published.state_dicts import state_dict, without_prefixes

STAND_IN = "stand-in for"
UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+)")  # torch's words for a class that it does not know
FILLED = re.compile(rf"Can only (SETITEM|append|extend).* but got <class '[^']*{STAND_IN} ([^']+)'>")
OURS = "vgg_repro"  # the key of the note that `weights export` writes next to the tensors
OTHERS = {  # names in other kinds of zip files
    r"(^|/)constants\.pkl$": "is TorchScript, a program with its weights: save its state_dict() instead, with "
    "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
    r"(^|/)(archive_format|serialized_exported_program\.json)$": "is a program exported by torch.export: save its "
    "state_dict instead, with torch.save(torch.export.load(FILE).state_dict, NEW)",
    r"\.npy$": "is a .npz file of NumPy: save the arrays as safetensors or as a state dict",
}
ROUNDS = 200  # at most so many kinds of other objects in a checkpoint


class _Ignored:
    """The place of an object in a checkpoint that is no tensor. It takes any content and does nothing."""

    def __new__(cls, *content: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *content: object) -> None: ...

    def __setstate__(self, content: object) -> None: ...


class _IgnoredDict(_Ignored):
    """The same for a dict of another class."""

    def __new__(cls, *content: object) -> Any:
        return OrderedDict()


class _IgnoredList(_Ignored):
    """The same for a list of another class."""

    def __new__(cls, *content: object) -> Any:
        return []


def read_torch(file: Path, zipped: bool) -> RawWeights:
    """Return the tensors of a torch.save file. Raise Failure if it holds no state dict or is damaged."""
    try:
        with file.open("rb") as opened:  # not by path, because torch then looks at the extension
            if zipped:
                _check_zip(opened)
            values, ignored = _content(opened)
    except Failure as failure:
        raise Failure(f"{file} {failure}") from None
    except Exception as error:  # torch raises a dozen types for a broken file
        raise Failure(f"{file} {_refusal(str(error))}") from None
    if isinstance(values, _Ignored):
        raise Failure(
            f"{file} contains a whole object, {', '.join(ignored[:3])}, which only its own code can rebuild: save its "
            "state_dict()"
        )
    found = state_dict(file, values)
    return _raw_weights(file, found.tensors, _note(values), found.others)


def _content(opened: IO[bytes]) -> tuple[Any, list[str]]:
    """Return what a file contains, with `_Ignored` for objects of other classes, and the names of these classes.

    torch's reader runs only what it knows. It names the first class that it does not know, and then takes a stand-in.
    """
    stand_ins: dict[str, type] = {}
    while True:
        try:
            return _loaded(opened, stand_ins), [*stand_ins]
        except Exception as error:
            name, base = _missing(str(error))
            if not name or (name in stand_ins and base is _Ignored) or len(stand_ins) == ROUNDS:
                raise
            stand_ins[name] = type(f"{STAND_IN} {name}", (base,), {})


def _loaded(opened: IO[bytes], stand_ins: Mapping[str, type]) -> Any:
    """Return a file's content with those classes for others."""
    import torch

    opened.seek(0)
    # torch leaves out the word builtins in its message
    known: list[Any] = [(kind, full) for name, kind in stand_ins.items() for full in (name, f"builtins.{name}")]
    with warnings.catch_warnings(), torch.serialization.safe_globals(known):
        warnings.simplefilter("ignore")  # about pickle protocols
        return torch.load(opened, map_location="cpu", weights_only=True)


def _missing(error: str) -> tuple[str, type]:
    """Return the class that torch's reader asks for, and what takes its place; an empty name if it asks for none."""
    if match := UNKNOWN.search(error):
        return match[1], _Ignored
    if match := FILLED.search(error):
        return match[2], _IgnoredDict if match[1] == "SETITEM" else _IgnoredList
    return "", _Ignored


def read_safetensors(path: Path, files: Sequence[Path]) -> RawWeights:
    """Return the tensors of the safetensors files of `path`. Raise Failure if one is damaged or repeats a name."""
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    note = None
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                part = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
                note = (opened.metadata() or {}).get(OURS)
        except Exception as error:  # the reader's own types
            raise Failure(f"{file} is a truncated or damaged safetensors file ({error})") from None
        if twice := sorted(tensors.keys() & part.keys()):
            raise Failure(f"{path} has the tensor {twice[0]} in two files")
        tensors |= part
    return _raw_weights(path, tensors, _parsed(note))


def _check_zip(opened: IO[bytes]) -> None:
    """Raise Failure for another program's zip file, or ValueError for a wrong checksum, which torch does not verify."""
    with zipfile.ZipFile(opened) as archive:
        members = archive.namelist()
        for pattern, what in OTHERS.items():
            if any(re.search(pattern, member) for member in members):
                raise Failure(what)
        if (member := archive.testzip()) is not None:
            raise ValueError(f"{member} does not match its checksum")
    opened.seek(0)


def _refusal(error: str) -> str:
    """Return the reason why torch does not read a file, in our words."""
    if (match := re.search(rf"(?:GLOBAL|{STAND_IN}) ([^\s']+)", error)) is not None:
        return (
            f"would run code when it is loaded ({match[1]}), so it is not loaded; save a state dict, which contains "
            "only tensors, with torch.save"
        )
    if "persistent_load" in error:
        return "contains a whole object, which only its own code can rebuild: save its state_dict()"
    if "Invalid magic number" in error:
        return "is a pickle, which may run code, and not a file of torch.save: save a state dict with torch.save"
    if "Unsupported operand" in error:
        return (
            "is a pickle that may run code when it is loaded (protocol 4 or later), so it is not loaded; torch.save "
            "writes state dicts in protocol 2"
        )
    return f"is truncated, damaged or not a PyTorch file ({' '.join(error.split())[:200]})"


def _note(values: Any) -> Any:
    """Return the note that `weights export` wrote next to a state dict, or None."""
    return _parsed((getattr(values, "_metadata", None) or {}).get("", {}).get(OURS))


def _parsed(note: Any) -> Any:
    try:
        return json.loads(note)
    except (TypeError, ValueError):
        return None


def _raw_weights(file: Path, tensors: Mapping[str, Any], note: Any, unused: tuple[str, ...] = ()) -> RawWeights:
    """Return the tensors as arrays under names without prefixes, with the net's kind by those names.

    Raise Failure if a tensor is no plain tensor of weights or a name occurs twice.
    """
    import torch

    arrays: dict[str, Array] = {}
    for name, value in without_prefixes(file, tensors).items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise Failure(f"{name} in {file} is not a plain tensor of numbers")
        if not value.is_floating_point() and not name.endswith("num_batches_tracked"):
            raise Failure(f"{name} in {file} has the type {value.dtype}, not floating point")
        arrays[name] = value.detach().float().numpy()
    kind, convention = _kind(file, arrays)
    if isinstance(note, dict):
        try:
            convention = Convention.of(note["input"])
        except (KeyError, TypeError, ValueError):
            raise Failure(
                f"the net input recorded in {file} is not as `vgg-repro weights export` writes it: export it again"
            ) from None
    exported = note if isinstance(note, dict) else None
    return RawWeights(file, kind, arrays, convention, exported=exported, unused=unused)


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
        raise Failure(f"{file} has a net's features but no classifier. {WHOLE}")
    some = ", ".join(list(names)[:3])
    raise Failure(
        f"{file} is no VGG net, or one with unknown names of tensors, such as {some}: the names must be torchvision's, "
        "timm's or those of `vgg-repro weights export`"
    )
