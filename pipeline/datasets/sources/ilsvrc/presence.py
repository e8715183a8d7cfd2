"""What is in a data set's folder: which copy is read, what is missing, and what identifies it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.datasets.sources.folder import is_hidden, sorted_in
from pipeline.datasets.sources.ilsvrc import devkit
from pipeline.datasets.sources.ilsvrc.boxes import ARCHIVES as BOXES
from pipeline.datasets.sources.ilsvrc.copies import Copy, best_copy, foreign, missing_pieces
from pipeline.datasets.sources.ilsvrc.names import CLASS
from pipeline.datasets.sources.ilsvrc.reference import ARCHIVES
from pipeline.datasets.sources.ilsvrc.samples import images_in
from pipeline.datasets.sources.ilsvrc.truth import ANNOTATIONS, SOLUTION, SYNSETS, Truth, lists_in, places, read_truth
from pipeline.datasets.sources.ilsvrc.zips import zip_content, zip_members
from pipeline.errors import Failure

EDGE = 2**16  # bytes at each end of an archive that its fingerprint covers
STREAMED = ("tars", "parquet")  # kinds of copies that are read from their beginning


def missing(root: Path, splits: Sequence[Split] = SPLITS) -> str:
    """Return which required file is missing, or an empty string."""
    if root.is_file():
        return f"{root} is a file: give the folder that contains it"
    if not root.is_dir():
        return f"there is no folder {root}: give the one with ILSVRC-2012's archives (vgg-repro prepare --path ...)"
    for split in splits:
        copy = best_copy(root, split)
        if copy is None:
            other = foreign(root)
            hint = f"; it has {other}, which this program does not read" if other else ""
            return f"{root} has neither {ARCHIVES[split]} nor a folder {split}{hint}: see docs/ilsvrc-2012.md"
        if lacking := missing_pieces(copy.files):
            return f"{root} lacks {len(lacking)} of its files, the first {lacking[0]}: download it again"
        if copy.kind == "parquet":
            images_in(root / copy.files[0])  # raises Failure without pyarrow
    if not _has_truth(root, splits):
        return f"{root} has no {devkit.ARCHIVE}, which has the ground truth of the validation images"
    return ""


def _has_truth(root: Path, splits: Sequence[Split]) -> bool:
    """Return whether something may say the classes of the validation images."""
    copy = best_copy(root, "val")
    folders = folders_of(root, splits)
    if copy is None or copy.kind in (*STREAMED, "zip"):
        return True  # known when it is read
    lists = [path for path in lists_in(folders) if path.name.startswith((SOLUTION, ANNOTATIONS))]
    if lists or any(devkit.place(folder) for folder in folders):
        return True
    return copy.kind == "tree" and _says_classes(root / copy.files[0])


def _says_classes(tree: Path) -> bool:
    """Return whether a tree's folders, or the first name of a file in it, say a class or its number."""
    for place, folders, files in os.walk(tree):
        folders.sort()
        if any(CLASS.search(name) or name.isdigit() for name in [*folders, *sorted(files)[:1]]):
            return True
        if files:
            return bool(CLASS.search(place))
    return False


def chosen(root: Path, splits: Sequence[Split]) -> dict[Split, Copy]:
    """Return the copy of each split that is read."""
    return {split: copy for split in splits if (copy := best_copy(root, split))}


def folders_of(root: Path, splits: Sequence[Split]) -> list[Path]:
    """Return the folders in which the kit, lists and annotations may be."""
    return places(root, [root / copy.base for copy in chosen(root, splits).values() if copy.base or _is_kaggles(root)])


def _is_kaggles(root: Path) -> bool:
    return root.name == "CLS-LOC"


def truth_in(root: Path, splits: Sequence[Split]) -> Truth:
    """Return what is known about the classes. Raise Failure if a list is broken."""
    zips = {copy.files[0] for copy in chosen(root, splits).values() if copy.kind == "zip"}
    inside = {member.name: zip_content(root / file, member) for file in zips for member in zip_members(root / file)
              if PurePosixPath(member.name).name in (*SYNSETS, SOLUTION, ANNOTATIONS)}  # fmt: skip
    return read_truth(folders_of(root, splits), inside)


def fingerprint(root: Path, splits: Sequence[Split] = SPLITS) -> dict[str, Any]:
    """Return values that identify the data set, the same for a copy of the archives. Raise Failure if it is missing.

    An archive is identified by its length and its ends, and a tree by its folders' names and times. A file whose
    content alone is replaced is not noticed, because examining 1.3 million files each time would take minutes.
    """
    if text := missing(root, splits):
        raise Failure(text)
    copies, folders = chosen(root, splits), folders_of(root, splits)
    files = [root / file for copy in copies.values() if copy.kind != "tree" for file in copy.files]
    names = (devkit.ARCHIVE, *(BOXES[split] for split in splits))
    files += [folder / name for folder in folders for name in names if (folder / name).exists()] + lists_in(folders)
    trees = [root / file for copy in copies.values() if copy.kind == "tree" for file in copy.files]
    trees += [folder / devkit.NAME / "data" for folder in folders if not (folder / devkit.ARCHIVE).exists()]
    trees += [folder for split in splits if (folder := annotation_folder(root, split))]
    dated = [folder for tree in trees if tree.is_dir() for folder in (tree, *_class_folders(tree))]
    return {"archives": [(_relative(path, root), *_edges(path)) for path in dict.fromkeys(files)],
            "folders": [(_relative(path, root), path.stat().st_mtime_ns) for path in dated]}  # fmt: skip


def _relative(path: Path, root: Path) -> str:
    """Return a path below the root, or relative to it."""
    return os.path.relpath(path, root)


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
    """Return the folders in a tree."""
    return [tree / item.name for item in sorted_in(tree) if os.path.isdir(item) and not is_hidden(item.name)]


def annotation_folder(root: Path, split: Split) -> Path | None:
    """Return the folder with Kaggle's annotations of a split, or None."""
    for folder in folders_of(root, SPLITS):
        for name in ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC"):
            if (folder / name / split).is_dir():
                return folder / name / split
    return None
