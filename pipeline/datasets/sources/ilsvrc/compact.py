"""Entries stored by columns, about 90 bytes each, for data sets of millions of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.sources.base import Entry, Order
from pipeline.datasets.sources.ilsvrc.boxes import AnnotatedBox, Boxes


class Found(NamedTuple):
    """An image's file, in a folder or in an archive."""

    name: str  # of the file, or of the member of a tar; the path in a zip
    place: str  # its folder or archive, below the root
    offset: int  # of its bytes in the archive; of its header in a zip; -1 for a file in a folder
    size: int  # bytes


class Where(NamedTuple):
    """The file of an image, and its boxes."""

    found: Found
    boxes: Boxes


@dataclass(frozen=True)
class Compact(Sequence[Entry]):
    """A sequence of entries. Names and ids are in UTF-8."""

    places: list[str]
    at: NDArray[np.int32]  # (images,) the index into `places`
    names: NDArray[np.bytes_]
    ids: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]  # or codes, until the classes are known
    boxes_of: NDArray[np.int16]  # (images,) each image's number of boxes
    boxes: NDArray[np.float64]  # (boxes, 7) as annotated: see AnnotatedBox

    @classmethod
    def of(
        cls, files: Sequence[Found], ids: Sequence[str], labels: Sequence[int], boxes: Mapping[str, Boxes]
    ) -> Compact:
        """Return the entries of `files`, each with its id and label, and with its boxes by its id."""
        places = sorted({file.place for file in files})
        number = {place: i for i, place in enumerate(places)}
        boxes_by_file = [boxes.get(id, ()) for id in ids]
        return cls(
            places,
            np.array([number[file.place] for file in files], np.int32),
            np.array([os.fsencode(file.name) for file in files], "S"),
            np.array([id.encode() for id in ids], "S"),
            np.array([file.offset for file in files], np.int64),
            np.array([file.size for file in files], np.int64),
            np.array(labels, np.int64),
            np.array([len(own) for own in boxes_by_file], np.int16),
            np.array([box for own in boxes_by_file for box in own], np.float64).reshape(-1, 7),
        )

    @classmethod
    def joined(cls, parts: Sequence[Compact]) -> Compact:
        """Return the parts' entries, one part after the other."""
        places = sorted({place for part in parts for place in part.places})
        number = {place: i for i, place in enumerate(places)}
        at = [np.array([number[place] for place in part.places], np.int32)[part.at] for part in parts]
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
        columns = (self.at, self.names, self.ids, self.offsets, self.sizes, self.labels)
        for at, name, id, offset, size, label, own in zip(*(column.tolist() for column in columns), boxes, strict=True):
            file = Found(os.fsdecode(name), self.places[at], offset, size)
            yield Entry(id.decode(), label, Where(file, tuple(AnnotatedBox(*box) for box in own.tolist())))

    def taken(self, which: NDArray[np.int64]) -> Compact:
        """Return the entries at the indices `which`."""
        ends, counts = np.cumsum(self.boxes_of, dtype=np.int64), self.boxes_of[which].astype(np.int64)
        first = np.repeat(ends[which] - np.cumsum(counts), counts)
        columns = [getattr(self, column.name)[which] for column in fields(self)[1:-1]]
        columns.append(self.boxes[first + np.arange(counts.sum())])
        return Compact(self.places, *columns)

    def labelled(self, order: Order) -> Compact:
        """Return the images of `order`, in it, with their labels."""
        return replace(self.taken(order.images), labels=order.labels)

    def with_ids(self, ids: frozenset[str]) -> Compact:
        """Return the images of these ids."""
        return self.taken(np.flatnonzero(np.isin(self.ids, np.array(sorted(ids), "S"))))

    def first_of_each(self, limit: int) -> Compact:
        """Return at most `limit` entries, in order: the first of each label, then the second, and so on."""
        order = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels)
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.taken(np.sort(np.lexsort((self.labels, rank))[:limit]))


NOTHING = Compact.of([], [], [], {})
