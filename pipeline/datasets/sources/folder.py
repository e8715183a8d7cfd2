"""The source `imagefolder`: train/CLASS/* and val/CLASS/*, in folders that may hold other things too.

A file's name and ending are not relied on: its content is examined when it is read. Whatever is not a readable file, or
leads out of the folder, is skipped with its reason. Without val/, a part of train/ becomes validation, selected by each
image's content, so that an image stays in its split when others are added.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets.sources.base import (
    SPLITS,
    WNID,
    Encoded,
    Entry,
    Listing,
    Skipped,
    Source,
    Split,
    Unreadable,
    prepare_command,
    root_of,
)
from pipeline.datasets.sources.folder_names import check_distinct, matched_labels, split_folder
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Profile
from pipeline.system.atomic_files import digest

HIDDEN_ONE = "hidden"
FOLDER = "a folder, not an image"
NOT_AN_IMAGE = "not an image, and not named like one"
OUTSIDE = "a link to a place outside the data set's folder"
BESIDE = "a file outside the class folders"
BROKEN_LINK = "a broken link"
EMPTY_FOLDER = "an empty folder"
IRREGULAR = "not a regular file"
OTHER_CLASS = "its class is not in train/"
ORIGINAL = "the file of the camera; the image of the same name next to it is used"
# Files of operating systems and network disks; names with a leading dot are hidden too
HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
HIDDEN_TOO = {"ehthumbs.db", "icon\r", "#recycle", "#snapshot", "@recycle", "@tmp", "network trash folder"}
LEFT_BEHIND = HIDDEN_TOO | {name.casefold() for name in HIDDEN}  # in any case
LEFT_ENDINGS = ("@synoresource", "@synoeastream")
NESTED = 10  # at most this many images in folders inside the classes' folders are skipped

KINDS = MimeTypes()  # Python's own table of file name endings, which is the same on all machines
# endings that are not in this table: settings, and what programs for photographs write beside an image
OTHER_ENDINGS = (".cfg", ".db", ".ini", ".lnk", ".log", ".yaml", ".yml", ".xmp", ".aae", ".pp3", ".dop", ".cos", ".on1",
                 ".md5", ".sha1", ".sha256", ".pkl", ".parquet", ".jsonl", ".toml", ".dvc")  # fmt: skip
# what cameras and phones write; each must be developed or converted
CAMERA_ENDINGS = (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".heic", ".heif", ".hif",
                  ".iiq", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw", ".x3f")  # fmt: skip


class File(NamedTuple):
    """An item in a class's folder: its path, its class, and the reason if it is not a candidate."""

    path: str  # relative to the root
    label: str
    reason: str  # why it is not a candidate; empty if it is one
    size: int = 0  # bytes


