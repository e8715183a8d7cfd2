"""Shards: a split's encoded images in a few large files, with one index of what lies where.

A shard is written by one process, then a part beside it with a row an image, which makes it whole. From all parts
comes the split's index; what is in no index is not read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
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
MAKE_SHARDS = "make them with: vgg-repro prepare"
# what NumPy and zipfile raise for a file that is not whole
BROKEN = (OSError, ValueError, KeyError, EOFError, BadZipFile, NotImplementedError, RuntimeError)


class ImageRecord(NamedTuple):
    """What is known of one image, stored or left out."""

    id: str
    label: int
    height: int  # as stored, pixels
    width: int
    boxes: NDArray[np.float64]  # (n, 4) left, top, right, bottom in the stored image, pixels
    offset: int  # bytes, in its shard
    length: int
    hash: bytes  # SHA-256 of the stored bytes, or zeros
    source_length: int
    source_hash: bytes  # of the bytes as they came
    changed: str  # what was done to it; empty: stored as it came
    small: bool  # its shorter side was below the crop
    warning: str  # of the decoder
    left_out: str  # why it is not stored; empty: it is
    first: NDArray[np.float64]  # (3,) moments of its colours, grey levels
    second: NDArray[np.float64]  # (3, 3)


HASHES = ("hash", "source_hash")
STORED = ("label", "height", "width", "boxes", "boxes_of", "offset", "length", "hash")  # in the index
Columns = dict[str, NDArray[Any]]  # of a shard's images


class ShardWriter:
    """Writes the shard `number` of a split into `folder`, and its part when the last image is in."""

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
        """Close the shard once the disk has it, and write its part."""
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        with whole(self.folder / part_name(self.split, self.number)) as file:
            np.savez(file, allow_pickle=False, **columns(self.rows))

    def _give_up(self) -> None:
        """Give a full disk its room back."""
        with suppress(OSError):
            self.file.close()
        self.path.unlink(missing_ok=True)

    def add(self, row: ImageRecord, stored: bytes) -> None:
        """Append one image and what is known of it; its place is filled in here."""
        self.file.write(stored)
        self.rows.append(row._replace(offset=self.offset, length=len(stored)))
        self.offset += len(stored)


def columns(rows: list[ImageRecord]) -> Columns:
    """Rows as an array (images, ...) a field; all boxes in one array, and in `boxes_of` how many are each image's."""
    found: Columns = {"boxes_of": np.array([len(row.boxes) for row in rows])}
    for name, values in zip(ImageRecord._fields, zip(*rows, strict=True), strict=True):
        if name in HASHES:
            found[name] = np.frombuffer(b"".join(values), np.uint8).reshape(-1, 32)
        else:
            found[name] = np.concatenate(values) if name == "boxes" else np.array(values)
    return found


def chosen(part: Columns, which: NDArray[np.bool_]) -> Columns:
    """The columns of some of the images, `which` (images,) of them."""
    boxes = np.repeat(which, part["boxes_of"])
    return {name: values[boxes if name == "boxes" else which] for name, values in part.items()}


def read_part(folder: Path, split: str, number: int) -> Columns | None:
    """The columns of a whole shard's part; none if the shard is not whole."""
    try:
        with np.load(folder / part_name(split, number)) as part:
            found = {name: part[name] for name in (*ImageRecord._fields, "boxes_of")}
        size = (folder / shard_name(split, number)).stat().st_size
    except BROKEN:
        return None
    return found if size == int(found["length"].sum()) else None


def write_index(folder: Path, split: str, parts: Iterator[Columns]) -> None:
    """Write a split's index from the columns of its images, a part a shard."""
    kept: dict[str, list[NDArray[Any]]] = {}
    ids = bytearray()  # a line an image: an array of texts has room for the longest in each
    for number, part in enumerate(parts):
        ids += "".join(f"{one}\n" for one in part["id"].tolist()).encode()
        stored = {name: part[name] for name in STORED}
        stored["shard"] = np.full(len(part["label"]), number)
        for name, values in stored.items():
            kept.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in kept.items()}
    joined["boxes"] = joined["boxes"].astype(np.float32)
    files = sorted(folder.glob(f"{split}-*.bin"))
    with whole(folder / index_name(split)) as file:
        sizes = np.array([path.stat().st_size for path in files])
        np.savez(file, allow_pickle=False, sizes=sizes, ids=np.frombuffer(bytes(ids), np.uint8), **joined)


class Shards:
    """A split read back: `shards[i]` is image i's encoded bytes; sizes and labels are arrays (images,).

    Files are mapped, not read, so that memory stays flat. Failure if an index or a shard is missing or of a wrong
    length, and if an image's bytes are not those that were written: DALI may die of such.
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
            used = np.unique(self._shards).tolist()  # a shard whose images are all left out is empty
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
        found: Bytes = file[start : start + int(self._lengths[image])]
        if hashlib.sha256(found.data).digest() != self.hashes[image].tobytes():
            folder = Path(str(file.filename)).parent
            raise Failure(f"{self.ids[image]} is damaged in {folder}; delete that folder, then: vgg-repro prepare")
        return found

    def boxes_of(self, image: int) -> NDArray[np.float32]:
        """The boxes (n, 4) around the objects in an image: left, top, right, bottom in pixels as stored."""
        start = self._box_ends[image - 1] if image else 0
        return self._boxes[start : self._box_ends[image]]


def shard_name(split: str, number: int) -> str:
    """The file name of a split's shard."""
    return f"{split}-{number:05d}.bin"


def part_name(split: str, number: int) -> str:
    """The file name of what a shard holds, while the data set is made."""
    return f"{split}-{number:05d}.part.npz"


def index_name(split: str) -> str:
    """The file name of a split's index."""
    return f"{split}.index.npz"
