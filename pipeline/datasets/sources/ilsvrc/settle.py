"""The classes, labels and order of images, once the names of all of them are known.

Until then an image's class is a code: its WordNet id and its class's number, as far as its name and the data beside it
say them. The classes are numbered in the order of their WordNet ids, so no image's label is known before the classes
are. All copies of the data set are settled here, so that they give the same labels in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.sources.base import ImageNames, Order, Skipped, Split
from pipeline.datasets.sources.ilsvrc.names import IDS, VALIDATION, PathInfo
from pipeline.datasets.sources.ilsvrc.reference import CALLED, CLASSES
from pipeline.datasets.sources.ilsvrc.truth import Truth, published_names

NUMBERS = 10**5  # more than any number of classes
UNKNOWN = 0  # the code of an image whose class nothing says
TWICE, NO_GROUND_TRUTH = "its name occurs twice", "it has no ground truth"
Ints = NDArray[np.int64]


def code_of(named: PathInfo, number: int = -1) -> int:
    """Return what is known about an image's class as one number: its WordNet id and its class's `number` plus 1."""
    wnid = named.wnids[0] if len(named.wnids) == 1 else "n0"
    return int(wnid[1:]) * NUMBERS + (named.number if number < 0 else number) + 1


class Settled(NamedTuple):
    """What the names of all images say together."""

    wnids: list[str]
    orders: Mapping[Split, Order]
    skipped: list[Skipped]
    departures: list[str]  # contradictions, and names that are not published


def settle(truth: Truth, found: Mapping[Split, ImageNames]) -> Settled:
    """Return the classes, and the order and labels of the images of each split."""
    codes = {split: images.codes // NUMBERS for split, images in found.items()}
    by_number, ambiguous = _classes_by_number(found)
    for split, images in found.items():
        codes[split] = np.where(codes[split] == 0, _look_up(by_number, images.codes % NUMBERS - 1), codes[split])
    departures = list(ambiguous)
    if "val" in found and truth.has_validation:
        codes["val"], text = _with_truth(truth, found["val"].ids, codes["val"])
        departures += text
    wnids = _classes(truth, codes)
    numbers = np.array([int(wnid[1:]) for wnid in wnids], np.int64)
    orders, skipped = dict[Split, Order](), list[Skipped]()
    for split, images in found.items():
        labels = _labels(numbers, codes[split])
        skipped += _unlabelled(split, images.ids, codes[split], labels, bool(truth.wnids))
        if others := int(((labels < 0) & (codes[split] != UNKNOWN)).sum()):
            departures.append(f"{others:,} {CALLED[split]} images of other classes are skipped")
        orders[split], twice = _order(split, images.ids, labels)
        skipped += [Skipped(split, id, TWICE) for id in twice]
        departures += _unpublished(split, images.ids[orders[split].images])
    return Settled(wnids, orders, skipped, departures)


def _classes_by_number(found: Mapping[Split, ImageNames]) -> tuple[dict[int, int], list[str]]:
    """Return the WordNet id, as a number, of each class's number in the data.

    Images that say both teach it. If none does, the numbers are those of the 1000 classes in order, if all 1000 occur.
    """
    codes = [images.codes[images.codes > 0] for images in found.values()]
    pairs = np.unique(np.concatenate([*codes, np.zeros(0, np.int64)]))
    wnids, numbers = pairs // NUMBERS, pairs % NUMBERS - 1
    both = (wnids > 0) & (numbers >= 0)
    known = dict(zip(numbers[both].tolist(), wnids[both].tolist(), strict=True))
    if len(known) < both.sum() or len(set(known.values())) < both.sum():
        return {}, ["the classes' numbers in the data do not fit the images' names, so the numbers are not used"]
    published = {number: int(wnid[1:]) for number, wnid in enumerate(published_names())}
    alone = set(numbers[numbers >= 0].tolist()) - set(known)
    fit = all(published.get(number) == wnid for number, wnid in known.items())
    if fit and alone and (known or alone == set(range(CLASSES))):
        known = {**published, **known}
    return known, []


def _look_up(by_number: Mapping[int, int], numbers: Ints) -> Ints:
    """Return the WordNet ids, as numbers, of classes' numbers; UNKNOWN for others."""
    table = np.full(max([*by_number, 0]) + 2, UNKNOWN, np.int64)
    for number, wnid in by_number.items():
        table[number] = wnid
    inside = (numbers >= 0) & (numbers < len(table))
    return np.where(inside, table[np.where(inside, numbers, -1)], UNKNOWN)


