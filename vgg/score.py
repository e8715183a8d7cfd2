"""Evaluation (section 3.2): the views of an image in each mode, and a net's class posteriors averaged over them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgg.distributed import ALONE, Ranks
from vgg.draws import Ints
from vgg.gpu import gpu_memory_ran_out
from vgg.images import Rescaled
from vgg.nets import STRIDE, VGG

Views = Callable[[Tensor, int], Iterator[Tensor]]
AHEAD = 2  # batches queued on a GPU before waiting for the first of them
GRID = 5  # section 3.2: a 5 x 5 regular grid and two flips, 50 crops per scale


def dense(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """Yield the whole images (N, 3, H, W) and their horizontal flips."""
    yield pixels
    yield pixels.flip(3)


def crops(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """Yield 50 crops (N, 3, crop, crop) of each image: a regular grid that reaches all edges, each with its flip."""
    height, width = pixels.shape[2:]
    for top in grid(height - crop):
        for left in grid(width - crop):
            view = pixels[:, :, top : top + crop, left : left + crop]
            yield view
            yield view.flip(3)


def grid(room: int) -> list[int]:
    """Return GRID evenly spaced whole pixels from 0 to `room`, both included."""
    return [round(room * i / (GRID - 1)) for i in range(GRID)]


def centre(pixels: Tensor, crop: int) -> Iterator[Tensor]:
    """Yield the central crop (N, 3, crop, crop) only; if the margin is odd, its smaller half is at the top or left."""
    yield central(pixels, crop, crop)


def central(pixels: Tensor, height: int, width: int) -> Tensor:
    """Return the central `height` x `width` pixels; if a margin is odd, its smaller half is at the top or left."""
    top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]


def whole_cells(side: int, crop: int) -> int:
    """Return how many of `side` pixels fill whole cells of the score map, at least the crop."""
    return max(crop, side // STRIDE * STRIDE)


def seen_side(side: int, crop: int, remainder: str) -> int:
    """Return how many of `side` pixels of a whole image dense evaluation sees, with this `Scorer.remainder`."""
    return whole_cells(side, crop) if remainder == "even" else side


def filling(device: torch.device) -> int:
    """Return the number of input values that keep a device busy: a GPU some hundred crops, a CPU any one."""
    return 256 * 3 * 224 * 224 if device.type == "cuda" else 1


VIEWS: dict[str, Views] = {"dense": dense, "crops": crops, "centre": centre}


@dataclass
class Scorer:
    """A net with all that it needs to score uint8 pixels."""

    net: VGG
    normalise: Callable[[Tensor], Tensor]
    crop: int  # pixels
    device: torch.device
    bfloat16: bool = False
    mean: str = "before_softmax"  # or after_softmax: when the score map's spatial mean is taken
    ranks: Ranks = ALONE
    remainder: str = "floor"  # or ceil, even: what becomes of a whole image's pixels beyond whole cells
    room: float = math.inf  # largest number of values in a forward pass, learnt when memory ran out

    def posteriors(self, batches: Iterable[Rescaled], images: int, views: Views) -> NDArray[np.float32]:
        """Return class posteriors (images, K), the mean over the views of each image; NaN for images in no batch.

        With several processes `batches` are this process's own, and each gets the posteriors of all images. Raise
        ValueError if an image is smaller than the crop, or if there are no images.
        """
        if not images:
            raise ValueError("there are no images to score")
        self.net.eval()
        rows, seen = torch.zeros((images, self.net.classes)), torch.zeros(images)
        for ids, means in self._scored(batches, views):
            rows[ids], seen[ids] = means.cpu(), 1
        rows, seen = (self.ranks.summed(values.to(self.device)).cpu() for values in (rows, seen))
        rows[seen == 0] = torch.nan
        return rows.numpy()

    def _scored(self, batches: Iterable[Rescaled], views: Views) -> list[tuple[Ints, Tensor]]:
        """Return each batch's images and their mean posteriors, on the device, and keep the device busy meanwhile."""
        scored, events = [], deque[Any]()
        with self.computing():
            for pixels, ids in batches:
                scored.append((ids, self.in_parts(lambda part: self._of_views(part, views), pixels)))
                if self.device.type == "cuda":
                    events.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
                    events[-1].record()
                if len(events) > AHEAD:
                    events.popleft().synchronize()
        return scored

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute without gradients and in this scorer's precision meanwhile."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            yield  # in one context, weights are rounded once

    def in_parts(self, of_images: Callable[..., Tensor], pixels: Tensor, *more: Tensor) -> Tensor:
        """Return `of_images` (N, ...) of whole images (N, 3, H, W) and `more` (N, ...), in parts if memory runs out.

        Raise ValueError if the images are smaller than the crop.
        """
        height, width = pixels.shape[2:]
        if min(height, width) < self.crop:
            raise ValueError(f"images of {(height, width)} pixels are smaller than the crop of {self.crop}")
        size = pixels[0].numel()
        while True:
            together = int(max(1, min(self.room / size, len(pixels))))
            try:
                parts = zip(*(torch.split(values, together) for values in (pixels, *more)), strict=True)
                return torch.cat([of_images(*part) for part in parts])
            except RuntimeError as error:
                if self.room <= size or not gpu_memory_ran_out(error):
                    raise
            self.room = max(1, together // 2) * size
            torch.cuda.empty_cache()

    def _of_views(self, pixels: Tensor, views: Views) -> Tensor:
        """Return the views' mean posteriors (N, K) of whole images (N, 3, H, W)."""
        parts = [self._softmax(scores) for scores in self.maps(pixels, views)]
        posteriors = torch.cat(parts)  # of all views, each of all images
        return posteriors.reshape(-1, len(pixels), posteriors.shape[1]).mean(0)

    def maps(self, pixels: Tensor, views: Views) -> Iterator[Tensor]:
        """Yield the net's maps (V N, K, h, w) in float32 of the views of whole images (N, 3, H, W), some at a time."""
        pixels, remainder = pixels.to(self.device), self.remainder if views is dense else "floor"
        pixels = central(pixels, *(seen_side(side, self.crop, remainder) for side in pixels.shape[2:]))
        values = self.normalise(pixels)  # once for all views
        if torch.is_autocast_enabled(self.device.type):  # once, as the first layer would each time
            values = values.to(torch.get_autocast_dtype(self.device.type))
        for view in self._together(views(values, self.crop)):
            yield self._map(view, remainder == "ceil")

    def _together(self, views: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield views (N, 3, H, W), as many at once as fill the device and fit into its memory."""
        most, group = min(filling(self.device), self.room), list[Tensor]()
        for view in views:
            if group and (len(group) + 1) * view.numel() > most:
                yield _joined(group)
                group = []
            group.append(view)
        yield _joined(group)

    def _map(self, view: Tensor, ceil: bool) -> Tensor:
        """Return the map (N, K, h, w) in float32 of one normalised view (N, 3, H, W)."""
        scores: Tensor = self.net(view.contiguous(memory_format=torch.channels_last), ceil=ceil)
        return scores.float()

    def _softmax(self, scores: Tensor) -> Tensor:
        """Return posteriors (N, K) of score maps (N, K, h, w)."""
        if self.mean == "before_softmax":
            return scores.mean((2, 3)).softmax(1)
        return scores.softmax(1).mean((2, 3))


def _joined(views: list[Tensor]) -> Tensor:
    """Return views as one batch, without a copy of a single one."""
    return views[0] if len(views) == 1 else torch.cat(views)
