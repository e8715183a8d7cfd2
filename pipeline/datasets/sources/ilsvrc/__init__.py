"""The source `ilsvrc2012`: the published archives as they are, or the tree that people unpack them to.

Listing an archive reads only its headers. Each image's bytes are then read once, from the archive itself. Images keep
their published names and are in the order of classes and names, so that archives and tree are the same data set.
Classes are numbered in the order of their WordNet ids, as in torchvision's and Caffe's nets.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.sources.base import SPLITS, WNID, Encoded, Entry, Known, Listing, Skipped, Source, Split, root_of
from pipeline.datasets.sources.folder import (
    BESIDE,
    check_limit,
    file_bytes,
    leads_inside,
    printable,
    sorted_in,
    why_not,
)
from pipeline.datasets.sources.ilsvrc import devkit
from pipeline.datasets.sources.ilsvrc.boxes import ARCHIVES as BOXES
from pipeline.datasets.sources.ilsvrc.boxes import Fractions, in_pixels, read_boxes
from pipeline.datasets.sources.ilsvrc.compact import Compact, Found, Where, id_of
from pipeline.datasets.sources.ilsvrc.devkit import Devkit, read_devkit
from pipeline.datasets.sources.ilsvrc.reference import ARCHIVES, BYTES, CLASSES, IMAGES, departures
from pipeline.datasets.sources.ilsvrc.tar import Member, members
from pipeline.errors import Failure
from pipeline.experiment.params import Profile

NAMES = {"train": re.compile(r"(n\d{8})_\d{1,9}\.jpe?g", re.ASCII | re.IGNORECASE),
         "val": re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.ASCII | re.IGNORECASE)}  # fmt: skip
EDGE = 2**16  # bytes at each end of an archive that its fingerprint covers
NOTHING = Compact.of([], [], {})
Group = tuple[str, Iterable[Found]]  # a class, or an empty string without one, and its files, listed when iterated


@dataclass(frozen=True)
class Ilsvrc(Source):
    """ILSVRC-2012 in the folder `root`, with at most `limit` images per split, and only of `splits`."""

    root: Path
    limit: int | None
    splits: tuple[Split, ...] = SPLITS

    name = "ilsvrc2012"
    about = "ILSVRC-2012: photographs of 1000 classes of ImageNet (Russakovsky et al., 2015)"
    comparable = True
    place = "usual"
    downloads = False
    known = Known(IMAGES["train"], IMAGES["val"], CLASSES, BYTES)

    @classmethod
    def of(cls, profile: Profile) -> Ilsvrc:
        """Return the data set in data.path, or in data/ilsvrc2012."""
        return cls(root_of(profile.data), profile.data.limit, profile.splits)

    def missing(self) -> str:
        """Return which archive or folder is missing, or an empty string."""
        try:
            return missing(self.root, self.splits)
        except Failure as reason:
            return str(reason)

    def fingerprint(self) -> dict[str, Any]:
        """Return its parameters and the fingerprint of its archives and folders. See `fingerprint`."""
        return {"source": self.name, "limit": self.limit, **fingerprint(self.root, self.splits)}

    def listing(self) -> Listing:
        """Return all images. Raise Failure, naming the file, if one is missing, truncated, damaged or hostile."""
        if text := missing(self.root, self.splits):
            raise Failure(text)
        kit, skipped = read_devkit(self.root), list[Skipped]()
        wnids = kit.wnids if kit else _wnids(self.root, self.splits[0])
        numbers = {wnid: label for label, wnid in enumerate(wnids)}
        train = _training(self.root, numbers, skipped) if "train" in self.splits else [NOTHING]
        val, strange = _validation(self.root, numbers, kit, skipped)
        counts = [len(part) for part in train] if "train" in self.splits else None
        reasons = departures(kit, wnids, counts, len(val)) + strange
        entries: dict[Split, Compact] = {"train": Compact.joined(train), "val": val}
        if self.limit is not None:
            reasons.insert(0, f"data.limit is {self.limit:,}")
            check_limit(self.limit, len(wnids))
            entries = {split: all_.first_of_each(self.limit) for split, all_ in entries.items()}
        size = sum(int(part.sizes.sum()) for part in entries.values())
        return Listing(kit.names if kit else wnids, entries, skipped, size, reasons, wnids)

    def read(self, entry: Entry) -> Encoded:
        """Return one image's bytes and boxes."""
        where: Where = entry.where
        place, file = self.root / where.found.place, where.found
        data = _part(place, file) if file.offset >= 0 else file_bytes(place / file.name)
        return Encoded(data, in_pixels(where.boxes, data))


