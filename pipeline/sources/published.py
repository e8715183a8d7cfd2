"""ILSVRC-2012 as it was published: its archives, their sums, its counts; and how far a data set departs from that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.sources import boxes, devkit
from pipeline.sources.base import SPLITS, Split
from pipeline.sources.devkit import Devkit

ARCHIVES: dict[Split, str] = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
IMAGES: dict[Split, int] = {"train": 1_281_167, "val": 50_000}
CALLED: dict[Split, str] = {"train": "training", "val": "validation"}
CLASSES = 1000
OF_A_CLASS = (732, 1300)  # training images, the fewest and the most
BYTES = 154_600_000_000  # of the two archives of images
SAID = 3  # classes named, of those whose number of images is wrong


def departures(kit: Devkit | None, wnids: Sequence[str], counts: Sequence[int] | None, val: int) -> list[str]:
    """Why a data set is not a plain ILSVRC-2012: nothing if it is, by its classes and counts.

    `counts` has the number of training images of each of the classes `wnids`, or is none where nobody looks at those;
    `val` is the number of validation images.
    """
    found = []
    if len(wnids) != CLASSES:
        found.append(f"{len(wnids)} classes, not {CLASSES}")
    for split, images in zip(SPLITS, (None if counts is None else sum(counts), val), strict=True):
        if images is not None and images != IMAGES[split]:
            found.append(f"{images:,} {CALLED[split]} images, not {IMAGES[split]:,}")
    wrong = [_wrong(wnid, images, kit.train_images[i] if kit else None)
             for i, (wnid, images) in enumerate(zip(wnids, counts or (), strict=counts is not None))]  # fmt: skip
    wrong = [text for text in wrong if text]
    return found + wrong[:SAID] + [f"{len(wrong) - SAID} more classes of wrong size"] * (len(wrong) > SAID)


def _wrong(wnid: str, images: int, published: int | None) -> str:
    """What is wrong with a class's number of images; nothing if it is right."""
    if published is not None and images != published:
        return f"{wnid} has {images} training images, not {published}"
    low, high = OF_A_CLASS
    return "" if low <= images <= high else f"{wnid} has {images} training images, not {low} to {high}"


def check_sums(root: Path) -> Iterator[tuple[str, str]]:
    """Each published archive in `root`, read whole: its name, and what is wrong with its MD5 if anything is."""
    for name, sum_ in _sums().items():
        try:
            with (root / name).open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield name, f"it cannot be read: {error.strerror}"
            continue
        yield name, "" if found == sum_ else f"its MD5 is {found}, and {sum_} was published: fetch it again"


def _sums() -> dict[str, str]:
    """MD5 by archive: torchvision's, and those of the boxes from the page that has all of them."""
    from torchvision.datasets.imagenet import ARCHIVE_META

    known = {str(name): str(md5) for name, md5 in ARCHIVE_META.values()}
    order = {devkit.ARCHIVE: known.pop(devkit.ARCHIVE)}  # small ones first: a wrong one is found at once
    order[boxes.ARCHIVES["val"]] = "f4cd18b5ea29fe6bbea62ec9c20d80f0"
    order[boxes.ARCHIVES["train"]] = "9271167e2176350e65cfe4e546f14b17"
    return {**order, **known}
