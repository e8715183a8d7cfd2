"""The manifest: one line per image, kept or skipped, and the totals of the shards' parts when they are joined."""

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
from pipeline.datasets.shards import BETWEEN, Columns, read_part, taken, write_index
from pipeline.datasets.shards import joined as all_of
from pipeline.datasets.sources.base import SPLITS, ImageFacts, Listing, Order, Split
from pipeline.datasets.sources.folder import is_other_file
from pipeline.errors import Failure
from pipeline.system.atomic_files import whole_csv

IMAGE = (
    "split",
    "id",
    "class",
    "height",
    "width",
    "bytes",
    "sha256",
)  # an image's manifest_hash; the size is as stored
BLOCK = 2**18  # images of a data set whose shards are in another order that are put in order at once
COLUMNS = (*IMAGE, "changed", "small", "warning", "skipped")
ODD_BOXES = "odd_boxes.csv"  # the table of boxes that were repaired or not used
SKIPPED = COLUMNS.index("skipped")
IN_VAL_TOO = "the same image is also in val"


class Tally(NamedTuple):
    """The number of images with an entry in each of these columns of the manifest."""

    skipped: int
    warning: int
    small: int

    @property
    def text(self) -> str:
        """Return how many files were skipped, and kept with a warning, in words."""
        return f"{self.skipped} file{'s' * (self.skipped != 1)} skipped, {self.warning} kept with a warning"


