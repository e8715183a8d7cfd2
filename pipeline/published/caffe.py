"""Caffe's models: of its protocol buffers the few fields that a net's weights lie in, read where they lie.

Both layouts are known: `layers` of 2014 (V1LayerParameter), as the authors' files have it, and `layer` since 2015.
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
LAYERS = {2: (4, 6), 100: (1, 7)}  # NetParameter's field to those of a layer's name and its blobs
V0 = 1  # in a layer of field 2, where models before 2013 have the layer itself
OLD_SHAPE, FLOATS, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8  # BlobProto's
LONGEST = 10  # bytes of a whole number


class Damaged(Exception):
    """The bytes are no such message; the text says where and why."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    kind: int
    value: int  # of a whole number
    data: memoryview  # of anything else


def read_caffe(file: Path) -> RawWeights:
    """The layers with weights of a Caffe model. Failure if it is damaged or none, naming the last whole layer."""
    tensors: dict[str, Array] = {}
    last = ""
    with file.open("rb") as opened:
        # copied where it is written to: torch wants arrays that could be, though nobody does
        data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))
    try:
        for field in fields(data):
            if field.number in LAYERS and field.kind == LENGTH:
                last, blobs = _layer(field)
                _enter(file, tensors, last, blobs)
    except Damaged as reason:
        if not last:
            raise Failure(
                f"{file} is no net of a kind that is known here, or a damaged Caffe model: {reason}"
            ) from None
        raise Failure(
            f"{file} is a Caffe model that is cut short or damaged: behind the layer {last}, {reason}"
        ) from None
    if not tensors:
        raise Failure(f"{file} has no layer with weights; a Caffe model's .prototxt has none, its .caffemodel does")
    return RawWeights(file, "caffe", tensors, CAFFE)


def _enter(file: Path, tensors: dict[str, Array], name: str, blobs: list[Array]) -> None:
    """Put a layer's blobs among the tensors: weights first, then biases."""
    if len(blobs) > 2:
        raise Failure(f"the layer {name} in {file} has {len(blobs)} blobs, not weights and biases")
    for part, blob in zip(("weight", "bias"), blobs, strict=False):
        if f"{name}.{part}" in tensors:
            raise Failure(f"{file} has two layers {name} with weights")
        tensors[f"{name}.{part}"] = blob


def _layer(message: Field) -> tuple[str, list[Array]]:
    """A layer's name and blobs."""
    name_at, blobs_at = LAYERS[message.number]
    name, blobs = "without a name", []
    for field in fields(message.data):
        if field.number == name_at and field.kind == LENGTH:
            name = bytes(field.data).decode(errors="backslashreplace")
        elif field.number == blobs_at and field.kind == LENGTH:
            blobs.append(field.data)
        elif field.number == V0 and message.number == 2 and field.kind == LENGTH:
            raise Damaged(
                "it has layers as Caffe wrote them before 2013 (upgrade_net_proto_binary turns them into new)"
            )
    return name, [_blob(blob, name) for blob in blobs]


def _blob(message: memoryview, layer: str) -> Array:
    """A blob's numbers in its shape."""
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
    found = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.float32)])
    wanted = list(old.values()) if shape is None else shape
    if prod(wanted) != found.size:
        raise Damaged(f"a blob of the layer {layer} has {found.size:,} numbers, not {_sized(wanted)}")
    return found.reshape(wanted)


def _sized(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _dimensions(message: memoryview) -> Iterator[int]:
    """A BlobShape's, packed or one by one."""
    for field in fields(message):
        if field.number == 1 and field.kind == VARINT:
            yield field.value
        elif field.number == 1 and field.kind == LENGTH:
            at = 0
            while at < len(field.data):
                value, at = _varint(field.data, at)
                yield value


def _packed(message: memoryview) -> Iterator[Field]:
    """A blob's fields; numbers that stand one by one, each behind its tag, come as if they were packed."""
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
    """The fields of a message, in the order that they stand there. Damaged if it is none."""
    at = 0
    while at < len(message):
        field, at = _field(message, at)
        yield field


def _field(message: memoryview, at: int) -> tuple[Field, int]:
    """The field at a place, and the place behind it."""
    start = at
    tag, at = _varint(message, at)
    number, kind = tag >> 3, tag & 7
    if not number:
        raise Damaged(f"byte {start:,} of {len(message):,} begins no field")
    value, length = 0, {EIGHT: 8, FOUR: 4}.get(kind, 0)
    if kind == VARINT:
        value, at = _varint(message, at)
    elif kind == LENGTH:
        length, at = _varint(message, at)
    elif kind not in (EIGHT, FOUR):
        raise Damaged(f"byte {start:,} of {len(message):,} begins a field of no known kind")
    if at + length > len(message):
        raise Damaged(f"what begins at byte {start:,} should reach to byte {at + length:,} of {len(message):,}")
    return Field(number, kind, value, message[at : at + length]), at + length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and the place behind it."""
    value = 0
    for place in range(LONGEST):
        if at + place >= len(message):
            raise Damaged(f"it ends inside a number, at byte {len(message):,}")
        value |= (message[at + place] & 0x7F) << 7 * place
        if message[at + place] < 0x80:
            return value, at + place + 1
    raise Damaged(f"byte {at:,} of {len(message):,} begins no number")
