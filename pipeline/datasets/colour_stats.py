"""The mean and covariance of image colours, from exact sums of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = 12  # four pixels a row: a matrix product of twelve columns is faster than one of three
BLOCK = 4096  # rows converted to float64 at a time, few enough for the processor's cache
Floats = NDArray[np.float64]


def moments(pixels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return one image's first (3,) and second (3, 3) moments, in grey levels and their squares.

    `pixels` has the shape (height, width, 3). The sums are whole numbers below 2^53, so they are exact in float64 in
    any order of summation.
    """
    flat = pixels.reshape(-1)
    first, second = np.zeros(ROW), np.zeros((ROW, ROW))
    block, ones = np.empty((BLOCK, ROW)), np.ones(BLOCK)
    even = flat[: flat.size // ROW * ROW].reshape(-1, ROW)
    for start in range(0, len(even), BLOCK):
        part = even[start : start + BLOCK]
        rows = block[: len(part)]
        rows[...] = part
        first += ones[: len(part)] @ rows
        second += rows.T @ rows
    rest = flat[even.size :].reshape(-1, 3).astype(np.float64)
    total = sum((second[i : i + 3, i : i + 3] for i in range(0, ROW, 3)), rest.T @ rest)
    return (first.reshape(-1, 3).sum(0) + rest.sum(0)) * 3 / flat.size, total * 3 / flat.size


@dataclass
class Colours:
    """The mean RGB and the RGB covariance of images. All images weigh the same whatever their size, as in training."""

    images: int = 0
    first: Floats = field(default_factory=lambda: np.zeros(3))  # sum of the images' means
    second: Floats = field(default_factory=lambda: np.zeros((3, 3)))  # sum of their second moments

    def add(self, first: Floats, second: Floats) -> None:
        """Add one image's moments."""
        self.images += 1
        self.first += first
        self.second += second

    def facts(self) -> dict[str, Any]:
        """Return the mean and the covariance as plain values, or empty lists if there is no image.

        All arithmetic is exact or elementwise, so every machine gets the same digits. Eigenvectors are not
        computed here, because they would not have this property.
        """
        if not self.images:
            return {"mean_rgb": [], "covariance": []}
        return {"mean_rgb": self.mean().tolist(), "covariance": self.covariance().tolist()}

    def mean(self) -> Floats:
        """Return the mean RGB (3,) in grey levels."""
        return self.first / self.images

    def covariance(self) -> Floats:
        """Return the RGB covariance (3, 3) in squared grey levels."""
        return self.second / self.images - np.outer(self.mean(), self.mean())
