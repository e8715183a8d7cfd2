"""The copies of ILSVRC-2012 in a folder: the published archives, an unpacked tree, a zip, shards as tars or parquet.

Names and nesting vary, so copies are found by what a folder holds: the root is looked at first, then the folders below
it. One copy of a split is read. Others are named, so that nobody wonders which one it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.datasets.sources.base import WNID, Split
from pipeline.datasets.sources.folder import is_folder, is_hidden, sorted_in
from pipeline.datasets.sources.ilsvrc.names import Unnamed, split_of
from pipeline.datasets.sources.ilsvrc.reference import ARCHIVES, CALLED
from pipeline.errors import Failure

Kind = Literal["archive", "tree", "zip", "tars", "parquet"]
DEPTH, FOLDERS = 4, 500  # how deep below the root, and in how many folders at most, copies are looked for
WIDE = 50  # a folder with more folders than these holds classes
TREES: dict[Split, tuple[str, ...]] = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
TARS = (".tar", ".tar.gz", ".tgz")
SHARDS: dict[Kind, tuple[str, ...]] = {"zip": (".zip",), "tars": TARS, "parquet": (".parquet",)}
OTHERS = re.compile(r"devkit|bbox|annot|loc_|_t3\b|_t3\.|label|meta|synset", re.IGNORECASE)  # archives of other things
WHOLE_SET = re.compile(r"imagenet|ilsvrc", re.IGNORECASE)  # an archive of all splits
NOT_COPIES = ("Annotations", "ImageSets", "test")
PIECES = re.compile(r"(.*\D)?(\d+)-of-(\d+)(\D.*)", re.DOTALL)
FOREIGN = {  # forms that are not read, and how to get one that is
    "TFRecord files": re.compile(r"(train|validation)-\d{5}-of-\d{5}|.*\.tfrecords?", re.IGNORECASE),
    "an FFCV file": re.compile(r".*\.beton"),
    "an LMDB": re.compile(r"data\.mdb|.*\.lmdb"),
    "pickled or NumPy batches of small images": re.compile(r"(train_data_batch_\d+|val_data)(\.npz)?|.*\.npz"),
    "Arrow files of a datasets cache": re.compile(r".*\.arrow"),
    "an HDF5 file": re.compile(r".*\.(h5|hdf5)"),
    "a 7z or rar archive": re.compile(r".*\.(7z|rar)"),
    "tars compressed by bzip2, xz or zstd": re.compile(r".*\.tar\.(bz2|xz|zst)"),
}


@dataclass(frozen=True)
class Copy:
    """One copy of a split's images."""

    kind: Kind
    base: str  # the folder that holds it, below the root; empty for the root
    files: tuple[str, ...]  # below the root: the archive, the tree's folder, or all files of a kind

    @property
    def title(self) -> str:
        """Return a name for messages."""
        more = f" and {len(self.files) - 1} more files" if len(self.files) > 1 else ""
        return self.files[0] + more


def copies(root: Path, split: Split) -> list[Copy]:
    """Return the copies of a split in the first folder that has any, the one to be read first."""
    for folder, base in folders_in(root):
        if found := list(_copies_in(root, folder, base, split)):
            return found
    return []


def others_text(split: Split, found: Sequence[Copy]) -> str:
    """Return a sentence on a split's copies that are not read, or an empty string."""
    names = ", ".join(copy.title for copy in found[1:])
    first = f"the {CALLED[split]} images are read from {found[0].title}" if found else ""
    return f"{first}; also there and not read: {names}" if names else ""


def missing_pieces(files: Sequence[str]) -> list[str]:
    """Return the names of files that are missing, of shards whose names say how many there are."""
    known: dict[tuple[str, int, str, int], set[int]] = {}
    for file in files:
        if found := PIECES.fullmatch(file):
            start, number, total, end = found.groups(default="")
            known.setdefault((start, len(number), f"-of-{total}{end}", int(total)), set()).add(int(number))
    return [
        f"{start}{number:0{width}}{end}"
        for (start, width, end, total), there in known.items()
        for number in range(total)
        if number not in there
    ]


