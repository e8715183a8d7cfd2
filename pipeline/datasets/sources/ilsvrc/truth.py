"""What says which classes there are, and which class a validation image has: the kit, Kaggle's lists, or names."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from pipeline.datasets.sources.base import WNID
from pipeline.datasets.sources.ilsvrc.devkit import ARCHIVE as KIT
from pipeline.datasets.sources.ilsvrc.devkit import Devkit, display_names, read_devkit
from pipeline.datasets.sources.ilsvrc.names import VALIDATION
from pipeline.datasets.sources.ilsvrc.solutions import SOLUTIONS, read_solution
from pipeline.errors import Failure

ANNOTATIONS = "val_annotations.txt"  # tiny-imagenet-200's
SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt")
LISTS = (*SYNSETS, *SOLUTIONS.values(), ANNOTATIONS)
BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError)
PACKED = ("", ".zip", ".gz")  # Kaggle packs single files


@dataclass(frozen=True)
class Truth:
    """What is known about the classes before any image is read."""

    kit: Devkit | None = None
    words: Mapping[str, str] = field(default_factory=dict)  # Kaggle's list: names by WordNet id
    solution: Mapping[str, str] = field(default_factory=dict)  # WordNet ids by validation image

    @property
    def wnids(self) -> list[str]:
        """Return the classes in order, empty if nothing lists them."""
        return self.kit.wnids if self.kit else sorted(self.words)

    @property
    def has_validation(self) -> bool:
        """Return whether it says the classes of validation images."""
        return bool(self.kit or self.solution)

    def names(self, wnids: Sequence[str]) -> list[str]:
        """Return the classes' names for people, as far as they are known."""
        if self.kit:
            return self.kit.names
        words = {**published_names(), **self.words}
        return display_names(wnids, [words.get(wnid, wnid) for wnid in wnids])

    def wnid_of(self, id: str) -> str:
        """Return the class of a validation image, or an empty string if it is not listed."""
        number = VALIDATION.fullmatch(id)
        if number and self.kit:
            return self.kit.wnid_of(int(number[1]))
        return self.solution.get(id.rpartition("/")[2], "")


def places(root: Path, bases: Sequence[Path]) -> list[Path]:
    """Return the folders in which lists and annotations may be: the root, and what is above Kaggle's images."""
    above = [parent for base in bases if base.name == "CLS-LOC" for parent in list(base.parents)[:3]]
    return list(dict.fromkeys([root, *bases, *(base / "val" for base in [root, *bases]), *above]))


def read_truth(folders: Sequence[Path], inside: Mapping[str, bytes]) -> Truth:
    """Return the truth from the first folder that has a kit and from Kaggle's lists, which may be `inside` a zip.

    Raise Failure if one of them is not as published.
    """
    kit = next((kit for folder in folders if (kit := read_devkit(folder))), None)
    words = first_list(SYNSETS, folders, inside)
    if found := first_list((SOLUTIONS["val"],), folders, inside):
        listed = {row.id: row.wnid for row in read_solution(*found, "val")}
    else:
        listed = dict(_annotated(*found)) if (found := first_list((ANNOTATIONS,), folders, inside)) else {}
    return Truth(kit, dict(_words(*words)) if words else {}, listed)


def lists_in(folders: Sequence[Path]) -> list[Path]:
    """Return the files of Kaggle's that are there."""
    names = [name + ending for name in LISTS for ending in PACKED]
    return [folder / name for folder in folders for name in names if (folder / name).is_file()]


@cache
def published_names() -> Mapping[str, str]:
    """Return the names of the 1000 published classes by WordNet id, in order."""
    text = files(__package__).joinpath("classes.txt").read_text()
    return {line[:9]: line[10:] for line in text.splitlines()}


def first_list(names: Sequence[str], folders: Sequence[Path], inside: Mapping[str, bytes]) -> tuple[str, str] | None:
    """Return the title and the text of the first of these lists, in a folder or `inside` an archive, or None.

    Raise Failure if it cannot be read.
    """
    for path in lists_in(folders):
        if path.name.removesuffix(".zip").removesuffix(".gz") in names:
            return str(path), text_of(str(path), _unpacked(path))
    for name, content in inside.items():
        if name.rpartition("/")[2] in names:
            return name, text_of(name, content)
    return None


def _unpacked(path: Path) -> bytes:
    """Return the content of a file, or of the one file in it. Raise Failure if it cannot be read."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                return file.read(next(name for name in file.namelist() if name.endswith((".csv", ".txt"))))
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (*BROKEN, StopIteration) as error:
        raise Failure(f"{path} cannot be read ({error}); download it again") from None


def text_of(title: str, content: bytes) -> str:
    """Return a list's text. Raise Failure if it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(f"{title} is not text ({error.reason}); download it again") from None


def _words(title: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield each class and its names. Raise Failure if a line names no class, or if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        found = re.match(r"(n\d{8})\b[\s:,]*(.*)", line, re.ASCII)
        if not found:
            raise Failure(f"{title} is not a list of classes: {line[:40]!r}; download it again")
        yield found[1], found[2] or found[1]
    if not lines:
        raise Failure(f"{title} is empty; download it again")


def _annotated(title: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield each validation image, without its ending, and its class, from tiny-imagenet-200's list."""
    for line in text.splitlines():
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if not WNID.fullmatch(wnid):
            raise Failure(f"{title} is not as published: {line[:60]!r}; download it again")
        yield name.rpartition(".")[0], wnid


NO_TRUTH = f"add {KIT} or Kaggle's {SOLUTIONS['val']}, which have the ground truth of the validation images"
