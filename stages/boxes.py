"""The boxes of the prepared images, and what localisers need of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.shards import Shards
from pipeline.experiment.params import Localiser
from vgg.boxes import BOX
from vgg.draws import Floats, Ints


class BoxedImages:
    """Some of the images of `shards`, by their numbers, with their boxes."""

    def __init__(self, shards: Shards, numbers: Ints) -> None:
        self.shards, self.numbers = shards, numbers
        self.heights: Ints = shards.heights[numbers]
        self.widths: Ints = shards.widths[numbers]
        self.labels: Ints = shards.labels[numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, image: int) -> NDArray[np.uint8]:
        return self.shards[int(self.numbers[image])]

    def boxes_of(self, image: int) -> NDArray[np.float32]:
        """Return an image's boxes (n, 4), as `Shards.boxes_of`."""
        return self.shards.boxes_of(int(self.numbers[image]))


def with_boxes(shards: Shards) -> Ints:
    """Return the numbers of the images that have boxes."""
    return np.flatnonzero([len(shards.boxes_of(image)) for image in range(len(shards))])


def true_boxes(images: Shards | BoxedImages) -> tuple[Floats, Ints]:
    """Return all boxes (m, 4) of the images, in pixels of the stored images, and each one's image (m,)."""
    found = [images.boxes_of(image) for image in range(len(images))]
    boxes = np.concatenate([np.zeros((0, 4)), *found]).astype(np.float64)
    return boxes, np.repeat(np.arange(len(found)), [len(boxes) for boxes in found])


def outputs_of(localiser: Localiser, classes: int) -> int:
    """Return the number of outputs of a localiser's last FC layer (appendix A.1)."""
    return BOX * (classes if localiser.boxes == "class" else 1)
