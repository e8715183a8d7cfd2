"""A reader of MatConvNet's files: SimpleNN nets in MATLAB's format, with weights in either of its layouts.

scipy's reader crashes the process on some damaged files, so it runs in a separate process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.datasets.sources.base import WNID
from pipeline.published.convention import MATCONVNET, Array, RawWeights
from pipeline.published.own_process import contents_of

VARIABLES = ["layers", "meta", "normalization", "classes"]


class Contents(NamedTuple):
    """The content of a net's file."""

    tensors: dict[str, Array]
    mean: tuple[float, float, float] | None  # RGB, grey levels
    classes: tuple[str, ...]  # WordNet ids, in the order of the outputs
    wrong: str = ""  # the reason if there is no net


def read_matconvnet(file: Path) -> RawWeights:
    """Return the net in a .mat file. Raise Failure if it is damaged or holds none."""
    contents = contents_of(file, _contents)
    convention = MATCONVNET if contents.mean is None else replace(MATCONVNET, mean=contents.mean)
    return RawWeights(file, "matconvnet", contents.tensors, convention, contents.classes)


def _contents(file: Path, crashed: bool) -> Contents:
    """Return what scipy reads from a file, or the reason in `wrong`."""
    from scipy.io import loadmat

    nothing = Contents({}, None, ())
    try:
        values = loadmat(str(file), appendmat=False, variable_names=VARIABLES)
        if "layers" not in values:
            return nothing._replace(wrong="has no `layers`: it is not a SimpleNN net of MatConvNet")
        meta = _struct(values["meta"]) if "meta" in values else values
        tensors = dict(_tensors(values["layers"]))
        return Contents(tensors, _mean(meta), _classes(meta))
    except ValueError as error:
        return nothing._replace(wrong=f"is truncated, damaged or not such a net ({error})")
    except Exception as error:  # scipy raises any exception for a damaged file
        return nothing._replace(wrong=f"is truncated or damaged ({error!r:.200})")


def _tensors(layers: Array) -> Iterator[tuple[str, Array]]:
    """Yield the weights and biases of the convolutions, which include its fully connected layers."""
    for layer in map(_struct, layers.reshape(-1)):
        if _text(layer.get("type", "")) != "conv":
            continue
        name = _text(layer.get("name", "")) or "without a name"
        parts = [layer[key] for key in ("filters", "biases") if key in layer]
        if "weights" in layer:
            parts = [*_unwrapped(layer["weights"]).reshape(-1)] if _unwrapped(layer["weights"]).dtype == object else []
        for part, values in zip(("weight", "bias"), parts, strict=False):
            yield f"{name}.{part}", _transposed(np.asarray(_unwrapped(values)), part, name)


def _transposed(values: Array, part: str, name: str) -> Array:
    """Turn (height, width, in, out) into (out, in, height, width). MATLAB omits trailing dimensions of 1.

    Raise ValueError if the values are not in floating point or have too many dimensions.
    """
    if values.dtype.kind != "f":
        raise ValueError(f"the layer {name} does not have floating-point weights")
    if part == "bias":
        return values.reshape(-1)
    if values.ndim > 4:
        raise ValueError(f"the filters of {name} have {values.ndim} dimensions")
    return np.ascontiguousarray(values.reshape(values.shape + (1,) * (4 - values.ndim)).transpose(3, 2, 0, 1))


def _mean(meta: Mapping[str, Any]) -> tuple[float, float, float] | None:
    if "normalization" not in meta:
        return None
    image = np.asarray(_struct(meta["normalization"]).get("averageImage", ()), np.float64)
    if not image.size:
        return None
    if image.size != 3 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f"its averageImage has the shape {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("its averageImage has values that are not finite")
    red, green, blue = image.reshape(-1, 3).mean(0).tolist()
    return red, green, blue


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the WordNet ids of the outputs, or an empty tuple if the classes have other names."""
    if "classes" not in meta:
        return ()
    names = np.asarray(_struct(meta["classes"]).get("name", ()))
    classes = tuple(_text(name) for name in names.reshape(-1))
    return classes if all(WNID.fullmatch(name) for name in classes) else ()


def _unwrapped(value: Any) -> Any:
    """Return the content of nested cells of size 1."""
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    return value


def _struct(value: Any) -> Mapping[str, Any]:
    """Return a structure's fields. Raise ValueError if it is none."""
    value = _unwrapped(value)
    if getattr(value, "dtype", None) is None or value.dtype.names is None or np.size(value) != 1:
        raise ValueError("a layer or the net's description is not a structure")
    record = np.asarray(value).reshape(-1)[0]
    return {name: _unwrapped(record[name]) for name in value.dtype.names}


def _text(value: Any) -> str:
    """Return the string in an array of size 1, or an empty string for an empty array."""
    texts = np.asarray(_unwrapped(value)).reshape(-1)
    return str(texts[0]) if texts.size else ""
