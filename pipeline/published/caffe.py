"""A reader of Caffe's models. It reads only the fields of its protocol buffers that hold weights, in place.

Both layouts are supported: `layers` of 2014 (V1LayerParameter), which the authors' files have, and `layer` since 2015.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import Failure
from pipeline.published.convention import CAFFE, Array, RawWeights

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5  # protocol buffers' wire types
LAYERS = {2: (4, 6), 100: (1, 7)}  # NetParameter's field of layers, to the fields of a layer's name and its blobs
V0 = 1  # the field in a layer of field 2 that holds the layer itself in models before 2013
OLD_SHAPE, FLOATS, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8  # fields of BlobProto
LONGEST = 10  # bytes of a varint


class Damaged(Exception):
    """An error for bytes that are no such message. Its text says where and why."""


class Field(NamedTuple):
    """A field of a message."""

    number: int
    kind: int
    value: int  # for a varint
    data: memoryview  # for any other kind


def read_caffe(file: Path) -> RawWeights:
    """Return the layers with weights of a Caffe model. Raise Failure, naming the last whole layer, if it is damaged."""
    tensors: dict[str, Array] = {}
    last = ""
    with file.open("rb") as opened:
        # copy on write, because torch asks for writable arrays, though nobody writes to them
        data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))
    try:
        for field in fields(data):
            if field.number in LAYERS and field.kind == LENGTH:
                last, blobs = _layer(field)
                _add_blobs(file, tensors, last, blobs)
    except Damaged as reason:
        if not last:
            raise Failure(f"{file} has an unknown format or is a damaged Caffe model: {reason}") from None
        raise Failure(f"{file} is a truncated or damaged Caffe model: after the layer {last}, {reason}") from None
    if not tensors:
        raise Failure(f"{file} has no layers with weights; use the .caffemodel, not the .prototxt")
    return RawWeights(file, "caffe", tensors, CAFFE)


def _add_blobs(file: Path, tensors: dict[str, Array], name: str, blobs: list[Array]) -> None:
    """Add a layer's blobs to the tensors: weights first, then biases. Raise Failure if there are too many."""
    if len(blobs) > 2:
        raise Failure(f"the layer {name} in {file} has {len(blobs)} blobs, not weights and biases")
    for part, blob in zip(("weight", "bias"), blobs, strict=False):
        if f"{name}.{part}" in tensors:
            raise Failure(f"{file} has two layers {name} with weights")
        tensors[f"{name}.{part}"] = blob


def _layer(message: Field) -> tuple[str, list[Array]]:
    """Return a layer's name and blobs. Raise Damaged if the layer is not as expected."""
    name_at, blobs_at = LAYERS[message.number]
    name, blobs = "without a name", []
    for field in fields(message.data):
        if field.number == name_at and field.kind == LENGTH:
            name = bytes(field.data).decode(errors="backslashreplace")
        elif field.number == blobs_at and field.kind == LENGTH:
            blobs.append(field.data)
        elif field.number == V0 and message.number == 2 and field.kind == LENGTH:
            raise Damaged("it has layers in Caffe's format from before 2013 (convert it with upgrade_net_proto_binary)")
    return name, [_blob(blob, name) for blob in blobs]


def _blob(message: memoryview, layer: str) -> Array:
    """Return a blob's numbers in its shape. Raise Damaged if their count does not match the shape."""
    parts: list[Array] = []
    old, shape = dict.fromkeys(OLD_SHAPE, 1), None
    for field in _packed(message):
        if field.number in OLD_SHAPE and field.kind == VARINT:
            old[field.number] = field.value
        elif field.number == SHAPE and field.kind == LENGTH:
            shape = list(_dimensions(field.data))
        elif field.number in (FLOATS, DOUBLES) and field.kind == LENGTH:
            width = 4 if field.number == FLOATS else 8
            if len(field.data) % width:
                raise Damaged(f"a blob of the layer {layer} ends inside a number")
            parts.append(np.frombuffer(field.data, f"<f{width}"))
    values = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.float32)])
    expected = list(old.values()) if shape is None else shape
    if prod(expected) != values.size:
        raise Damaged(f"a blob of the layer {layer} has {values.size:,} numbers, not {_shape_text(expected)}")
    return values.reshape(expected)


def _shape_text(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _dimensions(message: memoryview) -> Iterator[int]:
    """Yield the dimensions of a BlobShape, which are packed or one per field."""
    for field in fields(message):
        if field.number == 1 and field.kind == VARINT:
            yield field.value
        elif field.number == 1 and field.kind == LENGTH:
            at = 0
            while at < len(field.data):
                value, at = _varint(field.data, at)
                yield value


def _packed(message: memoryview) -> Iterator[Field]:
    """Yield a blob's fields. Numbers stored one by one, each after its tag, are returned as if they were packed."""
    at = 0
    while at < len(message):
        tag = message[at]
        for number, kind, width in ((FLOATS, FOUR, 4), (DOUBLES, EIGHT, 8)):
            if tag == number << 3 | kind:
                rows = np.frombuffer(message[at : at + (len(message) - at) // (width + 1) * (width + 1)], np.uint8)
                rows = rows.reshape(-1, width + 1)
                others = np.flatnonzero(rows[:, 0] != tag)
                count = int(others[0]) if others.size else len(rows)
                if not count:
                    raise Damaged("it ends inside a number")
                yield Field(number, LENGTH, 0, memoryview(rows[:count, 1:].tobytes()))
                at += count * (width + 1)
                break
        else:
            field, at = _field(message, at)
            yield field


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message, in their order. Raise Damaged if it is none."""
    at = 0
    while at < len(message):
        field, at = _field(message, at)
        yield field


def _field(message: memoryview, at: int) -> tuple[Field, int]:
    """Return the field at a position, and the position after it. Raise Damaged if there is none."""
    start = at
    tag, at = _varint(message, at)
    number, kind = tag >> 3, tag & 7
    if not number:
        raise Damaged(f"byte {start:,} of {len(message):,} does not start a field")
    value, length = 0, {EIGHT: 8, FOUR: 4}.get(kind, 0)
    if kind == VARINT:
        value, at = _varint(message, at)
    elif kind == LENGTH:
        length, at = _varint(message, at)
    elif kind not in (EIGHT, FOUR):
        raise Damaged(f"byte {start:,} of {len(message):,} starts a field of unknown kind")
    if at + length > len(message):
        raise Damaged(f"the field at byte {start:,} should end at byte {at + length:,} of {len(message):,}")
    return Field(number, kind, value, message[at : at + length]), at + length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the varint at a position, seven bits per byte, and the position after it. Raise Damaged if none ends."""
    value = 0
    for place in range(LONGEST):
        if at + place >= len(message):
            raise Damaged(f"it ends inside a number, at byte {len(message):,}")
        value |= (message[at + place] & 0x7F) << 7 * place
        if message[at + place] < 0x80:
            return value, at + place + 1
    raise Damaged(f"byte {at:,} of {len(message):,} does not start a number")
