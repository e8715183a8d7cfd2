"""ILSVRC-2012's development kit: its classes, how many training images each has, and validation's ground truth.

The kit numbers its classes by an ILSVRC2012_ID of its own. Nets, torchvision's and Caffe's too, number them in the
order of their WordNet ids; so does everything here, and the kit's numbers go no further than this file.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.sources.ilsvrc.tar import compressed_members
from pipeline.errors import Failure
from pipeline.system.memory import ran_out
from pipeline.system.worker_pool import run_tasks

NAME = "ILSVRC2012_devkit_t12"
ARCHIVE = f"{NAME}.tar.gz"
META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_train_images", "num_children")


class Synset(NamedTuple):
    """A class."""

    id: int  # the kit's
    wnid: str
    words: str  # its names
    images: int  # for training


class Devkit(NamedTuple):
    """What the kit says, classes in the order of their WordNet ids."""

    wnids: list[str]
    names: list[str]  # for people; where two classes have the same one, with their WordNet ids
    train_images: list[int]  # published, of each class
    truth: list[int]  # of validation image 1, 2, ...: its class, counted from 0


def read_devkit(root: Path) -> Devkit | None:
    """The kit in `root`, as an archive or unpacked; none if it is not there. Failure if it is not as published."""
    where = place(root)
    if where is None:
        return None
    files = _files(where)
    for name in (META, TRUTH):
        if name not in files:
            raise Failure(f"{where} has no {name}; fetch {ARCHIVE} again")
    name = META
    try:
        synsets = _synsets(files[META])
        name = TRUTH
        return _devkit(synsets, files[TRUTH])
    except Exception as error:  # a broken table raises anything
        if ran_out(error):
            raise
        raise Failure(f"{where}: {name} is not as published ({error!r:.200}); fetch {ARCHIVE} again") from None


def place(root: Path) -> Path | None:
    """Where in `root` the kit is: its archive, else its folder."""
    if (root / ARCHIVE).exists():
        return root / ARCHIVE
    return root / NAME if (root / NAME).is_dir() else None


def _files(where: Path) -> dict[str, bytes]:
    """The two files that matter, as far as they are there."""
    if where.name == ARCHIVE:
        inside = ((name.partition("/")[2], content) for name, content in compressed_members(where))
        return {name: content for name, content in inside if name in (META, TRUTH)}
    return {name: (where / name).read_bytes() for name in (META, TRUTH) if (where / name).is_file()}


def _devkit(synsets: list[Synset], truth: bytes) -> Devkit:
    number = {one.id: label for label, one in enumerate(synsets)}
    first = [one.words.split(", ")[0] for one in synsets]
    often = Counter(first)
    return Devkit(
        [one.wnid for one in synsets],
        [f"{name} ({one.wnid})" if often[name] > 1 else name for name, one in zip(first, synsets, strict=True)],
        [one.images for one in synsets],
        [number[int(line)] for line in truth.decode("ascii").split()],
    )


def _synsets(meta: bytes) -> list[Synset]:
    """The kit's classes by WordNet id. ValueError if there is none, or one twice."""
    (found,) = run_tasks(_table, [meta], 2, f"reading {META}")  # in a process of its own: a broken one may end it
    if not found or any(len({one[i] for one in found}) < len(found) for i in (0, 1)):
        raise ValueError("it has no classes, or one of them twice")
    return sorted(found, key=lambda one: one.wnid)


def _table(meta: bytes, again: bool) -> list[Synset]:
    """The synsets without children: those above them in WordNet are no classes."""
    from scipy.io import loadmat

    structs = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"].reshape(-1)
    columns = [[getattr(one[field], "item", lambda value=one[field]: value)() for one in structs] for field in FIELDS]
    rows = zip(*columns, strict=True)
    return [Synset(int(id), str(wnid), str(words), int(images)) for id, wnid, words, images, below in rows if not below]
