"""The interface of readers: a source whose images are one split, with annotations that go beyond one class an image.

A reader is a `Source`: it lists its images, all of them as "val", which are stored as they are, and reads one at a time
in any process. `annotations` says the rest. Strays are `Skipped` entries of the listing, so the manifest names them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.shards import BROKEN, Shards
from pipeline.datasets.sources.base import Source
from pipeline.errors import Failure
from pipeline.system.atomic_files import whole

WHOLE = -1  # the number of the box of an example that is a whole image
SUBSET = "subset-"  # prefix of the arrays of the organisers' sets
POSITIVE, NEITHER, NEGATIVE = 1, 0, -1  # a class is there; neither trains nor counts; is not there


class Annotations(NamedTuple):
    """What is known of a data set's examples. An example is an image, or an image and one of its boxes."""

    classes: list[str]
    images: list[str]  # (examples,) ids of the examples' images, as in the listing
    boxes: NDArray[np.int64]  # (examples,) number of the example's box among those of its image, from 0; or WHOLE
    labels: NDArray[np.int8]  # (examples, classes) POSITIVE, NEITHER or NEGATIVE
    subsets: Mapping[str, NDArray[np.bool_]]  # the organisers' sets (examples,) by name; none if splits are drawn
    objects: NDArray[np.int64] | None = None  # (examples,) the organisers' numbers of the boxes, if they have any
    listed: NDArray[np.bool_] | None = None  # (examples, classes) as in `Examples`


def in_order(sizes: Sequence[tuple[str, int]]) -> dict[str, NDArray[np.bool_]]:
    """Return the sets (examples,) of these names and sizes, one after the other."""
    names = np.repeat([name for name, _ in sizes], [size for _, size in sizes])
    return {name: names == name for name, _ in sizes}


class Reader(Source):
    """A data set of appendix B in its own form."""

    downloads = False

    @abstractmethod
    def annotations(self) -> Annotations:
        """Return the annotations, the examples in the organisers' order. Raise Failure if they cannot be read."""


@dataclass(frozen=True)
class Examples:
    """The examples of a prepared data set whose images are among the stored ones."""

    classes: list[str]
    images: NDArray[np.int64]  # (examples,) number of the stored image
    boxes: NDArray[np.int64]  # (examples,) as in `Annotations`
    labels: NDArray[np.int8]  # (examples, classes)
    subsets: Mapping[str, NDArray[np.bool_]]
    missing: int  # examples that are annotated, but whose images are not stored
    objects: NDArray[np.int64]  # (examples,) the organisers' numbers of the boxes; WHOLE if there are none
    listed: NDArray[np.bool_] | None = None  # (examples, classes) a server evaluates it; None: those with a label

    def __len__(self) -> int:
        return len(self.images)

    def numbers_in(self, subset: str) -> NDArray[np.int64]:
        """Return the numbers of the examples of one of the organisers' sets; none if it is not there."""
        return np.flatnonzero(self.subsets.get(subset, ()))

    def corners(self, shards: Shards) -> NDArray[np.float64]:
        """Return the boxes (examples, 4) in pixels of the stored images; of whole images zeros."""
        pairs = zip(self.images.tolist(), self.boxes.tolist(), strict=True)
        rows = [np.zeros(4) if box == WHOLE else shards.boxes_of(image)[box] for image, box in pairs]
        return np.array(rows, np.float64).reshape(-1, 4)

    def write(self, path: Path, corners: NDArray[np.float64]) -> None:
        """Write the examples, and their boxes (examples, 4): other boxes of the same images are then another file."""
        listed = {} if self.listed is None else {"listed": self.listed}
        with whole(path) as file:
            np.savez(
                file, allow_pickle=False, classes=np.array(self.classes), images=self.images, boxes=self.boxes,
                labels=self.labels, missing=np.array(self.missing), objects=self.objects, corners=corners,
                **{f"{SUBSET}{name}": mask for name, mask in self.subsets.items()}, **listed,
            )  # fmt: skip


def examples_of(annotations: Annotations, stored: list[str]) -> Examples:
    """Return the annotated examples whose images are `stored`, by the images' ids in the order of the shards."""
    numbers = {id: number for number, id in enumerate(stored)}
    images = np.array([numbers.get(id, -1) for id in annotations.images], np.int64)
    kept = images >= 0
    return Examples(
        annotations.classes,
        images[kept],
        annotations.boxes[kept],
        annotations.labels[kept],
        {name: mask[kept] for name, mask in annotations.subsets.items()},
        int((~kept).sum()),
        np.full(kept.sum(), WHOLE) if annotations.objects is None else annotations.objects[kept],
        None if annotations.listed is None else annotations.listed[kept],
    )


def read_examples(path: Path, make: str) -> Examples:
    """Return what `Examples.write` wrote. Raise Failure, with the command `make`, if it cannot be read."""
    try:
        with np.load(path) as arrays:
            values: dict[str, Any] = dict(arrays)
    except BROKEN as reason:
        raise Failure(f"{path} cannot be read ({reason}); make it with: {make}") from None
    subsets = {name.removeprefix(SUBSET): mask for name, mask in values.items() if name.startswith(SUBSET)}
    images, boxes, labels = (values[name] for name in ("images", "boxes", "labels"))
    missing, objects = int(values["missing"]), values["objects"]
    classes, listed = values["classes"].tolist(), values.get("listed")
    return Examples(classes, images, boxes, labels, subsets, missing, objects, listed)
