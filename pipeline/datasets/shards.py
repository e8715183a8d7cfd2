"""Shards: a split's encoded images in a few large files, with one index of their places.

One process writes a shard and then a part next to it, with one row per image. The part makes the shard complete. The
split's index is made from all parts; images that are not in the index are not read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.system.atomic_files import whole

Bytes = NDArray[np.uint8]
MAKE_SHARDS = "make the shards with: vgg-repro prepare"
# errors of NumPy and zipfile for an incomplete file
BROKEN = (OSError, ValueError, KeyError, EOFError, BadZipFile, NotImplementedError, RuntimeError)


class ImageRecord(NamedTuple):
    """The record of one image, stored or skipped."""

    id: str
    label: int
    height: int  # as stored, pixels
    width: int
    boxes: NDArray[np.float64]  # (n, 4) left, top, right, bottom in the stored image, pixels
    offset: int  # bytes, in its shard
    length: int
    hash: bytes  # SHA-256 of the stored bytes, or zeros if it is skipped
    source_length: int
    source_hash: bytes  # SHA-256 of the source's bytes
    changed: str  # how it was changed; empty if it is stored unchanged
    odd_boxes: str  # kinds of its boxes that were repaired or not used, separated by BETWEEN; usually empty
    small: bool  # its shorter side was below the crop
    warning: str  # the decoder's
    skipped: str  # why it is skipped; empty if it is stored
    first: NDArray[np.float64]  # (3,) moment of its colours, grey levels
    second: NDArray[np.float64]  # (3, 3) moment of its colours, squared grey levels


BETWEEN = "; "
HASHES = ("hash", "source_hash")
STORED = ("label", "height", "width", "boxes", "boxes_of", "offset", "length", "hash")  # the columns of the index
Columns = dict[str, NDArray[Any]]  # a shard's images, by column


class ShardWriter:
    """A writer of the shard `number` of a split in `folder`, and of its part once the last image is written."""

    def __init__(self, folder: Path, split: str, number: int) -> None:
        self.folder, self.split, self.number = folder, split, number
        self.path = folder / shard_name(split, number)
        self.rows: list[ImageRecord] = []
        self.offset = 0

    def __enter__(self) -> ShardWriter:
        self.file = self.path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._give_up()
            raise
        if kind is not None:
            self._give_up()

    def _finish(self) -> None:
        """Flush the shard to the disk, close it, and write its part."""
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        with whole(self.folder / part_name(self.split, self.number)) as file:
            np.savez(file, allow_pickle=False, **columns(self.rows))

    def _give_up(self) -> None:
        """Delete the shard, because the disk may be full."""
        with suppress(OSError):
            self.file.close()
        self.path.unlink(missing_ok=True)

    def add(self, row: ImageRecord, stored: bytes) -> None:
        """Append one image and its row, with its place filled in."""
        self.file.write(stored)
        self.rows.append(row._replace(offset=self.offset, length=len(stored)))
        self.offset += len(stored)


def columns(rows: list[ImageRecord]) -> Columns:
    """Return the rows as one array (images, ...) per field.

    All boxes are in one array, and `boxes_of` has each image's number of boxes.
    """
    arrays: Columns = {"boxes_of": np.array([len(row.boxes) for row in rows])}
    for name, values in zip(ImageRecord._fields, zip(*rows, strict=True), strict=True):
        if name in HASHES:
            arrays[name] = np.frombuffer(b"".join(values), np.uint8).reshape(-1, 32)
        else:
            arrays[name] = np.concatenate(values) if name == "boxes" else np.array(values)
    return arrays


def subset(part: Columns, which: NDArray[np.bool_]) -> Columns:
    """Return the columns of the images that the mask `which` (images,) selects."""
    boxes = np.repeat(which, part["boxes_of"])
    return {name: values[boxes if name == "boxes" else which] for name, values in part.items()}


def read_part(folder: Path, split: str, number: int) -> Columns | None:
    """Return the columns of a shard's part and the shard's number, or None if the shard is not complete."""
    try:
        with np.load(folder / part_name(split, number)) as part:
            loaded = {name: part[name] for name in (*ImageRecord._fields, "boxes_of")}
        loaded["shard"] = np.full(len(loaded["label"]), number)
        size = (folder / shard_name(split, number)).stat().st_size
    except BROKEN:
        return None
    return loaded if size == int(loaded["length"].sum()) else None


def taken(part: Columns, which: NDArray[np.int64]) -> Columns:
    """Return the columns of the images at the indices `which`, in their order."""
    ends, counts = np.cumsum(part["boxes_of"]), part["boxes_of"][which]
    boxes = np.repeat(ends[which] - np.cumsum(counts), counts) + np.arange(counts.sum())
    return {name: values[boxes if name == "boxes" else which] for name, values in part.items()}


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the images of several parts as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_index(folder: Path, split: str, parts: Iterator[Columns]) -> None:
    """Write a split's index from the columns of its images, and the number of the shard of each."""
    kept: dict[str, list[NDArray[Any]]] = {}
    ids = bytearray()  # one line per image, because every element of an array of strings takes the room of the longest
    for part in parts:
        ids += "".join(f"{id}\n" for id in part["id"].tolist()).encode()
        for name in (*STORED, "shard"):
            kept.setdefault(name, []).append(part[name])
    columns = {name: np.concatenate(values) for name, values in kept.items()}
    columns["boxes"] = columns["boxes"].astype(np.float32)
    files = sorted(folder.glob(f"{split}-*.bin"))
    with whole(folder / index_name(split)) as file:
        sizes = np.array([path.stat().st_size for path in files])
        np.savez(file, allow_pickle=False, sizes=sizes, ids=np.frombuffer(bytes(ids), np.uint8), **columns)