@dataclass(frozen=True)
class ImageFolder(Source):
    """Images below `root`, at most `limit` per split. Without val/, a share `val_share` of them is for validation."""

    root: Path
    val_share: float
    limit: int | None
    splits: tuple[Split, ...] = SPLITS  # the splits that are read; without train, the classes are val's folders
    follow_links: bool = False  # links that lead out of the folder

    name = "imagefolder"
    about = "a folder of the user's own images"
    comparable = False
    place = "given"
    downloads = False
    known = None

    @classmethod
    def of(cls, profile: Profile) -> ImageFolder:
        """Return the folder that the profile names. Raise UsageError if it names none."""
        data = profile.data
        if not data.path:
            command = prepare_command(cls.name, Path("FOLDER"))
            raise UsageError(f"data.path is missing: source imagefolder needs a folder ({command})")
        return cls(root_of(data), data.val_share, data.limit, profile.splits, data.follow_links)

    def missing(self) -> str:
        """Return which folder is missing, or an empty string."""
        first = self.splits[0]
        if (self.root / split_folder(self.root, first)).is_dir():
            return ""
        if not os.path.lexists(self.root):
            return f"there is no folder {self.root}"
        if not self.root.is_dir():
            return f"{self.root} is a file: give the folder that contains it"
        return (
            f"{self.root} has no folder {first}: images must be in train/CLASS/ and val/CLASS/"
            f"{_elsewhere(self.root, first)}"
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return its parameters and a hash of all files' names, sizes and times."""
        parameters = {"source": self.name, "limit": self.limit, "val_share": self.val_share}
        parameters |= {"follow_links": True} if self.follow_links else {}
        return parameters | fingerprint(self.root, self.splits, self.follow_links)

    def listing(self) -> Listing:
        """Return every file in the classes' folders. Classes are the folders of train/ that have images, by name.

        Raise Failure if there is no train/, or if there are fewer than two classes.
        """
        first = self.splits[0]
        train = list(_files(self.root, first, self.follow_links))
        names = self._classes(train, first)
        _check_nested(self.root, train)
        if first == "val":
            train, val = [], train
        elif os.path.lexists(place := self.root / split_folder(self.root, "val")):
            val = _in_classes_of_train(list(_files(self.root, "val", self.follow_links)), names, place)
            if val and all(file.reason for file in val) and (hint := imagenets(self.root, names[0])):
                raise Failure(f"{place} has no images in val/CLASS/{hint}")
            _check_nested(self.root, val)
        else:
            train, val = self._split_off(train)
            if lost := set(names) - {file.label for file in train}:
                raise Failure(
                    f"every image of class {printable(min(lost))} was assigned to the validation split: it has too few "
                    f"images, or data.val_share, {self.val_share:g}, is too large"
                )
        entries: dict[Split, list[Entry]] = {
            "train": self._entries(train, names), "val": self._entries(val, names)
        }  # fmt: skip
        skipped = [_skipped("train", file) for file in train if file.reason]
        skipped += [_skipped("val", file) for file in val if file.reason]
        size = sum(file.size for file in (*train, *val) if not file.reason)
        return Listing([printable(name) for name in names], entries, skipped, size)

    def read(self, entry: Entry) -> Encoded:
        """Return the file's bytes. Raise Unreadable if they cannot be read."""
        return Encoded(file_bytes(self.root / entry.where))

    def _classes(self, files: list[File], split: Split) -> list[str]:
        """Return the names of a split's folders with candidates.

        Raise Failure if a folder has only other things, or if fewer than two have candidates.
        """
        place = self.root / split_folder(self.root, split)
        names = sorted({file.label for file in files if file.label and not file.reason})
        check_distinct(names, place)
        for label in sorted({file.label for file in files} - {"", *names}):
            inside = [file for file in files if file.label == label and file.reason != HIDDEN_ONE]
            if inside:
                where = place / printable(label)
                what = f"but {len(inside)} other items ({inside[0].reason}): images must be in {split}/CLASS/"
                hint = following(self.name, self.root) if inside[0].reason == OUTSIDE else imagenets(self.root, label)
                raise Failure(f"{where} has no images directly in it, {what}{hint}")
        if len(names) < 2:
            classes = f"only the class {printable(names[0])}" if names else "no class"
            hint = following(self.name, self.root) if any(file.reason == OUTSIDE for file in files) else ""
            what = f"images must be in {split}/CLASS/, at least two classes{hint}"
            raise Failure(f"{place} has {classes}: {what}")
        return names

    def _entries(self, files: list[File], names: list[str]) -> list[Entry]:
        """Return the candidates, at most `limit`: one of each class in turn, ordered by a hash of their names."""
        labels = {name: number for number, name in enumerate(names)}
        entries = [Entry(printable(f.path), labels[f.label], f.path) for f in files if not f.reason]
        if self.limit is None or len(entries) <= self.limit:
            return entries
        check_limit(self.limit, len(names))
        drawn = sorted(entries, key=lambda entry: hashlib.sha256(os.fsencode(entry.where)).digest())
        turns = Counter[int]()
        ranked = []
        for entry in drawn:
            turns[entry.label] += 1
            ranked.append((turns[entry.label], entry))
        ranked.sort(key=lambda pair: pair[0])  # stable: each class's first in the hashes' order, then the second
        return sorted(entry for _, entry in ranked[: self.limit])

    def _split_off(self, files: list[File]) -> tuple[list[File], list[File]]:
        """Return the files of train/ in two parts, for training and for validation."""
        print(f"{self.root} has no val/: {self.val_share:g} of its {len(files)} files go to validation, by a hash")
        with ThreadPoolExecutor() as pool:
            for_val = list(pool.map(self._is_for_val, files))
        parts = [
            [file for file, is_val in zip(files, for_val, strict=True) if is_val == want] for want in (False, True)
        ]
        return parts[0], parts[1]

    def _is_for_val(self, file: File) -> bool:
        """Return whether a file's content puts it in validation. Unreadable files stay in train/, which names them."""
        if file.reason:
            return False
        try:
            drawn = hashlib.sha256(file_bytes(self.root / file.path)).digest()
        except Unreadable:
            return False
        return int.from_bytes(drawn[:8]) < self.val_share * 2**64


def _skipped(split: Split, file: File) -> Skipped:
    """Return a file that is no candidate. It counts as lost if it is named like an image, and was meant to be one."""
    suspect = file.reason in (BROKEN_LINK, OUTSIDE, BESIDE) or file.reason.startswith(OTHER_CLASS)
    return Skipped(split, printable(file.path), file.reason, suspect and not is_named_otherwise(file.path))


def following(source: str, root: Path) -> str:
    """Return what to type so that links that lead out of the folder are followed."""
    return f". To read what links outside the folder lead to: {prepare_command(source, root, '--follow-links')}"


def imagenets(root: Path, name: str) -> str:
    """Return what to type for ImageNet in another layout if `name` has a WordNet id, or an empty string."""
    if not WNID.search(name):
        return ""
    return f". Parts of ImageNet in this layout are read by: {prepare_command('ilsvrc2012', root)}"


def _elsewhere(root: Path, split: Split) -> str:
    """Return where a split's images are if not in its folder, and what to type to read them, or an empty string."""
    from pipeline.datasets.sources.ilsvrc.copies import copies  # it needs this module

    try:
        found = copies(root, split)
        tree = root / found[0].files[0] if found and found[0].kind == "tree" else None
        names = [item.name for item in sorted_in(tree) if is_folder(item)] if tree else []
    except Failure:  # a folder below may not be listed
        return ""
    if tree:
        hint = next((hint for name in names if (hint := imagenets(root, name))), "")
        return hint or f". To read {tree.parent}: {prepare_command(ImageFolder.name, tree.parent)}"
    if found:
        return (
            f". If {found[0].files[0]} has images of ImageNet: {prepare_command('ilsvrc2012', root)}. "
            "Other archives must be unpacked first"
        )
    return ""


def file_bytes(path: Path) -> bytes:
    """Return a file's content. Raise Unreadable if it cannot be read, and Failure if the disk fails."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Unreadable((error.strerror or str(error)).lower()) from None
    except OSError as error:  # the disk fails or is unavailable, so the image must not be skipped for good
        raise Failure(f"{path} could not be read: {error.strerror or error}") from None


def check_limit(limit: int, classes: int) -> None:
    """Raise Failure if `limit` is less than one image per class."""
    if limit < classes:
        raise Failure(f"data.limit is {limit}, fewer than one image for each of the {classes} classes")


def fingerprint(root: Path, splits: Sequence[Split] = SPLITS, follow_links: bool = False) -> dict[str, Any]:
    """Return the numbers of files and bytes, and a hash of all names, sizes, times and modes.

    Raise Failure if the folder is missing.
    """
    rows = [row for split in splits for row in _rows(root, split, follow_links)]
    return {"files": len(rows), "bytes": sum(row[1] for row in rows), "listing": digest(rows)}


def printable(name: str) -> str:
    """Return a file's name with characters that are not printable escaped, so that it can be shown everywhere."""
    text = os.fsencode(name.replace("\\", "\\\\")).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _rows(root: Path, split: Split, follow_links: bool) -> Iterator[tuple[str, int, int, int]]:
    """Yield the name, size, time and mode of everything in a split's folder."""
    place = split_folder(root, split)
    for label, folder in _folders(root, split, follow_links):
        if isinstance(folder, str):
            yield printable(f"{place}/{label}"), 0, 0, 0
            continue
        for item in sorted_in(folder):
            try:
                status = item.stat(follow_symlinks=not is_broken(item))
            except OSError as error:
                raise Failure(f"{folder} cannot be listed: {error.strerror}") from None
            yield printable(f"{place}/{label}/{item.name}"), status.st_size, status.st_mtime_ns, status.st_mode


def _files(root: Path, split: Split, follow_links: bool) -> Iterator[File]:
    """Yield everything in a split's class folders, in the order of names."""
    real, place = limit_of(root, follow_links), split_folder(root, split)
    for label, folder in _folders(root, split, follow_links):
        inside = [] if isinstance(folder, str) else sorted_in(folder)
        if not inside:
            yield File(f"{place}/{label}", "", folder if isinstance(folder, str) else EMPTY_FOLDER)
        yield from files_in(f"{place}/{label}/", label, inside, real)


def files_in(place: str, label: str, inside: Sequence[os.DirEntry[str]], root: Path) -> Iterator[File]:
    """Yield the items of one folder, whose path ends in a slash, each with the reason if it is not a candidate."""
    converted = {stem for item in inside if (stem := _stem_of_image(item.name))}
    for item in inside:
        reason = why_not(item, root) or (ORIGINAL if _stem_of_original(item.name) in converted else "")
        yield File(f"{place}{item.name}", label, reason, 0 if reason else size_of(item))


def _folders(root: Path, split: Split, follow_links: bool) -> Iterator[tuple[str, Path | str]]:
    """Yield each item's name in a split's folder, and its path if it is a class's folder, or why it is none.

    Raise Failure if a folder is missing, may not be entered, or leads out of `root` and is not to be followed.
    """
    if not os.path.isdir(root):
        raise Failure(f"data.path is {root}, but there is no such folder")
    place, real = root / split_folder(root, split), limit_of(root, follow_links)
    if not os.path.isdir(place):
        if root.is_dir() and not os.access(root, os.X_OK):
            raise Failure(f"{root} cannot be entered: no permission")
        if split == "val" and not os.path.lexists(place) and (root / split_folder(root, "train")).is_dir():
            return
        raise Failure(f"{root} has no folder {split}: images must be in train/CLASS/ and val/CLASS/")
    if not place.resolve().is_relative_to(real):
        raise Failure(
            f"{place} is a link to a folder outside {root}: set data.path to the folder that it points to"
            f"{following(ImageFolder.name, root)}"
        )
    for item in sorted_in(place):
        if is_hidden(item.name):
            yield item.name, HIDDEN_ONE
        elif is_broken(item):
            yield item.name, BROKEN_LINK
        elif not is_folder(item):
            yield item.name, BESIDE
        elif not leads_inside(item, real):
            yield item.name, OUTSIDE
        else:
            yield item.name, place / item.name


def sorted_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return everything in a folder, sorted by name. Raise Failure if it may not be read."""
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        raise Failure(f"{folder} cannot be listed: {error.strerror}") from None


def why_not(file: os.DirEntry[str], root: Path) -> str:
    """Return why an item in a class's folder is no candidate for an image, or an empty string if it is one."""
    if is_hidden(file.name):
        return HIDDEN_ONE
    try:
        mode = file.stat().st_mode
    except OSError:
        return BROKEN_LINK if file.is_symlink() else ""  # reading it gives the reason
    if not leads_inside(file, root):
        return OUTSIDE
    if stat.S_ISDIR(mode):
        return FOLDER if file.is_symlink() else f"{FOLDER}; images in it: {_images_below(Path(file.path))}"
    return "" if stat.S_ISREG(mode) else IRREGULAR


def _stem_of_image(name: str) -> str:
    """Return the name without its ending, in one case, if that is an image's which is read; else an empty string."""
    stem, ending = os.path.splitext(name.casefold())
    kind = KINDS.guess_type(name)[0] or ""
    return stem if kind.startswith("image/") and ending not in CAMERA_ENDINGS and not is_hidden(name) else ""


def _stem_of_original(name: str) -> str | None:
    """Return the same if the ending is that of a camera's own file; else None."""
    stem, ending = os.path.splitext(name.casefold())
    return stem if ending in CAMERA_ENDINGS else None


def size_of(file: os.DirEntry[str]) -> int:
    """Return a file's size in bytes, or 0 if it cannot be examined."""
    try:
        return file.stat().st_size
    except OSError:  # reading it gives the reason
        return 0


def limit_of(root: Path, follow_links: bool) -> Path:
    """Return the folder that links must not lead out of."""
    return Path("/") if follow_links else root.resolve()


def leads_inside(item: os.DirEntry[str], root: Path) -> bool:
    """Return whether an item is no link, or a link to something below `root`, which is not a link itself."""
    return not item.is_symlink() or Path(item.path).resolve().is_relative_to(root)


def is_folder(item: os.DirEntry[str]) -> bool:
    """Return whether an item is a folder, or a link to one. Only a link is examined on disk."""
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def is_broken(item: os.DirEntry[str]) -> bool:
    """Return whether an item is a link that leads nowhere. Only a link is examined on disk."""
    return item.is_symlink() and not os.path.exists(item)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or left behind by an operating system."""
    folded = name.casefold()
    return name.startswith(".") or folded in LEFT_BEHIND or folded.endswith(LEFT_ENDINGS)


def is_named_otherwise(name: str) -> bool:
    """Return whether a file name's ending is not an image's: true for notes.txt, false for photo.heic and photo."""
    kind = KINDS.guess_type(name)[0]
    return not kind.startswith("image/") if kind else name.lower().endswith(OTHER_ENDINGS)


def is_other_file(id: str, reason: str) -> bool:
    """Return whether a skipped item is a file or folder of another kind, so that no image is lost with it."""
    if reason.startswith(FOLDER):
        return not re.search(r": [1-9]", reason)  # images in it
    return reason in (HIDDEN_ONE, NOT_AN_IMAGE, ORIGINAL, EMPTY_FOLDER, IRREGULAR) or (
        reason == BESIDE and is_named_otherwise(id)
    )


def _images_below(folder: Path) -> int:
    """Return the number of files in a folder, at any depth, that are named like images."""
    return sum(
        not is_hidden(name) and not is_named_otherwise(name)
        for _, folders, names in os.walk(folder)
        for name in (folders.sort() or names)
    )


def _check_nested(root: Path, files: list[File]) -> None:
    """Raise Failure if more than NESTED images are in folders inside the classes' folders, which are not read."""
    nested = [file for file in files if file.reason.startswith(FOLDER)]
    images = sum(int(file.reason.rpartition(" ")[2]) for file in nested if file.reason != FOLDER)
    if images > NESTED:
        first = f"{printable(nested[0].path)}{imagenets(root, nested[0].label)}"
        raise Failure(
            f"{root} has {images} images in folders inside the classes' folders, which would not be used: move them up "
            f"into the class's folder, or elsewhere. The first such folder: {first}"
        )


def _in_classes_of_train(files: list[File], names: list[str], place: Path) -> list[File]:
    """Return validation's files with the names of train's classes; those of other classes are marked as skipped."""
    inside = {file.label for file in files if file.label}
    check_distinct(inside, place)
    classes = matched_labels(inside, names, place)
    marked = []
    for file in files:
        label = classes.get(file.label, file.label)
        unknown = file.label and not file.reason and file.label not in classes
        reason = f"{OTHER_CLASS}: {printable(file.label)}" if unknown else file.reason
        marked.append(file._replace(label=label, reason=reason))
    return marked
