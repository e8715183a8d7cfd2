"""From pixels to the nets' input: the mean subtracted, the colours shifted, the range scaled (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COLOUR_STD = 0.1  # Krizhevsky et al. (2012), section 4.1: the deviation of the shift along each component
SAME = 6  # digits to which two components of an eigenvector are taken to be equally large
COLOURS = ("eigenvalues", "roots", "none")


def colour_components(covariance: NDArray[np.float64], kind: str) -> Tensor:
    """The RGB shift (3, 3), a row a principal component, for one standard normal each, in grey levels.

    `covariance` (3, 3) is of pixels in 0..255. The paper refers to Krizhevsky, whose text scales each component by its
    eigenvalue on [0, 1] pixels ("eigenvalues", about 3 grey levels on photographs) and whose code by the root of it
    ("roots", about 7); "none" shifts nothing.
    """
    values, vectors = np.linalg.eigh(covariance / 255.0**2)
    vectors = vectors * _signs(vectors)
    values = np.clip(values, 0, None)
    sizes = {"eigenvalues": values, "roots": np.sqrt(values), "none": 0 * values}[kind]
    return torch.from_numpy((vectors * sizes).T * COLOUR_STD * 255.0).float()


def _signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signs (3,) that make the largest component of each column of `vectors` (3, 3) positive, or the first
    of several as large: LAPACK's own signs differ from one processor to another.
    """
    largest = np.abs(vectors).round(SAME).argmax(0)
    signs: NDArray[np.float64] = np.sign(vectors[largest, np.arange(3)])
    return signs


@dataclass(frozen=True)
class Normalise:
    """Subtracts the training set's mean RGB and divides by the input scale, which is 1 in the paper."""

    mean: Tensor  # (3,) grey levels
    components: Tensor  # (3, 3) from colour_components
    scale: float | Tensor = 1.0  # grey levels; (3,) where each channel has its own, as in others' nets

    def __call__(self, pixels: Tensor, colour: Tensor | None = None) -> Tensor:
        """Turn uint8 RGB (N, 3, H, W) into float32 of the same layout, shifted by `colour` (N, 3) normals if given."""
        level = self.mean[None] if colour is None else self.mean - colour @ self.components  # (1 or N, 3)
        shifted = pixels.float().sub_(level[:, :, None, None])  # in place: half of the time goes to fresh memory
        if isinstance(self.scale, Tensor):
            return shifted.div_(self.scale[:, None, None])
        return shifted if self.scale == 1.0 else shifted.div_(self.scale)

    def to(self, device: torch.device) -> Normalise:
        """The same on `device`."""
        scale = self.scale.to(device) if isinstance(self.scale, Tensor) else self.scale
        return Normalise(self.mean.to(device), self.components.to(device), scale)