def foreign(root: Path) -> str:
    """Return what is in the folder that is not read, or an empty string."""
    for folder, base in folders_in(root):
        for item in sorted_in(folder):
            kind = next((kind for kind, name in FOREIGN.items() if name.fullmatch(item.name)), None)
            if kind:
                return f"{kind} ({_join(base, item.name)})"
    return ""


def folders_in(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the root and the folders below it in which a copy may be, the nearest first. Links are not followed."""
    level, seen = [""], 0
    for _ in range(DEPTH + 1):
        below = list[str]()
        for base in level:
            seen += 1
            if seen > FOLDERS:
                return
            yield root / base, base
            inside = [item.name for item in sorted_in(root / base) if item.is_dir(follow_symlinks=False)]
            if len(inside) <= WIDE:
                below += [_join(base, name) for name in inside if _may_hold_copies(name)]
        level = below


def _may_hold_copies(name: str) -> bool:
    """Return whether a folder of this name may hold a copy."""
    return not (is_hidden(name) or WNID.search(name) or name in NOT_COPIES)


def _copies_in(root: Path, folder: Path, base: str, split: Split) -> Iterator[Copy]:
    """Yield a folder's copies of a split."""
    if (folder / ARCHIVES[split]).exists():
        yield Copy("archive", base, (_join(base, ARCHIVES[split]),))
    if trees := [name for name in _tree_names(folder, split) if _is_tree(folder / name)]:
        yield Copy("tree", base, tuple(_join(base, name) for name in trees))
    shards = [(kind, found) for kind, endings in SHARDS.items() if (found := _shards(folder, base, split, endings))]
    sizes = {kind: sum((root / name).stat().st_size for name in found) for kind, found in shards}
    for kind, found in sorted(shards, key=lambda pair: -sizes[pair[0]]):
        yield Copy(kind, base, tuple(found))


def _tree_names(folder: Path, split: Split) -> list[str]:
    """Return the folder of a split, or else the folders that hold parts of it, such as train.X1 to train.X4."""
    names = [name for name in TREES[split] if (folder / name).is_dir()]
    parts = re.compile(rf"({'|'.join(TREES[split])})([._-]?(x|part|split)?[._-]?\d*)", re.IGNORECASE)
    return names[:1] or [item.name for item in sorted_in(folder) if parts.fullmatch(item.name) and is_folder(item)]


def _is_tree(folder: Path) -> bool:
    """Return whether a folder has anything but shards."""
    endings = tuple(ending for endings in SHARDS.values() for ending in endings)
    try:
        with os.scandir(folder) as items:
            return any(not item.name.endswith(endings) and not is_hidden(item.name) for item in items)
    except OSError as error:
        raise Failure(f"{folder} cannot be listed: {error.strerror}") from None


def _shards(folder: Path, base: str, split: Split, endings: tuple[str, ...]) -> list[str]:
    """Return the files in a folder that may hold images of a split, by their names or the folder's."""
    return [
        _join(base, item.name)
        for item in sorted_in(folder)
        if item.name.lower().endswith(endings)
        and not is_hidden(item.name)
        and item.name not in ARCHIVES.values()
        and os.path.isfile(item)
        and split in _splits_of(item.name, base)
    ]


def _splits_of(name: str, base: str) -> tuple[Split, ...]:
    """Return the splits of which a file may hold images."""
    if OTHERS.search(name):
        return ()
    try:
        split = split_of(name) or split_of(base.rpartition("/")[2])
    except Unnamed:
        return ()
    if split is None and WNID.fullmatch(name.removesuffix(".tar")):
        return ("train",)  # a class's archive, as the training archive has them
    if split is None:
        return ("train", "val") if WHOLE_SET.search(name) and not name.lower().endswith(".parquet") else ()
    return (split,)


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name