def _with_truth(truth: Truth, ids: NDArray[np.bytes_], codes: Ints) -> tuple[Ints, list[str]]:
    """Return the codes of the validation images that the truth lists, and a text on names that contradict it."""
    corrected, wrong = codes.copy(), list[str]()
    for place, id in enumerate(id.decode() for id in ids.tolist()):
        wnid = truth.wnid_of(id)
        if wnid or VALIDATION.fullmatch(id):
            corrected[place] = int(wnid[1:] or UNKNOWN)
            if codes[place] not in (UNKNOWN, corrected[place]):
                wrong.append(id)
    text = f"{len(wrong)} validation images are in folders of other classes than their ground truth's"
    return corrected, [f"{text}, the first {min(wrong)}"] if wrong else []


def _classes(truth: Truth, codes: Mapping[Split, Ints]) -> list[str]:
    """Return the classes: those that are listed, else those of the training images, else those of validation."""
    if truth.wnids:
        return truth.wnids
    seen = np.unique(codes["train" if "train" in codes else "val"])
    return [f"n{wnid:08d}" for wnid in seen.tolist() if wnid != UNKNOWN]


def _labels(numbers: Ints, codes: Ints) -> Ints:
    """Return the images' labels, -1 for those of no class."""
    if not len(numbers):
        return np.full(len(codes), -1)
    places = np.minimum(np.searchsorted(numbers, codes), len(numbers) - 1)
    return np.where(numbers[places] == codes, places, -1)


def _unlabelled(split: Split, ids: NDArray[np.bytes_], codes: Ints, labels: Ints, listed: bool) -> list[Skipped]:
    """Return the images of no class, with the reason."""
    skipped = []
    for place in np.flatnonzero(labels < 0).tolist():
        wnid = f"n{codes[place]:08d}"
        if codes[place] == UNKNOWN:
            reason = "nothing says its class" if split == "train" else NO_GROUND_TRUTH
        elif listed:
            reason = f"it is not of a class of ILSVRC-2012: {wnid}"
        else:
            reason = f"its class, {wnid}, is not in train"
        skipped.append(Skipped(split, ids[place].decode(), reason, lost=bool(codes[place] == UNKNOWN)))
    return skipped


def _order(split: Split, ids: NDArray[np.bytes_], labels: Ints) -> tuple[Order, list[str]]:
    """Return the images in order, each id once, and the ids that occur again.

    Training images are in the order of classes and ids, validation images in that of ids.
    """
    keys = (ids, labels) if split == "train" else (ids,)
    order = np.lexsort(keys)  # stable: of equal ids the first one read stays the first
    order = order[labels[order] >= 0]
    again = np.zeros(len(order), bool)
    again[1:] = ids[order][1:] == ids[order][:-1]
    kept = order[~again]
    return Order(kept, labels[kept]), sorted(id.decode() for id in ids[order[again]].tolist())


def _unpublished(split: Split, ids: NDArray[np.bytes_]) -> list[str]:
    """Return a text on images whose ids are not published names, if there are any."""
    others = [id for id in (id.decode() for id in ids.tolist()) if not IDS[split].fullmatch(id)]
    if not others:
        return []
    return [f"{len(others):,} {CALLED[split]} images do not have their published names, the first {others[0]}"]
