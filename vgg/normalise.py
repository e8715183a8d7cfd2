"""Normalisation of pixels to the nets' input: mean subtraction, colour shift and scaling (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COLOUR_STD = 0.1  # Krizhevsky et al. (2012), section 4.1: the standard deviation of the shift along each component
SAME = 6  # decimal digits to which the components of an eigenvector are compared
COLOURS = ("eigenvalues", "roots", "none")


def colour_components(covariance: NDArray[np.float64], kind: str) -> Tensor:
    """Return the RGB shift (3, 3) in grey levels: one row per principal component, to be scaled by a standard normal.

    `covariance` (3, 3) is of pixels in 0..255. The paper refers to Krizhevsky, whose text scales each component by its
    eigenvalue on [0, 1] pixels ("eigenvalues", about 3 grey levels on photographs) and whose code scales it by the
    square root of the eigenvalue ("roots", about 7); "none" gives no shift.
    """
    values, vectors = np.linalg.eigh(covariance / 255.0**2)
    vectors = vectors * _signs(vectors)
    values = np.clip(values, 0, None)
    sizes = {"eigenvalues": values, "roots": np.sqrt(values), "none": 0 * values}[kind]
    return torch.from_numpy((vectors * sizes).T * COLOUR_STD * 255.0).float()


def _signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signs (3,) that make the largest component of each column of `vectors` (3, 3) positive.

    Of several equally large components the first counts. LAPACK's own signs differ between processors.
    """
    largest = np.abs(vectors).round(SAME).argmax(0)
    signs: NDArray[np.float64] = np.sign(vectors[largest, np.arange(3)])
    return signs


@dataclass(frozen=True)
class Normalise:
    """A transform that subtracts the training set's mean RGB and divides by the input scale (1 in the paper)."""

    mean: Tensor  # (3,) grey levels
    components: Tensor  # (3, 3) from colour_components
    scale: float | Tensor = 1.0  # grey levels; (3,) if each channel has its own, as in others' nets

    def __call__(self, pixels: Tensor, colour: Tensor | None = None) -> Tensor:
        """Turn uint8 RGB (N, 3, H, W) into float32 of the same layout, shifted by `colour` (N, 3) normals if given."""
        level = self.mean[None] if colour is None else self.mean - colour @ self.components  # (1 or N, 3)
        shifted = pixels.float().sub_(level[:, :, None, None])  # in place: allocation takes half of the time
        if isinstance(self.scale, Tensor):
            return shifted.div_(self.scale[:, None, None])
        return shifted if self.scale == 1.0 else shifted.div_(self.scale)

    def to(self, device: torch.device) -> Normalise:
        """Return the same transform on `device`."""
        scale = self.scale.to(device) if isinstance(self.scale, Tensor) else self.scale
        return Normalise(self.mean.to(device), self.components.to(device), scale)
