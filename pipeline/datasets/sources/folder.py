"""The source `imagefolder`: train/CLASS/* and val/CLASS/*, as nobody tidied them.

A file's name and its ending say nothing: what it holds is looked at when it is read. Whatever is no file to read, or
leads out of the folder, is left out with its reason. Without val/, a part of train/ is split off by each image's
content, so that an image stays where it is as others are added.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets.sources.base import SPLITS, Encoded, Entry, LeftOut, Listing, Source, Split, Unreadable, root_of
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Profile
from pipeline.system.atomic_files import digest

HIDDEN_ONE = "hidden"
BESIDE = "a file beside the classes' folders"
HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what systems leave behind; names with a dot before them too


class File(NamedTuple):
    """Something in a class's folder: where it is, its class, and why it is no candidate."""

    path: str  # relative to the root
    label: str
    reason: str  # empty if it is one
    size: int = 0  # bytes


@dataclass(frozen=True)
class ImageFolder(Source):
    """Images below `root`; `val_share` of them are for validation if there is no val/, `limit` a split at the most."""

    root: Path
    val_share: float
    limit: int | None
    splits: tuple[Split, ...] = SPLITS  # that are looked at; without training, the classes are val's folders

    name = "imagefolder"
    about = "a folder of images of one's own"
    comparable = False
    place = "given"
    downloads = False
    known = None

    @classmethod
    def of(cls, profile: Profile) -> ImageFolder:
        """Return the folder that the profile names. UsageError if it names none."""
        data = profile.data
        if not data.path:
            raise UsageError("data.path is missing: source imagefolder needs its folder (vgg-repro prepare --path ...)")
        return cls(root_of(data), data.val_share, data.limit, profile.splits)

    def missing(self) -> str:
        """Return which folder is not there."""
        first = self.splits[0]
        there = (self.root / first).is_dir()
        return "" if there else f"{self.root} has no folder {first}: images lie in train/CLASS/ and val/CLASS/"

    def fingerprint(self) -> dict[str, Any]:
        """Return its parameters and a hash of all files' names, sizes and times."""
        own = {"source": self.name, "limit": self.limit, "val_share": self.val_share}
        return own | fingerprint(self.root, self.splits)

    def listing(self) -> Listing:
        """Every file in a class's folder; classes are the folders of train/ that have any, by name.

        Failure if there is no train/, or no two classes.
        """
        first = self.splits[0]
        train = list(_files(self.root, first))
        names = self._classes(train, first)
        if first == "val":
            train, val = [], train
        elif os.path.lexists(self.root / "val"):
            val = [_known(file, names) for file in _files(self.root, "val")]
        else:
            train, val = self._split_off(train)
            if lost := set(names) - {file.label for file in train}:
                raise Failure(
                    f"all images of {printable(min(lost))} have fallen to validation: there are too few, or "
                    f"data.val_share, {self.val_share:g}, is too large"
                )
        entries: dict[Split, list[Entry]] = {
            "train": self._entries(train, names), "val": self._entries(val, names)
        }  # fmt: skip
        left_out = [LeftOut("train", printable(f.path), f.reason) for f in train if f.reason]
        left_out += [LeftOut("val", printable(f.path), f.reason) for f in val if f.reason]
        size = sum(file.size for file in (*train, *val) if not file.reason)
        return Listing([printable(name) for name in names], entries, left_out, size)

    def read(self, entry: Entry) -> Encoded:
        """The file's bytes."""
        return Encoded(file_bytes(self.root / entry.where))

    def _classes(self, files: list[File], split: Split) -> list[str]:
        """The folders of a split that have an image."""
        names = sorted({file.label for file in files if file.label and not file.reason})
        for label in sorted({file.label for file in files} - {"", *names}):
            inside = [file for file in files if file.label == label and file.reason != HIDDEN_ONE]
            if inside:
                where = self.root / split / printable(label)
                what = f"but {len(inside)} other things ({inside[0].reason}): images lie in {split}/CLASS/"
                raise Failure(f"{where} has no image that lies directly in it, {what}")
        if len(names) < 2:
            found = f"only the class {printable(names[0])}" if names else "no class"
            raise Failure(f"{self.root / split} has {found}: images lie in {split}/CLASS/, in two classes at least")
        return names

    def _entries(self, files: list[File], names: list[str]) -> list[Entry]:
        """The candidates; `limit` of them, one of each class in turn by a hash of their names."""
        labels = {name: number for number, name in enumerate(names)}
        entries = [Entry(printable(f.path), labels[f.label], f.path) for f in files if not f.reason]
        if self.limit is None or len(entries) <= self.limit:
            return entries
        check_limit(self.limit, len(names))
        drawn = sorted(entries, key=lambda entry: hashlib.sha256(os.fsencode(entry.where)).digest())
        turns = Counter[int]()
        chosen = []
        for entry in drawn:
            turns[entry.label] += 1
            chosen.append((turns[entry.label], entry))
        chosen.sort(key=lambda one: one[0])  # the first of each class, then the second; within a turn as drawn
        return sorted(entry for _, entry in chosen[: self.limit])

    def _split_off(self, files: list[File]) -> tuple[list[File], list[File]]:
        """The files of train/ in two parts."""
        print(f"{self.root} has no val/: {self.val_share:g} of its {len(files)} files go to validation, by content")
        with ThreadPoolExecutor() as pool:
            for_val = list(pool.map(self._is_for_val, files))
        parts = [
            [file for file, is_val in zip(files, for_val, strict=True) if is_val == want] for want in (False, True)
        ]
        return parts[0], parts[1]

    def _is_for_val(self, file: File) -> bool:
        """Whether the file's content falls to validation; what cannot be read stays in train/ and is named there."""
        if file.reason:
            return False
        try:
            drawn = hashlib.sha256(file_bytes(self.root / file.path)).digest()
        except Unreadable:
            return False
        return int.from_bytes(drawn[:8]) < self.val_share * 2**64


