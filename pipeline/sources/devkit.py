"""ILSVRC-2012's development kit: its classes, how many training images each has, and validation's ground truth.

The kit numbers its classes by an ILSVRC2012_ID of its own. Nets, torchvision's and Caffe's too, number them in the
order of their WordNet ids; so does everything here, and the kit's numbers go no further than this file.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Failure
from pipeline.sources.tar import compressed_members

NAME = "ILSVRC2012_devkit_t12"
ARCHIVE = f"{NAME}.tar.gz"
META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"


class Devkit(NamedTuple):
    """What the kit says, classes in the order of their WordNet ids."""

    wnids: list[str]
    names: list[str]  # for people; where two classes have the same one, with their WordNet ids
    train_images: list[int]  # published, of each class
    truth: list[int]  # of validation image 1, 2, ...: its class, counted from 0


def read_devkit(root: Path) -> Devkit | None:
    """The kit in `root`, as an archive or unpacked; none if it is not there. Failure if it is not as published."""
    files = _files(root)
    if files is None:
        return None
    where = root / (ARCHIVE if (root / ARCHIVE).exists() else NAME)
    try:
        return _devkit(files[META], files[TRUTH])
    except KeyError as missing:
        raise Failure(f"{where} has no {missing.args[0]}; fetch {ARCHIVE} again") from None
    except Exception as error:  # a broken meta.mat raises anything
        raise Failure(f"{where} is not the kit as published ({error}); fetch {ARCHIVE} again") from None


def _files(root: Path) -> dict[str, bytes] | None:
    """The two files that matter, as far as they are there."""
    if (root / ARCHIVE).exists():
        inside = ((name.partition("/")[2], content) for name, content in compressed_members(root / ARCHIVE))
        return {name: content for name, content in inside if name in (META, TRUTH)}
    if (root / NAME).is_dir():
        return {name: (root / NAME / name).read_bytes() for name in (META, TRUTH) if (root / NAME / name).is_file()}
    return None


def _devkit(meta: bytes, truth: bytes) -> Devkit:
    synsets = sorted(_synsets(meta), key=lambda one: one["wnid"])
    number = {one["id"]: label for label, one in enumerate(synsets)}
    if not synsets or len(number) < len(synsets):
        raise ValueError("an ILSVRC2012_ID comes twice, or none at all")
    first = [one["words"].split(", ")[0] for one in synsets]
    often = Counter(first)
    return Devkit(
        [one["wnid"] for one in synsets],
        [f"{name} ({one['wnid']})" if often[name] > 1 else name for name, one in zip(first, synsets, strict=True)],
        [one["images"] for one in synsets],
        [number[int(line)] for line in truth.decode("ascii").split()],
    )


def _synsets(meta: bytes) -> list[dict[str, Any]]:
    """The synsets without children: those above them in WordNet are no classes."""
    from scipy.io import loadmat

    fields = {"id": "ILSVRC2012_ID", "wnid": "WNID", "words": "words", "children": "num_children",
              "images": "num_train_images"}  # fmt: skip
    plain = {"id": int, "wnid": str, "words": str, "children": int, "images": int}
    structs = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"].reshape(-1)
    found = [{key: plain[key](one[field].item() if hasattr(one[field], "item") else one[field])
              for key, field in fields.items()} for one in structs]  # fmt: skip
    return [one for one in found if one["children"] == 0]
