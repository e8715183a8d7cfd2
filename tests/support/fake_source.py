"""Sources that tests make up, and their preparation. Preparation's processes import this file too."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.datasets import dataset_key
from pipeline.datasets import prepare as module
from pipeline.datasets.facts import Facts
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import Box, Encoded, Entry, ImageFacts, Listing, Skipped, Source, Split, Unreadable
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from pipeline.system.atomic_files import sha256
from tests.support.images import jpeg, photograph, repository_params

CANNOT = "it cannot be had"


class Item(NamedTuple):
    """An image and all that a source says of it; one without bytes cannot be read."""

    id: str
    label: int
    encoded: bytes | None
    boxes: tuple[Box, ...] = ()


class FakeSource:
    """A source of given items; `reads` has the ids in the order they were read in this process."""

    name, about, comparable, grouped = "given", "photographs that a test made", False, False
    published = "photographs"
    altered = "photographs that a test changed"

    def __init__(self, train: Sequence[Item], val: Sequence[Item], skipped: Sequence[Skipped] = ()) -> None:
        self.given: dict[Split, list[Item]] = {"train": list(train), "val": list(val)}
        self.skipped = list(skipped)
        self.reads: list[str] = []

    def listing(self) -> Listing:
        entries = {
            split: [Entry(item.id, item.label, (item.encoded, item.boxes)) for item in items]
            for split, items in self.given.items()
        }
        return Listing(["one", "two"], entries, self.skipped)

    def read(self, entry: Entry) -> Encoded:
        self.reads.append(entry.id)
        encoded, boxes = entry.where
        if encoded is None:
            raise Unreadable(CANNOT)
        return Encoded(encoded, boxes)

    def doubts(self, images: Iterator[ImageFacts]) -> list[str]:
        return []


class Deadly(FakeSource):
    """Ends the process that reads the item `victim`: `times` times, which it counts in the file `flag`.

    The process is `killed`, as by the kernel, or dies of itself, as of a bad image.
    """

    def __init__(self, given: FakeSource, victim: str, flag: Path, times: int, killed: bool = False) -> None:
        super().__init__(given.given["train"], given.given["val"], given.skipped)
        self.victim, self.flag, self.times, self.killed, self.parent = victim, flag, times, killed, os.getpid()

    def read(self, entry: Entry) -> Encoded:
        assert os.getpid() != self.parent, "images are read in other processes"
        if entry.id == self.victim and deaths(self.flag) < self.times:
            with self.flag.open("a") as file:
                file.write("died\n")
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(2, b"free(): invalid size\n")
            os._exit(134)
        return super().read(entry)


def deaths(flag: Path) -> int:
    """How many processes died of a Deadly source."""
    return len(flag.read_text().splitlines()) if flag.exists() else 0


class Stopping(FakeSource):
    """Raises `error` when item number `reads` is to be read."""

    def __init__(self, given: FakeSource, reads: int, error: BaseException) -> None:
        super().__init__(given.given["train"], given.given["val"], given.skipped)
        self.left, self.error = reads, error

    def read(self, entry: Entry) -> Encoded:
        if not self.left:
            raise self.error
        self.left -= 1
        return super().read(entry)


def small_items(random: np.random.Generator, split: str, count: int) -> list[Item]:
    """Small photographs of both classes in turn, some above 146 pixels, with none, one or two boxes."""
    items = []
    for number in range(count):
        height, width = (int(side) for side in random.integers(40, 200, 2))
        picture = jpeg(photograph(random, height, width), int(random.integers(75, 97)))
        boxes = ((3, 5, width // 2, height // 2), (1, 2, width, height))[: number % 3]
        items.append(Item(f"{split}/{number:03d}.JPEG", number % 2, picture, boxes))
    return items


def items_of(source: Source, split: Split, count: int | None = None) -> list[Item]:
    """The first images of any source, read."""
    entries = source.listing().entries[split][:count]
    return [Item(entry.id, entry.label, *source.read(entry)[:2]) for entry in entries]


def chosen(folder: Path, **changes: dict[str, object]) -> Params:
    """The repository's parameters, with changes; preparation in this very process unless they say otherwise."""
    return repository_params(folder, **{**changes, "prepare": {"processes": 1, **changes.get("prepare", {})}})


class Prepared(NamedTuple):
    """What came of a preparation."""

    facts: Facts
    folder: Path  # of its shards
    rows: dict[tuple[str, str], dict[str, str]]  # of the manifest, by split and id


class Workplace:
    """An empty folder to work in; each preparation has an empty folder of shards unless it goes on from the last."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch, self.number = folder, patch, 0
        patch.chdir(folder)

    def prepare(self, source: Source, again: bool = False, **changes: dict[str, object]) -> Prepared:
        """Prepare `source` instead, with changes to the repository's parameters; a crop is 64 pixels."""
        if not again:
            self.number += 1
            self.patch.setenv("VGG_REPRO_SHARDS", str(self.folder / f"shards-{self.number}"))
        self.patch.setattr(module, "open_source", lambda _: source)
        params = chosen(self.folder, **{"net": {"size_ratio": "2/7"}, **changes})
        facts = module.prepare(params)
        return Prepared(facts, shards_root() / dataset_key.shards_key(params), rows())

    @property
    def partial(self) -> Path:
        """The folder of the one preparation that was cut short."""
        (found,) = shards_root().glob("*.partial")
        return found


def rows() -> dict[tuple[str, str], dict[str, str]]:
    """The manifest's rows by split and id; each is there once."""
    with CLASSIFICATION.manifest.open(newline="") as file:
        read = list(csv.DictReader(file))
    by_id = {(row["split"], row["id"]): row for row in read}
    assert len(by_id) == len(read)
    return by_id


def stored(folder: Path, split: str) -> list[bytes]:
    """A split's images as they lie in the shards."""
    shards = Shards(folder, split)
    return [bytes(shards[i]) for i in range(len(shards))]


def files_in(folder: Path) -> dict[str, tuple[str, int]]:
    """Each file's hash and time of writing."""
    return {path.name: (sha256(path), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def hashes_in(folder: Path) -> dict[str, str]:
    """Each file's hash."""
    return {name: hashed for name, (hashed, _) in files_in(folder).items()}
