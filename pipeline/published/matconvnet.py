"""MatConvNet's files: SimpleNN nets in MATLAB's format, their weights in either of its layouts.

scipy's reader ends the process on some damaged files, so it works in one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.published.convention import MATCONVNET, Array, RawWeights
from pipeline.system.worker_pool import run_tasks

VARIABLES = ["layers", "meta", "normalization", "classes"]


class Contents(NamedTuple):
    """What a file has of a net."""

    tensors: dict[str, Array]
    mean: tuple[float, float, float] | None  # RGB, grey levels
    classes: tuple[str, ...]  # WordNet ids, in the order of the outputs
    wrong: str = ""  # why there is no net


def read_matconvnet(file: Path) -> RawWeights:
    """The net in a .mat file. Failure if it is damaged or holds none."""
    try:
        (found,) = run_tasks(_contents, [file], 2, f"reading {file}")
    except Failure:
        raise Failure(
            f"{file} is damaged, or this machine's memory too small for it: reading it ended a process"
        ) from None
    if found.wrong:
        raise Failure(f"{file} {found.wrong}")
    convention = MATCONVNET if found.mean is None else replace(MATCONVNET, mean=found.mean)
    return RawWeights(file, "matconvnet", found.tensors, convention, found.classes)


def _contents(file: Path, again: bool) -> Contents:
    """What scipy finds, or what is wrong in words."""
    from scipy.io import loadmat

    nothing = Contents({}, None, ())
    try:
        values = loadmat(str(file), appendmat=False, variable_names=VARIABLES)
        if "layers" not in values:
            return nothing._replace(wrong="has no `layers`: it is no SimpleNN net of MatConvNet")
        beside = _struct(values["meta"]) if "meta" in values else values
        tensors = dict(_tensors(values["layers"]))
        return Contents(tensors, _mean(beside), _classes(beside))
    except ValueError as error:
        return nothing._replace(wrong=f"is cut short, damaged or no such net ({error})")
    except Exception as error:  # of a damaged file scipy raises anything
        return nothing._replace(wrong=f"is cut short or damaged ({error!r:.200})")


def _tensors(layers: Array) -> Iterator[tuple[str, Array]]:
    """The weights and biases of the convolutions, which its fully connected layers are too."""
    for layer in map(_struct, layers.reshape(-1)):
        if _text(layer.get("type", "")) != "conv":
            continue
        name = _text(layer.get("name", "")) or "without a name"
        parts = [layer[key] for key in ("filters", "biases") if key in layer]
        if "weights" in layer:
            parts = [*_only(layer["weights"]).reshape(-1)] if _only(layer["weights"]).dtype == object else []
        for part, values in zip(("weight", "bias"), parts, strict=False):
            yield f"{name}.{part}", _turned(np.asarray(_only(values)), part, name)


def _turned(values: Array, part: str, name: str) -> Array:
    """(height, width, in, out) to (out, in, height, width); MATLAB leaves out sides of one at the end."""
    if values.dtype.kind != "f":
        raise ValueError(f"the layer {name} holds no numbers in floating point")
    if part == "bias":
        return values.reshape(-1)
    if values.ndim > 4:
        raise ValueError(f"the filters of {name} have {values.ndim} dimensions")
    return np.ascontiguousarray(values.reshape(values.shape + (1,) * (4 - values.ndim)).transpose(3, 2, 0, 1))


def _mean(beside: Mapping[str, Any]) -> tuple[float, float, float] | None:
    if "normalization" not in beside:
        return None
    image = np.asarray(_struct(beside["normalization"]).get("averageImage", ()), np.float64)
    if not image.size:
        return None
    if image.size != 3 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f"its averageImage is of shape {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("its averageImage has values that are no finite numbers")
    red, green, blue = image.reshape(-1, 3).mean(0).tolist()
    return red, green, blue


def _classes(beside: Mapping[str, Any]) -> tuple[str, ...]:
    """The WordNet ids of the outputs, if that is what the classes are called."""
    if "classes" not in beside:
        return ()
    names = np.asarray(_struct(beside["classes"]).get("name", ()))
    found = tuple(_text(name) for name in names.reshape(-1))
    return found if all(WNID.fullmatch(name) for name in found) else ()


def _only(value: Any) -> Any:
    """What lies in cells of one."""
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    return value


def _struct(value: Any) -> Mapping[str, Any]:
    """A structure's fields. ValueError if it is none."""
    value = _only(value)
    if getattr(value, "dtype", None) is None or value.dtype.names is None or np.size(value) != 1:
        raise ValueError("a layer, or what describes the net, is no structure")
    one = np.asarray(value).reshape(-1)[0]
    return {name: _only(one[name]) for name in value.dtype.names}


def _text(value: Any) -> str:
    """A string, which comes in an array of one; nothing for an empty one."""
    found = np.asarray(_only(value)).reshape(-1)
    return str(found[0]) if found.size else ""
