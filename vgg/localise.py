"""Localisation: boxes and class scores of windows, and the development kit's measure (appendix A)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgg.boxes import PIXEL, RIGHT, edges, mirrored, overlap, rescaled_boxes, shifted
from vgg.draws import Floats, Ints
from vgg.nets import STRIDE
from vgg.score import whole_cells

GUESSES = 5  # the development kit ignores further guesses


def map_sides(height: int, width: int, crop: int, remainder: str) -> tuple[int, int]:
    """Return the sides of the map that a net of this crop has for an image of so many pixels (vgg/nets.py)."""
    sides = [whole_cells(side, crop) if remainder == "even" else side for side in (height, width)]
    for _ in range(5):
        sides = [(side + (remainder == "ceil")) // 2 for side in sides]
    return sides[0] - crop // STRIDE + 1, sides[1] - crop // STRIDE + 1


def seen_part(height: int, width: int, crop: int, remainder: str) -> tuple[int, int, int]:
    """Return the corner (top, left) and the width of the part of a rescaled image that dense evaluation sees."""
    if remainder != "even":
        return 0, 0, width
    seen = whole_cells(height, crop), whole_cells(width, crop)
    return (height - seen[0]) // 2, (width - seen[1]) // 2, seen[1]


def window_boxes(maps: Floats, crop: int, width: float, flipped: bool) -> Floats:
    """Return the boxes of a map's windows as edges in the image that the net saw unflipped: (N, C, h * w, 4).

    `maps` (N, C, 4, h, w) are a net's boxes. The cell (y, x) sees the window of `crop` pixels whose corner is (32 y,
    32 x). Of a `flipped` image, `width` pixels wide, the boxes are mirrored after the window's corner is added.
    """
    height, across = maps.shape[3:]
    local = edges(np.moveaxis(maps, 2, -1), crop)  # (N, C, h, w, 4)
    top, left = np.meshgrid(STRIDE * np.arange(height), STRIDE * np.arange(across), indexing="ij")
    placed = shifted(local, left, top)
    placed = mirrored(placed, width) if flipped else placed
    return placed.reshape(*maps.shape[:2], -1, 4)


def stored_boxes(boxes: Floats, rescaled: Ints, stored: Ints) -> Floats:
    """Return boxes (N, ..., 4) of rescaled images in their stored images; sizes (N, 2) are height and width."""
    flat = boxes.reshape(-1, 4)
    each = np.repeat(np.arange(len(boxes)), len(flat) // len(boxes))
    return rescaled_boxes(flat, rescaled[each], stored[each]).reshape(boxes.shape)


def are_right(
    guesses: Floats,
    classes: Ints,
    labels: Ints,
    truth: Floats,
    of: Ints,
    above: bool = False,
    pixel: float = PIXEL,
) -> NDArray[np.bool_]:
    """Return whether each image has a right guess among its first five, (N,).

    A guess, `guesses` (N, G, 4) of `classes` (N, G), is right if its class is the label (N,) and it overlaps any true
    box of the image by at least a half, or `above` a half. `truth` (m, 4) are the true boxes of all images, in their
    labels' class, and `of` (m,) has each one's image.
    """
    overlaps = overlap(guesses[of, :GUESSES].astype(np.float64), truth[:, None].astype(np.float64), pixel)  # (m, G)
    met = overlaps > RIGHT if above else overlaps >= RIGHT
    met &= classes[of, :GUESSES] == labels[of, None]
    right = np.zeros(len(labels), bool)
    np.logical_or.at(right, of, met.any(1))
    return right