def missing(root: Path, splits: Sequence[Split] = SPLITS) -> str:
    """Return which required file is missing, or an empty string."""
    if root.is_file():
        return f"{root} is a file: give the folder that contains it"
    if not root.is_dir():
        return f"there is no folder {root}: give the one with ILSVRC-2012's archives (vgg-repro prepare --path ...)"
    for split in splits:
        if not (root / ARCHIVES[split]).exists() and not (root / split).is_dir():
            return f"{root} has neither {ARCHIVES[split]} nor a folder {split}: see docs/ilsvrc-2012.md"
    if not devkit.place(root) and ((root / ARCHIVES["val"]).exists() or not any(_class_folders(root / "val"))):
        return f"{root} has no {devkit.ARCHIVE}, which has the ground truth of the validation images"
    return ""


def _part(archive: Path, file: Found) -> bytes:
    """Return the bytes of a file in an archive. Raise Failure if they cannot be read."""
    try:
        with archive.open("rb", buffering=0) as opened:
            opened.seek(file.offset)
            data = opened.read(file.size)
    except OSError as error:
        raise Failure(f"{archive} could not be read: {error.strerror or error}") from None
    if len(data) < file.size:
        raise Failure(f"{archive} is truncated: it ends inside {file.name}; download it again")
    return data


def fingerprint(root: Path, splits: Sequence[Split] = SPLITS) -> dict[str, Any]:
    """Return values that identify the data set, the same for a copy of the archives. Raise Failure if it is missing.

    An archive is identified by its length and its ends, and a tree by its folders' names and times. A file whose
    content alone is replaced is not noticed, because examining 1.3 million files each time would take minutes.
    """
    if text := missing(root, splits):
        raise Failure(text)
    archives = (*(ARCHIVES[split] for split in splits), devkit.ARCHIVE, *(BOXES[split] for split in splits))
    files = [(name, *_edges(root / name)) for name in archives if (root / name).exists()]
    trees = [root / split for split in splits if not (root / ARCHIVES[split]).exists()]
    if not (root / devkit.ARCHIVE).exists():
        trees.append(root / devkit.NAME / "data")
    folders = [folder for tree in trees if tree.is_dir() for folder in (tree, *_class_folders(tree))]
    return {"archives": files, "folders": [(str(path.relative_to(root)), path.stat().st_mtime_ns) for path in folders]}


def _edges(archive: Path) -> tuple[int, str]:
    """Return an archive's length and a hash of its first and last bytes. Raise Failure if it cannot be read."""
    try:
        with archive.open("rb") as file:
            first = file.read(EDGE)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - EDGE, 0))
            return length, hashlib.sha256(first + file.read(EDGE)).hexdigest()
    except OSError as error:
        raise Failure(f"{archive} cannot be read: {error.strerror}") from None


def _class_folders(tree: Path) -> list[Path]:
    """Return the folders of a tree that are named by a WordNet id."""
    return [tree / item.name for item in sorted_in(tree) if WNID.fullmatch(item.name) and item.is_dir()]


def _wnids(root: Path, split: Split) -> list[str]:
    """Return the classes that have an archive or a folder, for a tree without a kit."""
    return sorted({name for name, _ in _groups(root, split, []) if WNID.fullmatch(name)})


def _training(root: Path, numbers: Mapping[str, int], skipped: list[Skipped]) -> list[Compact]:
    """Return the training images of each class in turn. Add items of no class to `skipped`."""
    parts: dict[int, Compact] = {}
    boxes = _boxes(root, "train")
    for wnid, files in _groups(root, "train", skipped):
        if wnid not in numbers or numbers[wnid] in parts:
            reason = "it occurs twice" if wnid in numbers else "it is not a class of ILSVRC-2012"
            skipped.append(Skipped("train", printable(wnid), reason))
            deque(files, 0)  # read through, so that a damaged archive is still noticed
            continue
        good = _accepted("train", files, skipped, set(), wnid)
        parts[numbers[wnid]] = Compact.of(good, [numbers[wnid]] * len(good), boxes)
    return [parts.get(label, NOTHING) for label in range(len(numbers))]


