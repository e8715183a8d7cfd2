"""All random draws of the training stream, as a pure function of (seed, epoch, image) (section 3.1).

One Philox generator keyed by (seed, epoch) gives each image WORDS 64-bit words, by random access or in sequence.
Nothing else draws: not DALI, the process or the rank. So the stream is the same on any machine and from any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORDS = 12  # three Philox blocks of four words an image
_ORDER, _SCALE, _TOP, _LEFT, _FLIP, _COLOUR, _DROPOUT = 0, 1, 2, 3, 4, 5, 9  # colour takes four words, dropout two

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def epoch_words(seed: int, epoch: int, images: int) -> Words:
    """Return the words of all images in one epoch, (images, WORDS)."""
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.asarray(generator.random_raw(images * WORDS)).reshape(images, WORDS)


def image_words(seed: int, epoch: int, image: int) -> Words:
    """Return the words of one image, (WORDS,), without generating those before it."""
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    generator.advance(image * WORDS // 4)
    return np.asarray(generator.random_raw(WORDS))


def order(words: Words) -> Ints:
    """Return the epoch's permutation of its images, (images,), from their words (images, WORDS)."""
    return np.argsort(words[:, _ORDER], kind="stable")


@dataclass(frozen=True)
class Draws:
    """The draws for N images: rescaled size, crop, flip, colour shift and dropout keys of each."""

    height: Ints  # (N,) of the rescaled image, pixels
    width: Ints
    top: Ints  # (N,) of the crop in the rescaled image, pixels
    left: Ints
    flip: NDArray[np.bool_]  # (N,)
    colour: Floats  # (N, 3) standard normals, one for each principal component
    keys: Ints  # (N, 2) 64 random bits per dropout layer, from which it derives an image's mask


def draw(words: Words, heights: Ints, widths: Ints, scales: tuple[int, int], crop: int) -> Draws:
    """Turn the words (N, WORDS) of N images of the given sizes (N,) into draws.

    S is uniform over the whole pixels of `scales`, both ends included; the crop's corner is uniform over its
    positions. Raise ValueError if the smallest scale is below the crop.
    """
    low, high = scales
    if low < crop:
        raise ValueError(f"an image rescaled to {low} pixels has no crop of {crop}")
    unit = uniform(words)
    scale = low + np.floor(unit[:, _SCALE] * (high - low + 1)).astype(np.int64)
    height, width = rescaled(heights, widths, scale)
    return Draws(
        height,
        width,
        np.floor(unit[:, _TOP] * (height - crop + 1)).astype(np.int64),
        np.floor(unit[:, _LEFT] * (width - crop + 1)).astype(np.int64),
        unit[:, _FLIP] < 0.5,
        _normals(unit[:, _COLOUR : _COLOUR + 4]),
        words[:, _DROPOUT : _DROPOUT + 2].view(np.int64),
    )


def uniform(words: Words) -> Floats:
    """Return words as float64 in [0, 1), from their upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normals(unit: Floats) -> Floats:
    """Transform uniforms (N, 4) to standard normals (N, 3) by Box and Muller's method."""
    radius = np.sqrt(-2.0 * np.log1p(-unit[:, :2]))  # (N, 2)
    angle = 2.0 * np.pi * unit[:, 2:]
    return np.stack(
        [radius[:, 0] * np.cos(angle[:, 0]), radius[:, 0] * np.sin(angle[:, 0]), radius[:, 1] * np.cos(angle[:, 1])], 1
    )  # (N, 3)


def rescaled(heights: Ints, widths: Ints, scale: Ints | int) -> tuple[Ints, Ints]:
    """Return sizes (N,) after isotropic rescaling of the smallest side to `scale` pixels; round the other side."""
    short = np.minimum(heights, widths)
    return (np.rint(heights * (scale / short)).astype(np.int64), np.rint(widths * (scale / short)).astype(np.int64))