def file_bytes(path: Path) -> bytes:
    """What a file holds. Unreadable if it cannot be had; Failure if the disk fails."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Unreadable((error.strerror or str(error)).lower()) from None
    except OSError as error:  # a disk that fails, or is away: nothing that should be left out for good
        raise Failure(f"{path} could not be read: {error.strerror or error}") from None


def check_limit(limit: int, classes: int) -> None:
    """Failure if so few images cannot have one of each class."""
    if limit < classes:
        raise Failure(f"data.limit is {limit}, less than one image of each of the {classes} classes")


def fingerprint(root: Path, splits: Sequence[Split] = SPLITS) -> dict[str, Any]:
    """How many files and bytes there are, and a hash of every name, size, time and mode. Failure if there is none."""
    rows = [row for split in splits for row in _rows(root, split)]
    return {"files": len(rows), "bytes": sum(row[1] for row in rows), "listing": digest(rows)}


def printable(name: str) -> str:
    """A file's name that every terminal and file can show: what is no printable character becomes an escape."""
    text = os.fsencode(name.replace("\\", "\\\\")).decode(errors="backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _rows(root: Path, split: str) -> Iterator[tuple[str, int, int, int]]:
    """The name, size, time and mode of all in a split's folder."""
    for label, folder in _folders(root, split):
        if isinstance(folder, str):
            yield printable(f"{split}/{label}"), 0, 0, 0
            continue
        for one in sorted_in(folder):
            try:
                seen = one.stat() if os.path.exists(one) else one.stat(follow_symlinks=False)
            except OSError as error:
                raise Failure(f"{folder} cannot be looked into: {error.strerror}") from None
            yield printable(f"{split}/{label}/{one.name}"), seen.st_size, seen.st_mtime_ns, seen.st_mode


def _files(root: Path, split: Split) -> Iterator[File]:
    """All that lies in a split's class folders, in the order of its names."""
    real = root.resolve()
    for label, folder in _folders(root, split):
        inside = [] if isinstance(folder, str) else sorted_in(folder)
        if not inside:
            yield File(f"{split}/{label}", "", folder if isinstance(folder, str) else "an empty folder")
        for one in inside:
            reason = why_not(one, real)
            yield File(f"{split}/{label}/{one.name}", label, reason, 0 if reason else _size(one))


def _folders(root: Path, split: str) -> Iterator[tuple[str, Path | str]]:
    """What lies in a split's folder: a name, and the class's folder or why it is none."""
    if not os.path.isdir(root):
        raise Failure(f"data.path is {root}, and there is no such folder here")
    place, real = root / split, root.resolve()
    if not os.path.isdir(place):
        if root.is_dir() and not os.access(root, os.X_OK):
            raise Failure(f"{root} may not be entered")
        if split == "val" and not os.path.lexists(place) and (root / "train").is_dir():
            return
        raise Failure(f"{root} has no folder {split}: images lie in train/CLASS/ and val/CLASS/")
    if not place.resolve().is_relative_to(real):
        raise Failure(f"{place} is a link that leads out of {root}: name the folder that it leads to as data.path")
    for one in sorted_in(place):
        if _is_hidden(one.name):
            yield one.name, HIDDEN_ONE
        elif not os.path.exists(one) and one.is_symlink():
            yield one.name, "a link that leads nowhere"
        elif not os.path.isdir(one):
            yield one.name, BESIDE
        elif not leads_inside(one, real):
            yield one.name, "a link that leads out of the data set's folder"
        else:
            yield one.name, place / one.name


def sorted_in(folder: Path) -> list[os.DirEntry[str]]:
    """All in a folder, by name. Failure if it may not be looked into."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda one: one.name)
    except OSError as error:
        raise Failure(f"{folder} cannot be looked into: {error.strerror}") from None


def why_not(file: os.DirEntry[str], root: Path) -> str:
    """Why something in a class's folder is no candidate for an image; empty if it is one."""
    if _is_hidden(file.name):
        return HIDDEN_ONE
    try:
        mode = file.stat().st_mode
    except OSError:
        return "a link that leads nowhere" if file.is_symlink() else ""  # reading says why
    if not leads_inside(file, root):
        return "a link that leads out of the data set's folder"
    if stat.S_ISDIR(mode):
        return "a folder, not an image"
    return "" if stat.S_ISREG(mode) else "no regular file"


def _size(file: os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except OSError:  # reading says why
        return 0


def leads_inside(one: os.DirEntry[str], root: Path) -> bool:
    """Whether something is no link, or a link to something below `root`, which is no link itself."""
    return not one.is_symlink() or Path(one.path).resolve().is_relative_to(root)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def _known(file: File, names: list[str]) -> File:
    """The same file, left out if train/ does not have its class."""
    if file.label and not file.reason and file.label not in names:
        return file._replace(reason=f"its class is not in train/: {printable(file.label)}")
    return file