def _validation(
    root: Path, numbers: Mapping[str, int], kit: Devkit | None, skipped: list[Skipped]
) -> tuple[Compact, list[str]]:
    """Return the validation images, with classes from the kit or else from their folders, and where both disagree."""
    labelled: list[tuple[Found, int]] = []
    wrong, seen = list[str](), set[str]()
    for wnid, files in _groups(root, "val", skipped):
        for file in _accepted("val", files, skipped, seen):
            label = _truth(kit, file.name) if kit else numbers.get(wnid)
            if label is None:
                reason = f"its class, {printable(wnid)}, is not in train" if wnid else "it has no ground truth"
                skipped.append(Skipped("val", id_of(file.name), reason))
                continue
            labelled.append((file, label))
            if wnid and numbers.get(wnid) != label:
                wrong.append(id_of(file.name))
    labelled.sort()
    strange = f"{len(wrong)} validation images are in folders of other classes than their ground truth's"
    images, labels = [file for file, _ in labelled], [label for _, label in labelled]
    return Compact.of(images, labels, _boxes(root, "val")), [f"{strange}, the first {wrong[0]}"] if wrong else []


def _truth(kit: Devkit, name: str) -> int | None:
    """Return the class of a validation image by its number, counted from 1, or None if the kit has none."""
    number = int(id_of(name)[-8:])
    return kit.truth[number - 1] if 1 <= number <= len(kit.truth) else None


def _accepted(
    split: Split, files: Iterable[Found], skipped: list[Skipped], seen: set[str], wnid: str = ""
) -> list[Found]:
    """Return the files with published names and ids not yet `seen`, in id order. Add the others to `skipped`."""
    accepted = []
    for file in sorted(files, key=lambda file: (id_of(file.name), file.offset)):
        matched, id = NAMES[split].fullmatch(file.name), id_of(file.name)
        if not matched or (wnid and matched[1] != wnid):
            skipped.append(Skipped(split, _display_path(file, wnid), "not a file name of ILSVRC-2012"))
        elif id in seen:
            skipped.append(Skipped(split, _display_path(file, wnid), "its name occurs twice"))
        else:
            seen.add(id)
            accepted.append(file)
    return accepted


def _display_path(file: Found, wnid: str) -> str:
    """Return a file's path as shown to people."""
    inside = f"{wnid}.tar/" if wnid and file.offset >= 0 else ""
    return printable(f"{file.place}/{inside}{file.name}")


def _groups(root: Path, split: Split, skipped: list[Skipped]) -> Iterator[Group]:
    """Yield a split's files by class, from its archive if there is one, or else from its folder."""
    archive = root / ARCHIVES[split]
    if not archive.exists():
        yield from _tree(root, split, skipped)
    elif split == "val":
        yield "", _inside(archive)
    else:
        for inner in members(archive):
            yield PurePosixPath(inner.name).name.removesuffix(".tar"), _inside(archive, inner)


def _inside(archive: Path, inner: Member | None = None) -> Iterator[Found]:
    """Yield the files in an archive, or in the archive `inner` inside it."""
    for member in members(archive, inner):
        yield Found(PurePosixPath(member.name).name, archive.name, member.offset, member.size)


def _tree(root: Path, split: Split, skipped: list[Skipped]) -> Iterator[Group]:
    """Yield the files of the class folders. In val, yield those next to the folders too, where all may be."""
    real, others = root.resolve(), []
    for item in sorted_in(root / split):
        if item.is_dir() and leads_inside(item, real):
            yield item.name, _files(root, f"{split}/{item.name}", sorted_in(root / split / item.name), skipped)
        else:
            others.append(item)
    files = list(_files(root, split, others, skipped))
    if split == "train":
        skipped += [Skipped(split, printable(f"{split}/{file.name}"), BESIDE) for file in files]
    elif files:
        yield "", files


def _files(root: Path, place: str, inside: Iterable[os.DirEntry[str]], skipped: list[Skipped]) -> Iterator[Found]:
    """Yield the candidates among the items of a folder. Add the others to `skipped`."""
    split: Split = "train" if place.startswith("train") else "val"
    real = root.resolve()
    for item in inside:
        if reason := why_not(item, real):
            skipped.append(Skipped(split, printable(f"{place}/{item.name}"), reason))
        else:
            yield Found(item.name, place, -1, item.stat().st_size)


def _boxes(root: Path, split: Split) -> dict[str, Fractions]:
    """Return a split's boxes by image id, empty if their archive is missing."""
    archive = root / BOXES[split]
    return dict(read_boxes(archive)) if archive.exists() else {}
