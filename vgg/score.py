"""The evaluations of section 3.2: class posteriors of whole images from a net, in three modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgg.images import Rescaled
from vgg.nets import VGG

Views = Callable[[Tensor, int], Iterator[Tensor]]
GRID = 5  # section 3.2: a 5 x 5 regular grid and two flips, 50 crops a scale


def dense(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """The whole images (N, 3, H, W) and their horizontal flips."""
    yield pixels
    yield pixels.flip(3)


def crops(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """50 crops (N, 3, crop, crop) of each image: a regular grid that reaches all edges, each with its flip."""
    height, width = pixels.shape[2:]
    for top in grid(height - crop):
        for left in grid(width - crop):
            view = pixels[:, :, top : top + crop, left : left + crop]
            yield view
            yield view.flip(3)


def grid(room: int) -> list[int]:
    """GRID evenly spaced whole pixels from 0 to `room`, both included."""
    return [round(room * i / (GRID - 1)) for i in range(GRID)]


def centre(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """The central crop (N, 3, crop, crop) alone; of an odd room the smaller half lies before it."""
    top, left = ((side - crop) // 2 for side in pixels.shape[2:])
    yield pixels[:, :, top : top + crop, left : left + crop]


MODES: dict[str, Views] = {"dense": dense, "crops": crops, "centre": centre}


@dataclass(frozen=True)
class Scorer:
    """A net made ready to score uint8 pixels."""

    net: VGG
    normalise: Callable[[Tensor], Tensor]
    crop: int  # pixels
    device: torch.device
    bfloat16: bool = False
    mean: str = "before_softmax"  # or after_softmax: where the score map's spatial mean is taken

    def posteriors(self, batches: Iterable[Rescaled], images: int, views: Views) -> NDArray[np.float32]:
        """Class posteriors (images, K), the mean over the views of each image.

        ValueError if an image is smaller than the crop.
        """
        self.net.eval()
        rows: NDArray[np.float32] | None = None
        for pixels, ids in batches:
            if min(pixels.shape[2:]) < self.crop:
                raise ValueError(f"images of {tuple(pixels.shape[2:])} pixels are smaller than the crop of {self.crop}")
            parts = [self._softmax(view) for view in views(pixels.to(self.device), self.crop)]
            mean = torch.stack(parts).mean(0).cpu().numpy()  # (N, K)
            if rows is None:
                rows = np.full((images, mean.shape[1]), np.nan, np.float32)
            rows[ids] = mean
        if rows is None:
            raise ValueError("there are no images to score")
        return rows

    @torch.inference_mode()
    def _softmax(self, view: Tensor) -> Tensor:
        """Posteriors (N, K) in float32 of one view (N, 3, H, W)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            scores: Tensor = self.net(
                self.normalise(view).contiguous(memory_format=torch.channels_last)
            )  # (N, K, h, w)
        scores = scores.float()
        if self.mean == "before_softmax":
            return scores.mean((2, 3)).softmax(1)
        return scores.softmax(1).mean((2, 3))
