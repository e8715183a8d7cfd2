"""The manifest: a line an image, kept or left out, and what the shards' parts come to when they are joined."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.colour_stats import Colours
from pipeline.datasets.shard_worker import Task
from pipeline.datasets.shards import Columns, chosen, read_part, write_index
from pipeline.datasets.sources.base import SPLITS, Listing, Split
from pipeline.system.atomic_files import whole_csv

IMAGE = ("split", "id", "class", "height", "width", "bytes", "sha256")  # what an image is, size as stored
COLUMNS = (*IMAGE, "changed", "small", "warning", "left_out")
IN_VAL_TOO = "the same image is in val"


class Tally(NamedTuple):
    """How many images have an entry in a column of the manifest."""

    left_out: int
    warning: int
    small: int


@dataclass
class Joined:
    """What all shards of a data set come to."""

    labels: dict[Split, Counter[int]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    colours: Colours = field(default_factory=Colours)
    rescaled: int = 0  # training images made smaller

    @property
    def images(self) -> int:
        """All that are kept."""
        return sum(labels.total() for labels in self.labels.values())

    def add(self, split: Split, kept: Columns) -> None:
        """Count a shard's images."""
        self.labels[split].update(kept["label"].tolist())
        if split == "train":
            self.rescaled += sum("rescaled" in what for what in kept["changed"].tolist())
            for first, second in zip(kept["first"], kept["second"], strict=True):
                self.colours.add(first, second)


def identity(manifest: Path, stored: Mapping[str, Any]) -> str:
    """A hash of what a manifest says of the images that are kept, and of the parameters that they are `stored` by.

    It stays as it is whatever else is left out, and whatever the decoder warns of: no run need be trained anew. It has
    the source's bytes in it and not the stored ones, for decoders and encoders differ from machine to machine.
    """
    found = hashlib.sha256(_line([*IMAGE, *(f"{key}={value}" for key, value in sorted(stored.items()))]))
    left_out = COLUMNS.index("left_out")
    for row in _lines(manifest):
        if not row[left_out]:
            found.update(_line(row[: len(IMAGE)]))
    return found.hexdigest()


def tally(manifest: Path) -> Tally:
    """How many lines of a manifest say something that people should know."""
    places = [COLUMNS.index(name) for name in Tally._fields]
    found = Counter(place for row in _lines(manifest) for place in places if row[place])
    return Tally(*(found[place] for place in places))


def _lines(manifest: Path) -> Iterator[list[str]]:
    """Its lines without the heading; ValueError if it is no manifest. A DictReader takes three times as long."""
    with manifest.open(newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != COLUMNS:
            raise ValueError(f"{manifest} is no manifest")
        for row in rows:
            if len(row) != len(COLUMNS):
                raise ValueError(f"line {rows.line_num} of {manifest} is broken")
            yield row


def join(folder: Path, tasks: Sequence[Task], listing: Listing, drop_shared: bool) -> Joined:
    """Write each split's index and the manifest from the shards' parts; `drop_shared`: no image of val in train."""
    joined = Joined()
    with whole_csv(folder / "manifest.csv") as manifest:
        manifest.writerow(COLUMNS)
        for split in SPLITS:
            parts = _parts(folder, tasks, split)
            if split == "train" and drop_shared:
                parts = _without(parts, _hashes(_parts(folder, tasks, "val")))
            if any(task.split == split for task in tasks):
                write_index(folder, split, _entered(split, parts, manifest, joined))
        nothing = [""] * (len(COLUMNS) - 3)
        manifest.writerows([one.split, one.id, *nothing, one.reason] for one in listing.left_out)
    return joined


def _parts(folder: Path, tasks: Iterable[Task], split: Split) -> Iterator[Columns]:
    for task in tasks:
        if task.split == split:
            part = read_part(folder, split, task.number)
            assert part is not None  # made or found whole just now
            yield part


def _hashes(parts: Iterable[Columns]) -> set[bytes]:
    """Of the source's bytes of all images that are kept."""
    return {one.tobytes() for part in parts for one in part["source_hash"][_kept(part)]}


def _entered(split: Split, parts: Iterable[Columns], manifest: Any, joined: Joined) -> Iterator[Columns]:
    """The parts' images that are kept, once all are in the manifest and counted."""
    for part in parts:
        manifest.writerows(_rows(split, part))
        kept = chosen(part, _kept(part))
        joined.add(split, kept)
        yield kept


def _kept(part: Columns) -> NDArray[np.bool_]:
    return np.asarray(part["left_out"] == "")


def _without(parts: Iterable[Columns], in_val: set[bytes]) -> Iterator[Columns]:
    """The parts with what validation has too left out."""
    for part in parts:
        shared = np.array([one.tobytes() in in_val for one in part["source_hash"]], bool)
        yield {**part, "left_out": np.where(_kept(part) & shared, IN_VAL_TOO, part["left_out"])}


def _rows(split: Split, part: Columns) -> Iterator[list[Any]]:
    hashes = [one.tobytes().hex() for one in part["source_hash"]]
    names = ("id", "label", "height", "width", "source_length", "changed", "small", "warning", "left_out")
    for hash, row in zip(hashes, zip(*(part[name].tolist() for name in names), strict=True), strict=True):
        id, label, height, width, length, changed, small, warning, left_out = row
        size = ["", ""] if left_out else [height, width]
        yield [split, id, label, *size, length, hash, changed, "yes" if small else "", warning, left_out]


def _line(values: Iterable[object]) -> bytes:
    return (",".join(map(str, values)) + "\n").encode()
