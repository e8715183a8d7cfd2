"""What the embedded sets share: handwritten digits and letters, one to three on a canvas, with their boxes.

The digits are scikit-learn's and the letters are in matplotlib's faces, drawn as by the sources `digits` and
`characters`. Image and annotations follow from the seed and the image's number alone.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from pipeline.datasets.readers.base import NEGATIVE, WHOLE, Annotations, Reader
from pipeline.datasets.sources.base import Box, Encoded, Entry, Known, Listing
from pipeline.datasets.sources.canvas import DrawnSource, Levels, box_of
from pipeline.datasets.sources.characters import FAMILIES, LATIN_ONLY, deformation, deformed, glyph_of, hash_of
from pipeline.errors import UsageError
from pipeline.experiment.params import DrawnSets, Profile

VERSION = 1  # raise it when the same parameters draw different images
DIGITS = "0123456789"  # in a set's symbols these are handwritten
FACES = tuple(face for family, faces in FAMILIES.items() if family not in LATIN_ONLY for face in faces)
LARGE, SMALL = (0.7, 0.95), (0.25, 0.35)  # an object's longer side, relative to its part of the canvas
LARGEST = 0.55  # relative to the canvas's shortest side


class Drawn(NamedTuple):
    """An object to draw: a symbol, tiny or not."""

    symbol: str
    tiny: bool = False


class DrawnReader(DrawnSource[DrawnSets], Reader):
    """A set whose images are drawn. A subclass says what is on each image, and how it is annotated."""

    symbols: str  # one per class

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return the set as the profile describes it. Raise UsageError if the profile has no parameters for it."""
        if profile.drawn is None:
            raise UsageError(f"{cls.name} is drawn with the block `drawn` of a profile, which this one does not have")
        return cls(profile.drawn, None, profile.net.size_ratio)

    @property
    def known(self) -> Known:
        """Return the numbers of images and of classes."""
        return Known(0, len(self.ids), len(self.classes))

    @cached_property
    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all images."""

    @property
    def classes(self) -> list[str]:
        """Return the classes' names."""
        return list(self.symbols)

    @abstractmethod
    def objects(self, number: int) -> list[Drawn]:
        """Return what is on image `number`."""

    def drawn_with(self) -> dict[str, Any]:
        """Return the versions of this generator, of the faces, and of the drawing and encoding libraries."""
        libraries = {name: version(name) for name in ("matplotlib", "numpy", "pillow", "scikit-learn")}
        return {"generator": VERSION, "faces": hash_of(FACES), **libraries, "freetype": features.version("freetype2")}

    def listing(self) -> Listing:
        """Return all images."""
        return Listing(self.classes, {"train": [], "val": [Entry(id, 0, i) for i, id in enumerate(self.ids)]}, [])

    def read(self, entry: Entry) -> Encoded:
        """Return an image, drawn now, and the boxes of its objects."""
        encoded, boxes = self._draw(entry.where)
        return Encoded(encoded, tuple(boxes))

    def random(self, *key: int) -> np.random.Generator:
        """Return the generator of a part of this set's draws."""
        return np.random.default_rng([self.drawing.seed, *map(ord, self.name), *key])

    def no_labels(self, examples: int) -> NDArray[np.int8]:
        """Return the labels (examples, classes) of examples without any class."""
        return np.full((examples, len(self.classes)), NEGATIVE, np.int8)

    def whole_images(self, labels: NDArray[np.int8], subsets: dict[str, NDArray[np.bool_]]) -> Annotations:
        """Return the annotations of a set whose examples are its images."""
        return Annotations(self.classes, self.ids, np.full(len(self.ids), WHOLE), labels, subsets)

    def _draw(self, number: int) -> tuple[bytes, list[Box]]:
        """Return an image as a JPEG, and the boxes of its objects in pixels."""
        objects, boxes = self.objects(number), list[Box]()

        def place(random: np.random.Generator, height: int, width: int) -> Levels:
            canvas = np.zeros((height, width), np.float32)
            for part, drawn in zip(random.permutation(len(objects)), objects, strict=True):
                ink = self._object(drawn, random, int(part), len(objects), height, width)
                boxes.append(box_of(ink))
                canvas = np.maximum(canvas, ink)
            return canvas

        encoded, _ = self.draw(self.random(1, number), place)
        return encoded, boxes

    def _object(
        self, drawn: Drawn, random: np.random.Generator, part: int, parts: int, height: int, width: int
    ) -> Levels:
        """Return an object's ink (height, width) in [0, 1], in one of the canvas's equal parts from left to right."""
        room = np.array([width / parts, height])
        side = random.uniform(*(SMALL if drawn.tiny else LARGE)) * min(*room, LARGEST * min(height, width))
        drawing = self.drawing
        turn, shear = (random.uniform(-limit, limit) for limit in (drawing.rotation, drawing.shear))
        ink, deform = _ink(drawn.symbol, side, random), deformation(turn, shear)
        free = np.maximum(0, room - np.abs(deform) @ ink.size) / 2  # so that nothing is cut off, and nothing overlaps
        centre = [part * room[0], 0] + room / 2 + random.uniform(-free, free)
        return deformed(ink, deform, centre, height, width)


def _ink(symbol: str, side: float, random: np.random.Generator) -> Image.Image:
    """Return a symbol's ink, in a random face or handwriting, its longer side `side` pixels, with an empty margin."""
    if symbol not in DIGITS:
        return glyph_of(FACES[random.integers(len(FACES))], symbol, side)
    digits = _handwritten()[int(symbol)]
    small = Image.fromarray(digits[random.integers(len(digits))].astype(np.float32))
    large = np.asarray(small.resize((round(side), round(side)), Image.Resampling.BICUBIC))
    levels = 255 * np.clip((large - 0.3) * 2.5, 0, 1)
    return ImageOps.expand(Image.fromarray(np.rint(levels).astype(np.uint8)), 1)


@lru_cache(None)
def _handwritten() -> list[NDArray[np.float64]]:
    """Return the handwritten digits (n, 8, 8) of each kind; 1 is ink."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return [bunch.images[bunch.target == digit] / 16 for digit in range(10)]
