"""Drawn images: dark ink on a light, textured canvas of random size, shape and colours; and what draws them."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.sources.base import Box, Source
from pipeline.errors import UsageError
from pipeline.experiment.params import CharactersParams, DigitsParams, DrawnSets, Profile

SHAPES = ((1, 1), (9, 8), (8, 9), (5, 4), (4, 5))  # width to height
Levels = NDArray[np.floating]
Drawing = TypeVar("Drawing", DigitsParams, CharactersParams, DrawnSets)
Place = Callable[[np.random.Generator, int, int], Levels]


class DrawnSource(Source, Generic[Drawing]):
    """A source that draws its images. Lengths in `drawing` are the paper's pixels, drawn scaled by `size_ratio`."""

    comparable = False
    place = "none"
    downloads = False

    def __init__(self, drawing: Drawing, limit: int | None, size_ratio: Fraction) -> None:
        self.drawing: Drawing = drawing
        self.limit, self.size_ratio = limit, size_ratio

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return the source as the profile describes it. Raise UsageError if it has no parameters for it."""
        drawing = getattr(profile.data, cls.name)
        if drawing is None:
            raise UsageError(f"data.{cls.name} is missing: source {cls.name} needs its drawing parameters")
        return cls(drawing, profile.data.limit, profile.net.size_ratio)

    def missing(self) -> str:
        """Return an empty string, because all that is drawn comes with a library."""
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Return all that the images depend on: parameters, and what they are drawn with."""
        drawing = {"source": self.name, "limit": self.limit, **self.drawing.model_dump(mode="json")}
        return {**drawing, "size_ratio": str(self.size_ratio), **self.drawn_with()}

    @abstractmethod
    def drawn_with(self) -> dict[str, Any]:
        """Return the versions of the generator and of the drawing and encoding libraries."""

    def draw(self, random: np.random.Generator, place: Place) -> tuple[bytes, Box]:
        """Return an image as `draw` does, on a canvas of this source's size and texture."""
        low, high = (side * float(self.size_ratio) for side in self.drawing.canvas)
        return draw(random, (low, high), self.drawing.texture, place)


def draw(random: np.random.Generator, sides: tuple[float, float], texture: float, place: Place) -> tuple[bytes, Box]:
    """Return an image as a JPEG, and the box around its ink in pixels.

    `sides` is the range of the shortest side in pixels, and `texture` the texture's strength in grey levels. `place`
    returns the ink on an empty canvas, (height, width) in [0, 1], from the random generator, the height and the width.
    """
    height, width = _size(random, sides)
    ink, paper = _colours(random)
    mask = place(random, height, width)
    canvas = paper + mask[:, :, None] * (ink - paper) + _texture(random, height, width, texture)
    image = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), box_of(mask)


def _size(random: np.random.Generator, sides: tuple[float, float]) -> tuple[int, int]:
    """Return a canvas's height and width in pixels."""
    low, high = sides
    side = np.exp(random.uniform(np.log(low), np.log(high)))
    across, down = SHAPES[random.integers(len(SHAPES))]
    width, height = (round(side * part / min(across, down)) for part in (across, down))
    return height, width


def _colours(random: np.random.Generator) -> tuple[Levels, Levels]:
    """Return a dark ink and a light paper, each an RGB in 0..255, more than 90 grey levels apart."""
    while True:
        ink, paper = random.uniform(10, 120, 3), random.uniform(185, 245, 3)
        if (paper - ink) @ (0.299, 0.587, 0.114) > 90:
            return ink, paper


def _texture(random: np.random.Generator, height: int, width: int, strength: float) -> Levels:
    """Return soft blobs of three sizes and fine grain, zero on average, (height, width, 3) in grey levels."""
    total = strength / 4 * random.standard_normal((height, width, 1), np.float32) * np.ones(3, np.float32)
    for cells in (2, 5, 12):
        blobs = np.clip(128 + strength / 2 * random.standard_normal((cells, cells, 3)), 0, 255).astype(np.uint8)
        total += np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128
    return total


def box_of(mask: Levels) -> Box:
    """Return the box around the ink, in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
