"""Entries by columns, some 60 bytes each, for data sets of millions of images."""

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
    offset: int  # of its bytes in the archive; -1 in a folder
    size: int  # bytes


class Where(NamedTuple):
    """What an image is found by, and its boxes."""

    found: Found
    boxes: Fractions


@dataclass(frozen=True)
class Compact(Sequence[Entry]):
    """Entries whose ids are their files' names without the ending."""

    places: list[str]
    at: NDArray[np.int16]  # (images,) the number of its place
    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int16]
    boxes_of: NDArray[np.int16]  # how many of the boxes are each image's
    boxes: NDArray[np.float64]  # (boxes, 4) in fractions of the image's width and height

    @classmethod
    def of(cls, files: Sequence[Found], labels: Sequence[int], boxes: Mapping[str, Fractions]) -> Compact:
        """So many files, each with its label, and its boxes by its id."""
        places = sorted({one.place for one in files})
        number = {place: i for i, place in enumerate(places)}
        found = [boxes.get(id_of(one.name), ()) for one in files]
        return cls(
            places,
            np.array([number[one.place] for one in files], np.int16),
            np.array([one.name.encode() for one in files], "S"),
            np.array([one.offset for one in files], np.int64),
            np.array([one.size for one in files], np.int64),
            np.array(labels, np.int16),
            np.array([len(some) for some in found], np.int16),
            np.array([box for some in found for box in some], np.float64).reshape(-1, 4),
        )

    @classmethod
    def joined(cls, parts: Sequence[Compact]) -> Compact:
        """One part behind the other."""
        places = sorted({place for part in parts for place in part.places})
        number = {place: i for i, place in enumerate(places)}
        at = [np.array([number[place] for place in part.places], np.int16)[part.at] for part in parts]
        rest = ([getattr(part, one.name) for part in parts] for one in fields(cls)[2:])
        return cls(places, *(np.concatenate(columns) for columns in (at, *rest)))

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, key: int) -> Entry: ...
    @overload
    def __getitem__(self, key: slice) -> Compact: ...
    def __getitem__(self, key: int | slice) -> Entry | Compact:
        chosen = np.arange(len(self))[key]
        if isinstance(key, slice):
            return self.taken(chosen)
        (entry,) = self.taken(chosen[None])
        return entry

    def __iter__(self) -> Iterator[Entry]:
        boxes = np.split(self.boxes, np.cumsum(self.boxes_of)[:-1]) if len(self.boxes) else [self.boxes] * len(self)
        columns = (self.at, self.names, self.offsets, self.sizes, self.labels)
        for at, name, offset, size, label, some in zip(*(one.tolist() for one in columns), boxes, strict=True):
            file = Found(name.decode(), self.places[at], offset, size)
            yield Entry(id_of(file.name), label, Where(file, tuple(tuple(box) for box in some.tolist())))

    def taken(self, which: NDArray[np.int64]) -> Compact:
        """Some of them, by their numbers."""
        ends, counts = np.cumsum(self.boxes_of, dtype=np.int64), self.boxes_of[which].astype(np.int64)
        first = np.repeat(ends[which] - np.cumsum(counts), counts)
        columns = [getattr(self, one.name)[which] for one in fields(self)[1:-1]]
        columns.append(self.boxes[first + np.arange(counts.sum())])
        return Compact(self.places, *columns)

    def first_of_each(self, limit: int) -> Compact:
        """At most `limit` of them, the first of each label, then the second, and so on; in their order."""
        order = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels)
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.taken(np.sort(np.lexsort((self.labels, rank))[:limit]))


def id_of(name: str) -> str:
    """A file's name without its ending."""
    return PurePosixPath(name).stem
