"""Localisation: boxes and class scores of windows, and the development kit's measure (appendix A)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgg.boxes import BOX, PIXEL, RIGHT, edges, mirrored, of_classes, overlap, rescaled_boxes, shifted
from vgg.draws import Floats, Ints
from vgg.images import Rescaled
from vgg.merging import best_boxes
from vgg.nets import STRIDE
from vgg.score import Scorer, centre, dense, whole_cells

GUESSES = 5  # the development kit ignores further guesses
TOGETHER = 1024  # images whose boxes are merged at a time


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


def centre_boxes(localiser: Scorer, batches: Iterable[Rescaled], classes: Ints, sizes: Ints, stored: Ints) -> Floats:
    """Return the box (images, 4) of each image's class at its central crop, as edges in the stored image.

    `classes` (images,) are the true classes in protocol 1. `sizes` (images, 2) are those of the rescaled images, height
    and width, and `stored` those of the stored ones. The batches may have been cut to their central crops already. With
    several processes `batches` are this process's own, and each gets the boxes of all images.
    """
    localiser.net.eval()
    rows = torch.zeros((len(classes), BOX), dtype=torch.float64)
    with localiser.computing():
        for pixels, ids in batches:
            (boxes,) = localiser.maps(pixels, centre)  # (N, 4 or 4 K, 1, 1)
            of_class = of_classes(boxes, torch.from_numpy(classes[ids, None]).to(boxes.device))
            rows[ids] = of_class[:, 0, :, 0, 0].double().cpu()
    relative = localiser.ranks.summed(rows.to(localiser.device)).cpu().numpy()
    corners = (sizes - localiser.crop) // 2  # as in vgg.score.central
    placed = shifted(edges(relative, localiser.crop), corners[:, 1], corners[:, 0])
    return rescaled_boxes(placed, sizes, stored)


def all_windows(
    localiser: Scorer, rater: Scorer, batches: Iterable[Rescaled], classes: Ints, sizes: Ints, stored: Ints
) -> tuple[NDArray[np.float32], Ints]:
    """Return the boxes of all windows of whole images and of their flips, rated by a classification net's posteriors.

    The first array (windows, C, 5) has, image by image, for each of its `classes` (images, C), the box as edges in the
    stored image and the class's posterior at that window; the second (images,) each image's number of windows: the
    cells of the map row by row, then those of the flip's. The nets have the same crop and remainder, so the same cells.
    `sizes`, `stored` and processes are as for `centre_boxes`.
    """
    localiser.net.eval(), rater.net.eval()
    sides = [map_sides(height, width, localiser.crop, localiser.remainder) for height, width in sizes.tolist()]
    counts = 2 * np.prod(np.array(sides, np.int64).reshape(-1, 2), 1)
    starts = np.cumsum(counts) - counts
    rows = torch.zeros((int(counts.sum()), classes.shape[1], BOX + 1))
    of_images = partial(_of_images, localiser, rater)
    with localiser.computing():
        for pixels, ids in batches:
            values = localiser.in_parts(of_images, pixels, torch.from_numpy(classes[ids])).cpu().numpy()
            made = _placed(values.astype(np.float64), localiser, sizes[ids], stored[ids])
            rows[starts[ids, None] + np.arange(made.shape[1])] = torch.from_numpy(made).float()
    return localiser.ranks.summed(rows.to(localiser.device)).cpu().numpy(), counts


def _of_images(localiser: Scorer, rater: Scorer, pixels: Tensor, classes: Tensor) -> Tensor:
    """Return boxes and posteriors (N, 2, C, 5, h, w) of whole images (N, 3, H, W) and of their flips, on the device."""
    twice = classes.to(localiser.device).repeat(2, 1)  # (2 N, C)
    boxes = of_classes(torch.cat(list(localiser.maps(pixels, dense))), twice)  # (2 N, C, 4, h, w)
    posteriors = torch.cat(list(rater.maps(pixels, dense))).softmax(1)  # (2 N, K, h, w)
    of_class = posteriors[torch.arange(len(twice), device=twice.device)[:, None], twice]  # (2 N, C, h, w)
    rated = torch.cat([boxes, of_class[:, :, None]], 2)
    return rated.reshape(2, len(pixels), *rated.shape[1:]).transpose(0, 1)


def _placed(values: Floats, localiser: Scorer, sizes: Ints, stored: Ints) -> Floats:
    """Return the windows (N, n, C, 5) of images of one rescaled shape, from `_of_images`, in their stored images."""
    height, across = sizes[0].tolist()
    top, left, width = seen_part(height, across, localiser.crop, localiser.remainder)
    views = []
    for view in range(2):
        boxes = window_boxes(values[:, view, :, :BOX], localiser.crop, width, flipped=view == 1)
        boxes = stored_boxes(shifted(boxes, left, top), sizes, stored)
        ratings = values[:, view, :, BOX].reshape(*boxes.shape[:-1], 1)
        views.append(np.concatenate([boxes, ratings], -1))  # (N, C, h * w, 5)
    return np.concatenate(views, 2).swapaxes(1, 2)


def merged_boxes(
    parts: Sequence[tuple[NDArray[np.float32], Ints]], threshold: float, threads: int = 1
) -> NDArray[np.float64]:
    """Return the best merged box (images, C, 4) of each image and class, from the union of several sets of windows.

    `parts` are as from `all_windows`. Some images at a time are padded to the largest number of windows among them.
    """
    counts = np.stack([counts for _, counts in parts])  # (parts, images)
    starts = np.cumsum(counts, 1) - counts
    chosen = np.empty((counts.shape[1], parts[0][0].shape[1], BOX))
    by_size = np.argsort(counts.sum(0), kind="stable")
    for ids in np.split(by_size, range(TOGETHER, len(by_size), TOGETHER)):
        columns, marks = [], []
        for (windows, _), own, first in zip(parts, counts[:, ids], starts[:, ids], strict=True):
            places = np.arange(own.max())
            present = places < own[:, None]  # (I, n)
            columns.append(windows[np.where(present, first[:, None] + places, 0)])  # (I, n, C, 5)
            marks.append(present)
        joined, present = np.concatenate(columns, 1).swapaxes(1, 2), np.concatenate(marks, 1)
        problems = joined.reshape(-1, *joined.shape[2:])  # (I C, n, 5)
        each = np.repeat(present, joined.shape[1], 0)
        boxes, _ = best_boxes(problems[..., :BOX], problems[..., BOX], each, threshold, threads)
        chosen[ids] = boxes.reshape(len(ids), -1, BOX)
    return chosen


def first_right(
    guesses: Floats,
    classes: Ints,
    labels: Ints,
    truth: Floats,
    of: Ints,
    above: bool = False,
    pixel: float = PIXEL,
) -> Ints:
    """Return the number (N,), from 0, of each image's first right guess, GUESSES if none of its first five is right.

    A guess, `guesses` (N, G, 4) of `classes` (N, G), is right if its class is the label (N,) and it overlaps any true
    box of the image by at least a half, or `above` a half. `truth` (m, 4) are the true boxes of all images, in their
    labels' class, and `of` (m,) has each one's image.
    """
    overlaps = _overlaps(guesses, truth, of, pixel)
    met = overlaps > RIGHT if above else overlaps >= RIGHT
    met &= classes[of, :GUESSES] == labels[of, None]
    first = np.full(len(labels), GUESSES)
    np.minimum.at(first, of, np.where(met.any(1), met.argmax(1), GUESSES))
    return first


def best_overlaps(
    guesses: Floats, classes: Ints, labels: Ints, truth: Floats, of: Ints, pixel: float = PIXEL
) -> Floats:
    """Return the largest overlap (N,) of each image's first five guesses of its class with a true box; 0 without one.

    A guess is right from that overlap down. The arguments are those of `first_right`.
    """
    overlaps = _overlaps(guesses, truth, of, pixel)
    overlaps = np.where(classes[of, :GUESSES] == labels[of, None], overlaps, 0.0)
    best = np.zeros(len(labels))
    np.maximum.at(best, of, overlaps.max(1, initial=0.0))
    return best


def _overlaps(guesses: Floats, truth: Floats, of: Ints, pixel: float) -> Floats:
    """Return the overlap (m, G) of each true box with its image's first five guesses."""
    return overlap(guesses[of, :GUESSES].astype(np.float64), truth[:, None].astype(np.float64), pixel)
