"""ILSVRC-2012's development kit: its classes, their numbers of training images, and validation's ground truth.

The kit numbers its classes by its own ILSVRC2012_ID. Nets, including torchvision's and Caffe's, number them in the
order of their WordNet ids. So does this project: the kit's numbers are used only here and in files for its server.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.sources.base import WNID
from pipeline.datasets.sources.ilsvrc.tar import sequential_members
from pipeline.errors import Failure
from pipeline.system.memory import ran_out
from pipeline.system.worker_pool import run_apart

NAME = "ILSVRC2012_devkit_t12"
ARCHIVE = f"{NAME}.tar.gz"
META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_train_images", "num_children")


class Synset(NamedTuple):
    """A class in the kit's table."""

    id: int  # the kit's number
    wnid: str
    words: str  # the names
    images: int  # number of training images


class Devkit(NamedTuple):
    """The kit's contents, with classes in the order of their WordNet ids."""

    wnids: list[str]
    names: list[str]  # for people; a name shared by two classes has the WordNet id added
    train_images: list[int]  # published number of each class
    truth: list[int]  # the class, counted from 0, of validation image 1, 2, ...
    ids: list[int]  # the kit's number of each class, for files that its server reads

    def wnid_of(self, number: int) -> str:
        """Return the class of a validation image by its number, counted from 1, or an empty string if it has none."""
        return self.wnids[self.truth[number - 1]] if 1 <= number <= len(self.truth) else ""


def read_devkit(root: Path) -> Devkit | None:
    """Return the kit in `root`, from its archive or folder, or None. Raise Failure if it is not as published."""
    where = place(root)
    if where is None:
        return None
    files = _files(where)
    for name in (META, TRUTH):
        if name not in files:
            raise Failure(f"{where} has no {name}; download {ARCHIVE} again")
    name = META
    try:
        synsets = _synsets(files[META])
        name = TRUTH
        return _devkit(synsets, files[TRUTH])
    except Exception as error:  # a broken table raises any exception
        if ran_out(error):
            raise
        raise Failure(f"{where}: {name} is not as published ({error!r:.200}); download {ARCHIVE} again") from None


def place(root: Path) -> Path | None:
    """Return the path of the kit in `root`: its archive, or else its folder, or None."""
    if (root / ARCHIVE).exists():
        return root / ARCHIVE
    return root / NAME if (root / NAME).is_dir() else None


def _files(where: Path) -> dict[str, bytes]:
    """Return the contents of the two files that are used, as far as they exist."""
    if where.name == ARCHIVE:
        inside = ((name.partition("/")[2], content) for name, content in sequential_members(where))
        return {name: content for name, content in inside if name in (META, TRUTH)}
    return {name: (where / name).read_bytes() for name in (META, TRUTH) if (where / name).is_file()}


def _devkit(synsets: list[Synset], truth: bytes) -> Devkit:
    """Return the kit from its classes, in order, and the text of its ground truth."""
    number = {synset.id: label for label, synset in enumerate(synsets)}
    wnids = [synset.wnid for synset in synsets]
    return Devkit(
        wnids,
        display_names(wnids, [synset.words for synset in synsets]),
        [synset.images for synset in synsets],
        [number[int(line)] for line in truth.decode("ascii").split()],
        [synset.id for synset in synsets],
    )


def display_names(wnids: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the classes' names for people: the first word of each, with the WordNet id if two classes share it."""
    first = [text.split(", ")[0] for text in words]
    counts = Counter(first)
    return [f"{name} ({wnid})" if counts[name] > 1 else name for name, wnid in zip(first, wnids, strict=True)]


def _synsets(meta: bytes) -> list[Synset]:
    """Return the kit's classes, sorted by WordNet id. Raise ValueError if there is none, or one is there twice."""
    synsets = run_apart(_table, meta, f"reading {META}")  # a broken file may crash the process
    if not synsets or any(len({synset[i] for synset in synsets}) < len(synsets) for i in (0, 1)):
        raise ValueError("it has no classes, or a class occurs twice")
    if odd := [synset.wnid for synset in synsets if not WNID.fullmatch(synset.wnid)]:
        raise ValueError(f"{odd[0]} is no WordNet id")
    return sorted(synsets, key=lambda synset: synset.wnid)


def _table(meta: bytes, crashed: bool) -> list[Synset]:
    """Return the synsets without children. Those above them in WordNet are no classes. `crashed` is not used."""
    from scipy.io import loadmat

    structs = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"].reshape(-1)
    columns = [[getattr(row[field], "item", lambda value=row[field]: value)() for row in structs] for field in FIELDS]
    rows = zip(*columns, strict=True)
    return [Synset(int(id), str(wnid), str(words), int(images)) for id, wnid, words, images, below in rows if not below]
