"""The mean and covariance of images' colours, exact sums of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BLOCK = 8192  # pixels turned into float64 at a time: they stay in the processor's cache
Floats = NDArray[np.float64]


def moments(pixels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """The first (3,) and second (3, 3) moments of one image (height, width, 3), in grey levels and their squares.

    The sums are whole numbers below 2^53, exact in float64 in whatever order they are taken.
    """
    flat = pixels.reshape(-1, 3)
    total, block = np.zeros((4, 4)), np.ones((4, BLOCK))
    for first in range(0, len(flat), BLOCK):
        part = flat[first : first + BLOCK]
        some = block[:, : len(part)]
        some[:3] = part.T
        total += some @ some.T
    total /= len(flat)
    return total[3, :3], total[:3, :3]


@dataclass
class Colours:
    """The mean RGB and the RGB covariance of images, each weighing the same whatever its size, as in training."""

    images: int = 0
    first: Floats = field(default_factory=lambda: np.zeros(3))  # sum of the images' means
    second: Floats = field(default_factory=lambda: np.zeros((3, 3)))  # of their second moments

    def add(self, first: Floats, second: Floats) -> None:
        """Count one image's moments."""
        self.images += 1
        self.first += first
        self.second += second

    def mean(self) -> Floats:
        """(3,) in grey levels."""
        return self.first / self.images

    def covariance(self) -> Floats:
        """(3, 3) in squared grey levels."""
        return self.second / self.images - np.outer(self.mean(), self.mean())
