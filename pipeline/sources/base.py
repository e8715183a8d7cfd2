"""What a source is: it lists its images without reading them, and reads one at a time, in any process."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pipeline.params import Split as Split

SPLITS: tuple[Split, Split] = ("train", "val")
WNID = re.compile(r"n\d{8}", re.ASCII)  # a WordNet id
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image as stored


class Entry(NamedTuple):
    """An image that nobody has read yet."""

    id: str
    label: int
    where: Any  # what its source finds it by: small, for it travels between processes


class LeftOut(NamedTuple):
    """Something among the images that is none, or that is not wanted."""

    split: Split
    id: str
    reason: str


class Listing(NamedTuple):
    """All that a source has, in an order that is always the same."""

    classes: list[str]  # names, in the order of their numbers
    entries: Mapping[Split, Sequence[Entry]]
    left_out: list[LeftOut]
    bytes: int = 0  # of all entries, encoded; 0 where nobody knows
    departures: Sequence[str] = ()  # of a source that is comparable: why its numbers are not, after all
    wnids: Sequence[str] = ()  # the classes' WordNet ids, if the source has them

    def only(self, splits: Sequence[Split]) -> Listing:
        """The same without the images of other splits."""
        return self._replace(
            entries={split: all_ if split in splits else [] for split, all_ in self.entries.items()},
            left_out=[one for one in self.left_out if one.split in splits],
        )


class Encoded(NamedTuple):
    """An image as its source has it."""

    data: bytes
    boxes: tuple[Box, ...] = ()  # around the objects of its class


class Unreadable(Exception):
    """An image that cannot be had or decoded; the text is the reason."""


class Source(Protocol):
    """A data set in its own form; it is sent to other processes, so that it holds little."""

    name: str
    about: str  # one sentence
    comparable: bool  # with the paper's numbers

    def listing(self) -> Listing:
        """What there is. Failure if that is no data set."""

    def read(self, entry: Entry) -> Encoded:
        """One image. Unreadable if it cannot be had."""
