"""ILSVRC-2012 as it was published: its archives, its counts; and how far a data set departs from that."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.datasets.sources.ilsvrc.devkit import Devkit

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
