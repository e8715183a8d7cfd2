"""Boxes around objects: frames of reference, overlap, training targets and their loss (appendix A).

Boxes are (..., 4) arrays of edges: left, top, right, bottom, in pixels of some frame: the stored image, the rescaled
image, or a window of it (a training crop, or what a cell of a dense map sees). A net's box is relative to its window:
centre x, centre y, width and height in units of the window's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgg.draws import Draws, Floats, Ints
from vgg.images import Labelled

PIXEL = 1.0  # the development kit counts both end pixels, so each side is one pixel longer than the edges' difference
RIGHT = 0.5  # overlap from which a box is right: "above 0.5" in the paper, not below it in the development kit
BOX = 4  # a net's outputs for one box: centre x, centre y, width, height


class Located(Labelled, Protocol):
    """Images whose objects have boxes."""

    def boxes_of(self, image: int, /) -> NDArray[np.float32]: ...


def rescaled_boxes(boxes: Floats, old: Ints, new: Ints) -> Floats:
    """Return boxes (n, 4) of images of the sizes `old` (n, 2), height and width, in the same images at sizes `new`.

    The two ratios of an image differ, because its rescaled sides are rounded.
    """
    ratio = (new / old)[:, [1, 0, 1, 0]]  # (n, 4)
    return boxes * ratio


def shifted(boxes: Floats, left: Floats | Ints | float, top: Floats | Ints | float) -> Floats:
    """Return boxes (..., 4) moved to the right by `left` and down by `top`, (...) each."""
    moved: Floats = boxes + np.stack([left, top, left, top], -1)
    return moved


def mirrored(boxes: Floats, width: Floats | Ints | float) -> Floats:
    """Return boxes (..., 4) in the horizontal flip of a frame of this width (...): left and right change places."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([width - right, top, width - left, bottom], -1)


def centred(boxes: Floats, side: float) -> Floats:
    """Return edges (..., 4) as a net has them: centre x, centre y, width, height, in units of `side` pixels."""
    left, top, right, bottom = np.moveaxis(boxes, -1, 0) / side
    return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)


def edges(boxes: Floats, side: float) -> Floats:
    """Return a net's boxes (..., 4) as edges in pixels of their window of `side`; a negative size counts as zero."""
    x, y, width, height = np.moveaxis(boxes, -1, 0) * side
    across, down = np.maximum(width, 0) / 2, np.maximum(height, 0) / 2
    return np.stack([x - across, y - down, x + across, y + down], -1)


def overlap(first: Floats, second: Floats, pixel: float = PIXEL) -> Floats:
    """Return the intersection over union of boxes (..., 4), (...). All sides are `pixel` longer than between edges."""
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = np.prod(np.maximum(high - low + pixel, 0), -1)
    areas = sum(np.prod(boxes[..., 2:] - boxes[..., :2] + pixel, -1) for boxes in (first, second))
    union = areas - common
    ratio: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ratio


def area_inside(boxes: Floats, side: float) -> Floats:
    """Return the area of boxes (..., 4) inside a window of `side` pixels, (...)."""
    within = np.clip(boxes, 0, side)
    area: Floats = np.prod(within[..., 2:] - within[..., :2], -1)
    return area


def in_crops(boxes: Floats, of: Ints, draws: Draws, heights: Ints, widths: Ints, crop: int) -> Floats:
    """Return boxes (n, 4) of stored images in these images' training crops, whole, also beyond the crop.

    `of` (n,) has each box's place in the batch; `draws`, `heights` and `widths` (N,) are those of its images.
    """
    old, new = np.stack([heights, widths], 1)[of], np.stack([draws.height, draws.width], 1)[of]
    placed = shifted(rescaled_boxes(boxes, old, new), -draws.left[of], -draws.top[of])
    return np.where(draws.flip[of, None], mirrored(placed, float(crop)), placed)


@dataclass(frozen=True)
class BoxTargets:
    """The targets of a training stream for boxes, from the draws of each image's crop.

    Of several boxes the one with the largest area inside the crop is the target, the first of equals. An image whose
    crop has less than `min_visible` of that box's area has weight 0, because its flip would put the object on either
    side of the crop.
    """

    images: Located  # each with at least one box
    crop: int  # pixels
    min_visible: float  # 0: every image counts

    def __call__(self, ids: Ints, draws: Draws) -> Tensor:
        """Return targets (N, 6) float32: class, weight, then the box as the net has it."""
        found = [self.images.boxes_of(image).astype(np.float64) for image in ids]
        of = np.repeat(np.arange(len(ids)), [len(boxes) for boxes in found])
        heights, widths = self.images.heights[ids], self.images.widths[ids]
        placed = in_crops(np.concatenate(found), of, draws, heights, widths, self.crop)
        inside = area_inside(placed, self.crop)
        largest = np.lexsort((-inside, of))  # each image's boxes together, the largest first; the sort is stable
        best = largest[np.searchsorted(of, np.arange(len(ids)))]
        whole = np.prod(placed[best, 2:] - placed[best, :2], -1)
        seen = inside[best] >= self.min_visible * whole
        columns = [self.images.labels[ids][:, None], seen[:, None], centred(placed[best], self.crop)]
        return torch.from_numpy(np.concatenate(columns, 1)).float()


def box_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the squared distance of the box to its target, in float32 or better, the mean over images.

    `outputs` (N, 4 or 4 K, 1, 1) are a net's, for one box or one per class: then only the true class's four enter.
    `targets` (N, 6) are those of `BoxTargets`; an image of weight 0 adds nothing but is counted.
    """
    wide = outputs if outputs.dtype == torch.float64 else outputs.float()
    boxes = of_classes(wide, targets[:, :1].long())[:, 0, :, 0, 0]  # (N, 4)
    return (targets[:, 1] * (boxes - targets[:, 2:]).square().sum(1)).mean() / 2


def of_classes(outputs: Tensor, classes: Tensor) -> Tensor:
    """Return a net's boxes (N, C, 4, h, w) for classes (N, C) int64, from its outputs (N, 4 or 4 K, h, w).

    Class k has the outputs 4 k to 4 k + 3; with one box for all classes every class has the same.
    """
    boxes = outputs.reshape(len(outputs), -1, BOX, *outputs.shape[2:])  # (N, 1 or K, 4, h, w)
    which = classes if boxes.shape[1] > 1 else torch.zeros_like(classes)
    return boxes[torch.arange(len(which), device=which.device)[:, None], which]
