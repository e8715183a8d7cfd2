"""ILSVRC-2012 as published: its archives and counts, and how a data set departs from them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.datasets.sources.ilsvrc.devkit import Devkit

ARCHIVES: dict[Split, str] = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
BOXED = 544_546  # training images with boxes, in the archive of boxes
IMAGES: dict[Split, int] = {"train": 1_281_167, "val": 50_000}
CALLED: dict[Split, str] = {"train": "training", "val": "validation"}
CLASSES = 1000
OF_A_CLASS = (732, 1300)  # training images: the smallest and the largest number
ARCHIVE_BYTES: dict[Split, int] = {"train": 147_897_477_120, "val": 6_744_924_160}
BYTES = 154_600_000_000  # of the two archives of images, together
NAMED = 3  # at most this many classes of wrong size are named


def departures(kit: Devkit | None, wnids: Sequence[str], counts: Sequence[int] | None, val: int) -> list[str]:
    """Return why a data set is not a plain ILSVRC-2012 by its classes and counts; empty if it is one.

    `counts` has the number of training images of each of the classes `wnids`, or is None if they are not examined.
    `val` is the number of validation images.
    """
    reasons = []
    if len(wnids) != CLASSES:
        reasons.append(f"{len(wnids)} classes, not {CLASSES}")
    for split, images in zip(SPLITS, (None if counts is None else sum(counts), val), strict=True):
        if images is not None and images != IMAGES[split]:
            reasons.append(f"{images:,} {CALLED[split]} images, not {IMAGES[split]:,}")
    wrong = [_wrong_count(wnid, images, kit.train_images[i] if kit else None)
             for i, (wnid, images) in enumerate(zip(wnids, counts or (), strict=counts is not None))]  # fmt: skip
    wrong = [text for text in wrong if text]
    return reasons + wrong[:NAMED] + [f"{len(wrong) - NAMED} more classes of wrong size"] * (len(wrong) > NAMED)


def _wrong_count(wnid: str, images: int, published: int | None) -> str:
    """Return how a class's number of images is wrong, or an empty string if it is right."""
    if published is not None and images != published:
        return f"{wnid} has {images} training images, not {published}"
    low, high = OF_A_CLASS
    return "" if low <= images <= high else f"{wnid} has {images} training images, not {low} to {high}"