@dataclass
class Joined:
    """The totals of all shards of a data set."""

    labels: dict[Split, Counter[int]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    colours: Colours = field(default_factory=Colours)
    rescaled: int = 0  # number of training images that were downscaled

    @property
    def images(self) -> int:
        """Return the number of kept images."""
        return sum(labels.total() for labels in self.labels.values())

    def add(self, split: Split, kept: Columns) -> None:
        """Add a shard's images to the totals."""
        self.labels[split].update(kept["label"].tolist())
        if split == "train":
            self.rescaled += sum("rescaled" in changes for changes in kept["changed"].tolist())
            for first, second in zip(kept["first"], kept["second"], strict=True):
                self.colours.add(first, second)


def manifest_hash(manifest: Path, stored: Mapping[str, Any]) -> str:
    """Return a hash of the manifest's entries for kept images, and of the parameters that they are `stored` with.

    Skipped images and decoder warnings do not change it, so no run needs to be trained again because of them. It covers
    the source's bytes and not the stored ones, because decoders and encoders differ between machines.
    """
    hasher = hashlib.sha256(_line([*IMAGE, *(f"{key}={value}" for key, value in sorted(stored.items()))]))
    for row in _lines(manifest):
        if not row[SKIPPED]:
            hasher.update(_line(row[: len(IMAGE)]))
    return hasher.hexdigest()


def kept_images(manifest: Path) -> Iterator[ImageFacts]:
    """Yield the images of a manifest that are kept."""
    for split, id, _, height, width, length, sha256, changed, _, _, skipped in _lines(manifest):
        if not skipped:
            kind = SPLITS[split == "val"]
            yield ImageFacts(kind, id, int(height), int(width), int(length), sha256, "rescaled" in changed)


def tally(manifest: Path) -> Tally:
    """Count the lines of a manifest that have an entry in the columns of `Tally`."""
    places = [COLUMNS.index(name) for name in Tally._fields]
    counts = Counter(place for row in _lines(manifest) for place in places if row[place])
    return Tally(*(counts[place] for place in places))


def other_files(manifest: Path) -> int:
    """Return how many of the skipped items of a manifest are other files than images."""
    return sum(bool(row[SKIPPED]) and is_other_file(row[1], row[SKIPPED]) for row in _lines(manifest))


def groups_of(manifest: Path) -> NDArray[np.int64]:
    """Return the number of each validation image's group, (images,): its id up to the last slash names the group."""
    names = [id.rpartition("/")[0] for id in val_ids(manifest)]
    return np.unique(names, return_inverse=True)[1]


def val_ids(manifest: Path) -> list[str]:
    """Return the ids of the kept validation images, in the order of their scores."""
    return [row[1] for row in _lines(manifest) if row[0] == "val" and not row[SKIPPED]]


def skipped_images(manifest: Path, split: Split) -> int:
    """Return the number of images of a split that are skipped."""
    return sum(row[0] == split and bool(row[SKIPPED]) for row in _lines(manifest))


def _lines(manifest: Path) -> Iterator[list[str]]:
    """Yield the rows without the heading. Raise ValueError if the file is no manifest."""
    with manifest.open(newline="") as file:
        rows = csv.reader(file)  # a DictReader takes three times as long
        if tuple(next(rows, ())) != COLUMNS:
            raise ValueError(f"{manifest} is not a manifest")
        for row in rows:
            if len(row) != len(COLUMNS):
                raise ValueError(f"line {rows.line_num} of {manifest} is malformed")
            yield row


class SplitShards(NamedTuple):
    """The shards of a split, and the order of the images in them, which is otherwise the data set's."""

    numbers: Sequence[int]
    order: Order | None = None


def join_parts(folder: Path, shards: Mapping[Split, SplitShards], listing: Listing, drop_shared: bool) -> Joined:
    """Write each split's index, the manifest and the table of odd boxes from the shards' parts.

    `drop_shared` drops val's images from train. The manifest says nothing of boxes, because some copies of a
    data set lack them.
    """
    joined = Joined()
    with whole_csv(folder / "manifest.csv") as manifest, whole_csv(folder / ODD_BOXES) as odd:
        manifest.writerow(COLUMNS)
        odd.writerow(("split", "id", "kind"))
        for split in SPLITS:
            parts = _parts(folder, split, shards[split])
            if split == "train" and drop_shared:
                parts = _skip_shared(parts, _hashes(_parts(folder, "val", shards["val"])))
            if shards[split].numbers:
                write_index(folder, split, _record_kept(split, parts, manifest, odd, joined))
        nothing = [""] * (len(COLUMNS) - 3)
        manifest.writerows([one.split, one.id, *nothing, one.reason] for one in listing.skipped)
    return joined


def parts_of(folder: Path, split: Split, numbers: Iterable[int]) -> Iterator[Columns]:
    """Yield the parts of a split's shards. Raise Failure if a shard has been lost since it was made."""
    for number in numbers:
        part = read_part(folder, split, number)
        if part is None:
            raise lost_shards(folder, split)
        yield part


def lost_shards(folder: Path, split: Split) -> Failure:
    """Return an error for shards that are not there any more."""
    return Failure(f"{folder} has lost shards of {split} since they were made; start again: vgg-repro prepare")


def _parts(folder: Path, split: Split, shards: SplitShards) -> Iterator[Columns]:
    """Yield a split's images in the data set's order, by shards or in blocks of BLOCK images."""
    if shards.order is None:
        yield from parts_of(folder, split, shards.numbers)
        return
    images, labels = shards.order
    for first in range(0, len(images), BLOCK):
        yield {
            **_gathered(folder, split, shards.numbers, images[first : first + BLOCK]),
            "label": labels[first : first + BLOCK],
        }


def _gathered(folder: Path, split: Split, numbers: Sequence[int], wanted: NDArray[np.int64]) -> Columns:
    """Return the images at the indices `wanted` into all shards' images, in this order."""
    ordered, found, start = np.sort(wanted), list[Columns](), 0
    for part in parts_of(folder, split, numbers):
        end = start + len(part["label"])
        inside = ordered[np.searchsorted(ordered, start) : np.searchsorted(ordered, end)] - start
        found.append(taken(part, inside))
        start = end
    return taken(all_of(found), np.searchsorted(ordered, wanted))


def _hashes(parts: Iterable[Columns]) -> set[bytes]:
    """Return the hashes of the source's bytes of all kept images."""
    return {hash.tobytes() for part in parts for hash in part["source_hash"][_kept_mask(part)]}


def _record_kept(split: Split, parts: Iterable[Columns], manifest: Any, odd: Any, joined: Joined) -> Iterator[Columns]:
    """Write the parts to the manifest and the table of odd boxes; add their kept images to `joined`, and yield them."""
    for part in parts:
        manifest.writerows(_rows(split, part))
        kept = taken(part, np.flatnonzero(_kept_mask(part)))
        for id, kinds in zip(kept["id"].tolist(), kept["odd_boxes"].tolist(), strict=True):
            odd.writerows([split, id, kind] for kind in kinds.split(BETWEEN) if kind)
        joined.add(split, kept)
        yield kept


def _kept_mask(part: Columns) -> NDArray[np.bool_]:
    """Return which images of a part are kept, (images,)."""
    return np.asarray(part["skipped"] == "")


def _skip_shared(parts: Iterable[Columns], in_val: set[bytes]) -> Iterator[Columns]:
    """Yield the parts with the images that validation has too marked as skipped."""
    for part in parts:
        shared = np.array([hash.tobytes() in in_val for hash in part["source_hash"]], bool)
        yield {**part, "skipped": np.where(_kept_mask(part) & shared, IN_VAL_TOO, part["skipped"])}


def _rows(split: Split, part: Columns) -> Iterator[list[Any]]:
    """Yield a part's rows of the manifest."""
    hashes = [hash.tobytes().hex() for hash in part["source_hash"]]
    names = ("id", "label", "height", "width", "source_length", "changed", "small", "warning", "skipped")
    for hash, row in zip(hashes, zip(*(part[name].tolist() for name in names), strict=True), strict=True):
        id, label, height, width, length, changed, small, warning, skipped = row
        size = ["", ""] if skipped else [height, width]
        yield [split, id, label, *size, length, hash, changed, "yes" if small else "", warning, skipped]


def _line(values: Iterable[object]) -> bytes:
    """Return the values as one line of comma-separated text."""
    return (",".join(map(str, values)) + "\n").encode()