class Shards:
    """A split's stored images: `shards[i]` is image i's encoded bytes; sizes and labels are arrays (images,).

    Files are memory-mapped, so memory use stays constant. Failure is raised if an index or a shard is missing or has a
    wrong length, or if an image's bytes differ from the written ones, because those may crash DALI.
    """

    def __init__(self, folder: Path, split: str) -> None:
        try:
            with np.load(folder / index_name(split)) as index:
                self.ids: list[str] = index["ids"].tobytes().decode().split("\n")[:-1]
                self.labels: NDArray[np.int64] = index["label"]
                self.heights: NDArray[np.int64] = index["height"]
                self.widths: NDArray[np.int64] = index["width"]
                self._boxes: NDArray[np.float32] = index["boxes"]
                self._box_ends: NDArray[np.int64] = np.cumsum(index["boxes_of"])
                self.hashes: Bytes = index["hash"]  # (images, 32)
                self._shards, self._offsets, self._lengths = (index[k] for k in ("shard", "offset", "length"))
                sizes = index["sizes"]
            used = np.unique(self._shards).tolist()  # a shard whose images are all skipped is empty
            self._files = {i: np.memmap(folder / shard_name(split, i), np.uint8, "r") for i in used}
        except BROKEN as error:
            raise Failure(f"the {split} shards in {folder} cannot be read ({error}); {MAKE_SHARDS}") from None
        for number, file in self._files.items():
            if len(file) != sizes[number]:
                raise Failure(f"{shard_name(split, number)} in {folder} has a wrong length; {MAKE_SHARDS}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, image: int) -> Bytes:
        start, file = int(self._offsets[image]), self._files[int(self._shards[image])]
        encoded: Bytes = file[start : start + int(self._lengths[image])]
        if hashlib.sha256(encoded.data).digest() != self.hashes[image].tobytes():
            folder = Path(str(file.filename)).parent
            raise Failure(f"{self.ids[image]} is damaged in {folder}; delete that folder, then: vgg-repro prepare")
        return encoded

    def boxes_of(self, image: int) -> NDArray[np.float32]:
        """Return the boxes (n, 4) around an image's objects: left, top, right, bottom in pixels of the stored image."""
        start = self._box_ends[image - 1] if image else 0
        return self._boxes[start : self._box_ends[image]]


def shard_name(split: str, number: int) -> str:
    """Return the file name of a split's shard."""
    return f"{split}-{number:05d}.bin"


def part_name(split: str, number: int) -> str:
    """Return the file name of a shard's part, which lists its images while the data set is made."""
    return f"{split}-{number:05d}.part.npz"


def part_numbers(folder: Path, split: str) -> list[int]:
    """Return the numbers of the shards of a split that have parts."""
    names = (path.name.partition(".")[0] for path in folder.glob(f"{split}-*.part.npz"))
    return sorted(int(name.rpartition("-")[2]) for name in names)


def stream_name(split: str, number: int) -> str:
    """Return the file name of the note that a stream has been read to its end, while the data set is made."""
    return f"{split}-{number:05d}.stream.json"


def index_name(split: str) -> str:
    """Return the file name of a split's index."""
    return f"{split}.index.npz"
