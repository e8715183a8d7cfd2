"""What a source is: it lists its images without reading them, and reads one at a time, in any process."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pipeline.experiment.params import Data, Profile
from pipeline.experiment.params import Split as Split

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


class Known(NamedTuple):
    """How large a published data set is, which nobody need count."""

    train: int  # images
    val: int
    classes: int
    bytes: int = 0  # of all images, encoded; 0 where nobody knows


class Source(ABC):
    """A data set in its own form; it is sent to other processes, so that it holds little."""

    name: ClassVar[str]  # in params.yaml
    about: ClassVar[str]  # one sentence
    comparable: ClassVar[bool]  # with the paper's numbers
    place: ClassVar[Literal["none", "given", "usual"]]  # needs no folder; data.path alone; else data/NAME
    downloads: ClassVar[bool]  # what is missing
    known: ClassVar[Known | None]  # its size as published

    @classmethod
    @abstractmethod
    def of(cls, profile: Profile) -> Self:
        """Return the source that `profile` describes. UsageError if it lacks what this source needs to know."""

    @abstractmethod
    def missing(self) -> str:
        """Return what is not there and how to get it, or nothing if all is there. Nobody downloads anything."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what it looks like from outside, cheap to find out: two equal ones mean equal images.

        Failure if its folder is not there; a data set that is downloaded is downloaded first.
        """

    @abstractmethod
    def listing(self) -> Listing:
        """What there is. Failure if that is no data set."""

    @abstractmethod
    def read(self, entry: Entry) -> Encoded:
        """One image. Unreadable if it cannot be had."""


def root_of(data: Data) -> Path:
    """Return the folder of a source that has one: data.path, or the usual place data/NAME."""
    return Path(data.path or f"data/{data.source}").expanduser()
