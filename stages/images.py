"""Images as stages choose and show them: some of a split's, and training crops as the net receives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vgg.images import Images
from vgg.normalise import Normalise

Labels = NDArray[np.int64]


class ChosenImages:
    """The `images` of some numbers, in their order."""

    def __init__(self, images: Images, numbers: ArrayLike) -> None:
        self.images, self.numbers = images, np.asarray(numbers, np.int64)
        self.heights, self.widths = images.heights[self.numbers], images.widths[self.numbers]
        self.labels: Labels = images.labels[self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, image: int) -> NDArray[np.uint8]:
        return self.images[int(self.numbers[image])]


def as_received(normalise: Normalise, pixels: Tensor, colour: Tensor | None = None) -> NDArray[np.uint8]:
    """Return pixels (N, 3, H, W) as the net receives them, (N, H, W, 3), with the mean added back."""
    seen = normalise(pixels, colour) * normalise.scale + normalise.mean[:, None, None]
    return seen.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
