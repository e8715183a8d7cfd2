"""Whether all of a data set is in its folder, and what identifies it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.sources.base import SPLITS, Split, prepare_command
from pipeline.datasets.sources.folder import is_folder, is_hidden, printable, sorted_in
from pipeline.datasets.sources.ilsvrc import devkit
from pipeline.datasets.sources.ilsvrc.boxes import ARCHIVES as BOXES
from pipeline.datasets.sources.ilsvrc.copies import Copy, foreign, missing_pieces
from pipeline.datasets.sources.ilsvrc.layout import STREAMED, Layout
from pipeline.datasets.sources.ilsvrc.names import CLASS
from pipeline.datasets.sources.ilsvrc.reference import ARCHIVES
from pipeline.datasets.sources.ilsvrc.samples import other_class
from pipeline.datasets.sources.ilsvrc.solutions import SOLUTIONS
from pipeline.datasets.sources.ilsvrc.truth import ANNOTATIONS, NO_TRUTH, lists_in
from pipeline.errors import Failure

EDGE = 2**16  # bytes at each end of an archive that its fingerprint covers


def missing(root: Path, splits: Sequence[Split] = SPLITS) -> str:
    """Return which required file is missing, or an empty string."""
    try:
        present(root, splits)
    except Failure as reason:
        return str(reason)
    return ""


def present(root: Path, splits: Sequence[Split] = SPLITS) -> Layout:
    """Return what is in the data set's folder. Raise Failure if a required file is missing."""
    if root.is_file():
        raise Failure(f"{root} is a file: give the folder that contains it")
    if not root.is_dir():
        raise Failure(
            f"there is no folder {root}: give the one with ILSVRC-2012's archives "
            f"({prepare_command('ilsvrc2012', Path('FOLDER'))})"
        )
    layout = Layout.of(root, splits)
    for split in splits:
        _check_copy(root, split, layout.copies.get(split))
    if not _has_truth(layout):
        raise Failure(_without_truth(layout))
    return layout


def _check_copy(root: Path, split: Split, copy: Copy | None) -> None:
    """Raise Failure if a split has no copy, or if one of its files is missing."""
    if copy is None:
        other = foreign(root)
        hint = f"; it has {other}, which this program does not read" if other else ""
        raise Failure(f"{root} has neither {ARCHIVES[split]} nor a folder {split}{hint}: see docs/ilsvrc-2012.md")
    if lacking := missing_pieces(copy.files):
        raise Failure(f"{root} lacks {len(lacking)} of its files, the first {lacking[0]}: download it again")
    if copy.kind == "parquet" and (other := other_class(root / copy.files[0])):
        raise Failure(
            f"{root / copy.files[0]} has a class {printable(other)}, which is no class of ILSVRC-2012: export the "
            "images into train/CLASS/ and val/CLASS/ of a folder, then "
            f"{prepare_command('imagefolder', Path('FOLDER'))}"
        )


def _has_truth(layout: Layout) -> bool:
    """Return whether something may say the classes of the validation images."""
    copy = layout.copies.get("val")
    if copy is None or copy.kind in (*STREAMED, "zip"):
        return True  # known when it is read
    lists = [path for path in lists_in(layout.folders) if path.name.startswith((SOLUTIONS["val"], ANNOTATIONS))]
    if lists or any(devkit.place(folder) for folder in layout.folders):
        return True
    return copy.kind == "tree" and _says_classes(layout.root / copy.files[0])


def _without_truth(layout: Layout) -> str:
    """Return a message on validation images whose classes nothing says, neither a list nor their folders."""
    root, tree = layout.root, layout.root / layout.copies["val"].files[0]
    classes = [item.name for item in sorted_in(tree) if is_folder(item)] if tree.is_dir() else []
    if not classes:
        return f"nothing in {root} says the classes of its validation images: {NO_TRUTH}"
    return (
        f"the class folders in {tree}, such as {printable(classes[0])}, have no WordNet ids, so nothing says which "
        f"classes of ILSVRC-2012 they are. To read them as classes of their own: "
        f"{prepare_command('imagefolder', tree.parent)}"
    )


def _says_classes(tree: Path) -> bool:
    """Return whether a tree's folders, or the first name of a file in it, say a class or its number."""
    for place, folders, files in os.walk(tree):
        folders.sort()
        if any(CLASS.search(name) or name.isdigit() for name in [*folders, *sorted(files)[:1]]):
            return True
        if files:
            return bool(CLASS.search(place))
    return False


def fingerprint(root: Path, splits: Sequence[Split] = SPLITS) -> dict[str, Any]:
    """Return values that identify the data set, the same for a copy of the archives. Raise Failure if it is missing.

    An archive is identified by its length and its ends, and a tree by its folders' names and times. A file whose
    content alone is replaced is not noticed, because examining 1.3 million files each time would take minutes.
    """
    layout = present(root, splits)
    copies, folders = layout.copies, layout.folders
    files = [root / file for copy in copies.values() if copy.kind != "tree" for file in copy.files]
    names = (devkit.ARCHIVE, *(BOXES[split] for split in splits))
    files += [folder / name for folder in folders for name in names if (folder / name).exists()] + lists_in(folders)
    trees = [root / file for copy in copies.values() if copy.kind == "tree" for file in copy.files]
    trees += [folder / devkit.NAME / "data" for folder in folders if not (folder / devkit.ARCHIVE).exists()]
    trees += [folder for split in splits if (folder := layout.annotation_folder(split))]
    return identity_of(root, files, trees)


def identity_of(root: Path, files: Sequence[Path], trees: Sequence[Path]) -> dict[str, Any]:
    """Return the paths relative to `root` of files, with their edges, and of the folders of trees, with their times.

    Trees that do not exist are skipped. Raise Failure if a file cannot be read.
    """
    dated = [folder for tree in trees if tree.is_dir() for folder in (tree, *_class_folders(tree))]
    return {
        "archives": [(os.path.relpath(path, root), *_edges_of(path)) for path in dict.fromkeys(files)],
        "folders": [(os.path.relpath(path, root), path.stat().st_mtime_ns) for path in dated],
    }


def _edges_of(archive: Path) -> tuple[int, str]:
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
    return [tree / item.name for item in sorted_in(tree) if is_folder(item) and not is_hidden(item.name)]
