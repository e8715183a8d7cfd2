"""Entries stored by columns, about 60 bytes each, for data sets of millions of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.sources.base import Entry
from pipeline.datasets.sources.ilsvrc.boxes import Fractions


class Found(NamedTuple):
    """An image's file, in a folder or in an archive."""

    name: str
    place: str  # its folder or archive, below the root
    offset: int  # of its bytes in the archive; -1 for a file in a folder
    size: int  # bytes


class Where(NamedTuple):
    """The file of an image, and its boxes."""

    found: Found
    boxes: Fractions


@dataclass(frozen=True)
class Compact(Sequence[Entry]):
    """A sequence of entries whose ids are their files' names without the ending."""

    places: list[str]
    at: NDArray[np.int16]  # (images,) the index into `places`
    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int16]
    boxes_of: NDArray[np.int16]  # (images,) each image's number of boxes
    boxes: NDArray[np.float64]  # (boxes, 4) in fractions of the image's width and height

    @classmethod
    def of(cls, files: Sequence[Found], labels: Sequence[int], boxes: Mapping[str, Fractions]) -> Compact:
        """Return the entries of `files`, each with its label, and with its boxes by its id."""
        places = sorted({file.place for file in files})
        number = {place: i for i, place in enumerate(places)}
        boxes_by_file = [boxes.get(id_of(file.name), ()) for file in files]
        return cls(
            places,
            np.array([number[file.place] for file in files], np.int16),
            np.array([file.name.encode() for file in files], "S"),
            np.array([file.offset for file in files], np.int64),
            np.array([file.size for file in files], np.int64),
            np.array(labels, np.int16),
            np.array([len(own) for own in boxes_by_file], np.int16),
            np.array([box for own in boxes_by_file for box in own], np.float64).reshape(-1, 4),
        )

    @classmethod
    def joined(cls, parts: Sequence[Compact]) -> Compact:
        """Return the parts' entries, one part after the other."""
        places = sorted({place for part in parts for place in part.places})
        number = {place: i for i, place in enumerate(places)}
        at = [np.array([number[place] for place in part.places], np.int16)[part.at] for part in parts]
        rest = ([getattr(part, column.name) for part in parts] for column in fields(cls)[2:])
        return cls(places, *(np.concatenate(columns) for columns in (at, *rest)))

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, key: int) -> Entry: ...
    @overload
    def __getitem__(self, key: slice) -> Compact: ...
    def __getitem__(self, key: int | slice) -> Entry | Compact:
        indices = np.arange(len(self))[key]
        if isinstance(key, slice):
            return self.taken(indices)
        (entry,) = self.taken(indices[None])
        return entry

    def __iter__(self) -> Iterator[Entry]:
        boxes = np.split(self.boxes, np.cumsum(self.boxes_of)[:-1]) if len(self.boxes) else [self.boxes] * len(self)
        columns = (self.at, self.names, self.offsets, self.sizes, self.labels)
        for at, name, offset, size, label, own in zip(*(column.tolist() for column in columns), boxes, strict=True):
            file = Found(name.decode(), self.places[at], offset, size)
            yield Entry(id_of(file.name), label, Where(file, tuple(tuple(box) for box in own.tolist())))

    def taken(self, which: NDArray[np.int64]) -> Compact:
        """Return the entries at the indices `which`."""
        ends, counts = np.cumsum(self.boxes_of, dtype=np.int64), self.boxes_of[which].astype(np.int64)
        first = np.repeat(ends[which] - np.cumsum(counts), counts)
        columns = [getattr(self, column.name)[which] for column in fields(self)[1:-1]]
        columns.append(self.boxes[first + np.arange(counts.sum())])
        return Compact(self.places, *columns)

    def first_of_each(self, limit: int) -> Compact:
        """Return at most `limit` entries, in order: the first of each label, then the second, and so on."""
        order = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels)
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.taken(np.sort(np.lexsort((self.labels, rank))[:limit]))


def id_of(name: str) -> str:
    """Return a file's name without its ending."""
    return PurePosixPath(name).stem
