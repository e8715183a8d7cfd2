"""Shards: a split's encoded images in a few large files, with one index of what lies where."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.files import whole

Bytes = NDArray[np.uint8]


@dataclass
class Index:
    """What is known of each image of a split, by column; lists while writing, arrays (images,) once read."""

    ids: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)  # as stored, pixels
    widths: list[int] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)  # bytes
    lengths: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)  # NaN where there is none
    hashes: list[bytes] = field(default_factory=list)  # SHA-256 of the stored bytes


class ShardWriter:
    """Writes one split's shards into `folder`, and the index when the last image is in."""

    def __init__(self, folder: Path, split: str, shard_bytes: int) -> None:
        self.folder, self.split, self.shard_bytes = folder, split, shard_bytes
        self.index = Index()
        self.shard, self.offset = 0, 0
        self.file = (folder / shard_name(split, 0)).open("wb")

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close_shard()
        if kind is None:
            columns = {name: np.asarray(column) for name, column in vars(self.index).items() if name != "hashes"}
            columns["boxes"] = np.asarray(self.index.boxes, np.float32).reshape(-1, 4)
            columns["hashes"] = np.frombuffer(b"".join(self.index.hashes), np.uint8).reshape(-1, 32)
            with whole(self.folder / index_name(self.split)) as file:
                np.savez(file, allow_pickle=False, **columns)

    def add(
        self, id: str, label: int, encoded: bytes, size: tuple[int, int], box: tuple[float, float, float, float]
    ) -> None:
        """Append one image of `size` (height, width) in pixels; its box is NaN where there is none."""
        if self.offset and self.offset + len(encoded) > self.shard_bytes:
            self._next_shard()
        self.file.write(encoded)
        index = self.index
        index.ids.append(id)
        index.labels.append(label)
        index.heights.append(size[0])
        index.widths.append(size[1])
        index.shards.append(self.shard)
        index.offsets.append(self.offset)
        index.lengths.append(len(encoded))
        index.boxes.append(box)
        index.hashes.append(hashlib.sha256(encoded).digest())
        self.offset += len(encoded)

    def _close_shard(self) -> None:
        """Close the file once the disk has it: the folder's name will say that it is whole."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def _next_shard(self) -> None:
        self._close_shard()
        self.shard, self.offset = self.shard + 1, 0
        self.file = (self.folder / shard_name(self.split, self.shard)).open("wb")


class Shards:
    """A split read back: `shards[i]` is image i's encoded bytes; sizes and labels are arrays (images,).

    Files are mapped, not read, so that memory stays flat. Failure if an index or a shard is missing or of a wrong
    length, and if an image's bytes are not those that were written: DALI may die of such.
    """

    def __init__(self, folder: Path, split: str) -> None:
        try:
            with np.load(folder / index_name(split)) as columns:
                self.ids: list[str] = columns["ids"].tolist()
                self.labels: NDArray[np.int64] = columns["labels"]
                self.heights: NDArray[np.int64] = columns["heights"]
                self.widths: NDArray[np.int64] = columns["widths"]
                self.boxes: NDArray[np.float32] = columns["boxes"]
                self.hashes: Bytes = columns["hashes"]  # (images, 32)
                self._shards, self._offsets, self._lengths = (columns[k] for k in ("shards", "offsets", "lengths"))
            files = [folder / shard_name(split, i) for i in range(int(self._shards.max()) + 1)]
            self._files = [np.memmap(file, np.uint8, "r") for file in files]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise Failure(f"the {split} shards in {folder} cannot be read ({error}); {MAKE_SHARDS}") from None
        ends = self._offsets + self._lengths
        for number, file in enumerate(self._files):
            if ends[self._shards == number].max() != len(file):
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


MAKE_SHARDS = "make them with: vgg-repro prepare"


def shard_name(split: str, number: int) -> str:
    """The file name of a split's shard."""
    return f"{split}-{number:05d}.bin"


def index_name(split: str) -> str:
    """The file name of a split's index."""
    return f"{split}.index.npz"
