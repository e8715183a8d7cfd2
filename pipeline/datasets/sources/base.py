"""The interface of sources: a source lists its images without reading them, and reads one at a time in any process."""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment.params import Data, Profile
from pipeline.experiment.params import Split as Split

SPLITS: tuple[Split, Split] = ("train", "val")
WNID = re.compile(r"n\d{8}", re.ASCII)  # a WordNet id
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image as stored


class Entry(NamedTuple):
    """An image that has not been read yet."""

    id: str
    label: int
    where: Any  # its source's key for it; small, because it is sent between processes


class Skipped(NamedTuple):
    """A skipped item: something among the images that is not an image or not wanted."""

    split: Split
    id: str
    reason: str
    lost: bool = False  # an image that should be used; too many of them stop preparation


class Stream(NamedTuple):
    """Files that are read from their beginning to their end, whose images are known only then."""

    split: Split
    files: tuple[str, ...]
    images: int  # about, unless they are counted
    counted: bool = False
    wanted: frozenset[str] | None = None  # the ids of the images to read; None for all


class ImageNames(NamedTuple):
    """A split's images as they were found."""

    ids: NDArray[np.bytes_]  # (images,)
    codes: NDArray[np.int64]  # (images,) what the source knows about each image's class


class Order(NamedTuple):
    """The images that are used, in the data set's order."""

    images: NDArray[np.int64]  # indices into those that were found
    labels: NDArray[np.int64]  # of these images


class Listing(NamedTuple):
    """The contents of a source, always in the same order."""

    classes: list[str]  # names, in the order of their numbers
    entries: Mapping[Split, Sequence[Entry]]
    skipped: list[Skipped]
    bytes: int = 0  # of all entries, encoded; 0 if unknown
    departures: Sequence[str] = ()  # from the published data set: its numbers are not comparable then
    wnids: Sequence[str] = ()  # the classes' WordNet ids, if the source has them
    streams: Sequence[Stream] = ()  # of splits without entries; labels are then codes until `Source.settled`

    def only(self, splits: Sequence[Split]) -> Listing:
        """Return this listing without the images of other splits."""
        return self._replace(
            entries={split: all_ if split in splits else [] for split, all_ in self.entries.items()},
            skipped=[one for one in self.skipped if one.split in splits],
            streams=[stream for stream in self.streams if stream.split in splits],
        )


class ImageFacts(NamedTuple):
    """An image of the prepared data set."""

    split: Split
    id: str
    height: int  # as stored, pixels
    width: int
    bytes: int  # in the source
    sha256: str  # of these bytes
    rescaled: bool  # when it was prepared


class Encoded(NamedTuple):
    """An image as stored by its source."""

    data: bytes
    boxes: tuple[Box, ...] = ()  # around the objects of its class
    odd_boxes: tuple[str, ...] = ()  # kinds of boxes that were repaired or not used


class Unreadable(Exception):
    """An error for an image that cannot be read or decoded. Its text is the reason."""


class Known(NamedTuple):
    """The size of a data set that need not be counted: as published, or as drawn."""

    train: int  # images
    val: int
    classes: int
    bytes: int = 0  # of all images, encoded; 0 if unknown


class Source(ABC):
    """A data set in its own form. It is sent to other processes, so it holds little data."""

    name: ClassVar[str]  # in params.yaml
    published: ClassVar[str] = ""  # the title of the data set that others published; empty: it is made here
    altered: ClassVar[str] = ""  # `about` of images that depart from the published ones, if it is not the usual one
    comparable: ClassVar[bool]  # with the paper's numbers
    place: ClassVar[Literal["none", "given", "usual"]]  # no folder; data.path only; or data.path, by default data/NAME
    downloads: ClassVar[bool]  # whether missing files are downloaded
    grouped: ClassVar[bool] = False  # whether an image's id, up to the last "/", names its group of similar images

    @classmethod
    @abstractmethod
    def of(cls, profile: Profile) -> Self:
        """Return the source that `profile` describes. Raise UsageError if it lacks a parameter of this source."""

    @property
    @abstractmethod
    def about(self) -> str:
        """Return one sentence: what the images are."""

    @property
    @abstractmethod
    def known(self) -> Known | None:
        """Return the size of the data set if it is known without reading it."""

    @abstractmethod
    def missing(self) -> str:
        """Return what is missing and how to get it, or an empty string. Nothing is downloaded."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return values that identify the images and are cheap to get: equal fingerprints mean equal images.

        A data set that can be downloaded is downloaded first. Raise Failure if its folder is missing.
        """

    @abstractmethod
    def listing(self) -> Listing:
        """Return the contents. Raise Failure if they are no data set."""

    def stream(self, stream: Stream) -> Iterator[Entry]:
        """Yield the images of a stream, always in the same order. `read` returns them without another access."""
        raise NotImplementedError(f"source {self.name} has no streams")

    def settled(self, listing: Listing, found: Mapping[Split, ImageNames]) -> tuple[Listing, Mapping[Split, Order]]:
        """Return the listing with the classes, and each split's images in order, once all streams have been read."""
        raise NotImplementedError(f"source {self.name} has no streams")

    def doubts(self, images: Iterator[ImageFacts]) -> list[str]:
        """Return why a comparable source's images may be others than the published ones."""
        return []

    @abstractmethod
    def read(self, entry: Entry) -> Encoded:
        """Return one image. Raise Unreadable if it cannot be read."""


def prepare_command(source: str, root: Path, *options: str) -> str:
    """Return the command, for messages, that reads the folder `root` as a source, whatever params.yaml has now."""
    return shlex.join(["vgg-repro", "prepare", "--source", source, "--path", str(root), *options])


def root_of(data: Data) -> Path:
    """Return the folder of a source that has one: data.path, by default data/NAME."""
    return Path(data.path or f"data/{data.source}").expanduser()
