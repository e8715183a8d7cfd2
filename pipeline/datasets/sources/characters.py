"""The embedded characters: letters and figures in matplotlib's text faces, each on its own coloured, textured canvas.

The faces are DejaVu (Bitstream Vera's licence), STIX and Computer Modern, which come with matplotlib. A quarter of each
family's faces is for validation, so a validation image shows a face that no training image has. Each character is
rotated and sheared at random. Everything is drawn from one seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, features

from pipeline.datasets.sources.base import SPLITS, Box, Encoded, Entry, Known, Listing, Split
from pipeline.datasets.sources.canvas import DrawnSource, Levels
from pipeline.experiment.params import Alphabet, CharactersParams

VERSION = 1  # raise it when the same parameters draw different images
LARGE = 512  # size of a face at which a character is measured
# A family's faces by their files' names. Faces of symbols, and sizes of the same face, are not used.
FAMILIES = {
    "DejaVu Sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique"),
    "DejaVu Sans Mono": (
        "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique", "DejaVuSansMono-Oblique",
    ),
    "DejaVu Serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "DejaVuSerif-Italic"),
    "STIX": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic"),
    "Computer Modern": ("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
}  # fmt: skip
LATIN_ONLY = {"Computer Modern"}
# Of characters with the same shape, or with that of another's mirror image, only one is a class, because training and
# testing flip images: b and not d, p and not q, l and not I, N and not И, R and not Я, 3 and not З or ε.
ALPHABETS: dict[Alphabet, str] = {
    "latin": "abcefghijklmnoprstuvwxyzABDEFGHJKLMNQRTUY0123456789",
    "greek": "αβγδζηθλμξπσςτφψωΓΔΘΛΞΠΣΦΨΩ",
    "cyrillic": "БДЖЙЛЦЧШЩЪЫЬЭЮ",
}


class Characters(DrawnSource[CharactersParams]):
    """A source that draws characters."""

    name = "characters"
    about = "letters and figures in matplotlib's text faces (DejaVu, STIX, Computer Modern), each on its own canvas"
    grouped = True

    @property
    def known(self) -> Known:
        """Return the numbers of images and of classes."""
        train, val = (len(list(self._images(split))) for split in SPLITS)
        return Known(train, val, len(self.classes))

    def drawn_with(self) -> dict[str, Any]:
        """Return the versions of this generator, of the faces, and of the drawing and encoding libraries."""
        libraries = {name: version(name) for name in ("matplotlib", "numpy", "pillow")}
        libraries["freetype"] = str(features.version("freetype2"))
        return {"generator": VERSION, "faces": hash_of(tuple(self.faces)), **libraries}

    @cached_property
    def classes(self) -> str:
        """Return the characters, in the order of their classes."""
        return "".join(ALPHABETS[alphabet] for alphabet in self.drawing.alphabets)

    @cached_property
    def faces(self) -> list[str]:
        """Return the faces that have all characters."""
        latin = set(self.drawing.alphabets) == {"latin"}
        return [face for family, faces in FAMILIES.items() if latin or family not in LATIN_ONLY for face in faces]

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Return the faces for validation: a quarter of each family's, rounded, which the seed chooses."""
        random = np.random.default_rng([self.drawing.seed, 0])
        shuffled = [[faces[i] for i in random.permutation(len(faces))] for faces in FAMILIES.values()]
        return frozenset(face for faces in shuffled for face in faces[: round(len(faces) / 4)])

    def listing(self) -> Listing:
        """Return both splits, each shuffled in its own order, with at most `limit` images per split."""
        entries = {split: [self._entry(*image) for image in self._images(split)] for split in SPLITS}
        return Listing(list(self.classes), entries, [])

    def read(self, entry: Entry) -> Encoded:
        """Return a character, drawn now, and its box."""
        encoded, box = self._draw(*entry.where)
        return Encoded(encoded, (box,))

    def _entry(self, face: int, label: int, number: int) -> Entry:
        return Entry(f"{self.faces[face]}/{self.classes[label]}/{number}", label, (face, label, number))

    def _images(self, split: Split) -> Iterator[tuple[int, int, int]]:
        """Yield the images of a split: the numbers of the face, of the character and among their images."""
        faces = [i for i, face in enumerate(self.faces) if (face in self.held_out) == (split == "val")]
        each = self.drawing.train_images if split == "train" else self.drawing.val_images
        shape = (len(faces), len(self.classes), each)
        order = np.random.default_rng([self.drawing.seed, 1, SPLITS.index(split)]).permutation(np.prod(shape))
        for face, label, number in zip(*np.unravel_index(order[: self.limit], shape), strict=True):
            yield faces[face], int(label), int(number)

    def _draw(self, face: int, label: int, number: int) -> tuple[bytes, Box]:
        """Return a character on its canvas as a JPEG, and the box around it in pixels."""
        random = np.random.default_rng([self.drawing.seed, 2, face, label, number])
        return self.draw(random, partial(self._place, face, label))

    def _place(self, face: int, label: int, random: np.random.Generator, height: int, width: int) -> Levels:
        """Return the character's ink on an empty canvas, (height, width) in [0, 1]."""
        drawing, canvas = self.drawing, np.array([width, height])
        glyph = glyph_of(self.faces[face], self.classes[label], random.uniform(*drawing.size) * canvas.min())
        turn, shear = (random.uniform(-limit, limit) for limit in (drawing.rotation, drawing.shear))
        deform = deformation(turn, shear)
        room = np.maximum(0, canvas - np.abs(deform) @ glyph.size) / 2  # so that nothing is cut off
        spread = drawing.spread * canvas.min()
        centre = canvas / 2 + np.clip(random.uniform(-spread, spread, 2), -room, room)
        return deformed(glyph, deform, centre, height, width)


def deformation(rotation: float, shear: float) -> Levels:
    """Return the matrix (2, 2) of a rotation, in degrees, after a shear, which is relative to the height."""
    turn = np.deg2rad(rotation)
    rotated = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix: Levels = rotated @ np.array([[1, shear], [0, 1]])
    return matrix


def deformed(ink: Image.Image, deform: Levels, centre: Levels, height: int, width: int) -> Levels:
    """Return ink, deformed by a matrix around its `centre` (x, y), on an empty canvas (height, width) in [0, 1]."""
    inverse = np.linalg.inv(deform)
    offset = np.array(ink.size) / 2 - inverse @ centre
    affine = np.column_stack([inverse, offset]).ravel()
    placed = ink.transform((width, height), Image.Transform.AFFINE, tuple(affine), Image.Resampling.BILINEAR)
    return np.asarray(placed, np.float32) / 255


def glyph_of(face: str, character: str, side: float) -> Image.Image:
    """Return a character's ink, its longer side `side` pixels, in an image of grey levels with an empty margin."""
    return ImageOps.expand(_ink(face, character, side * _size(face, character)), 1)


@lru_cache(None)
def _size(face: str, character: str) -> float:
    """Return a face's size at which the longer side of its `character` is 1."""
    return LARGE / max(_ink(face, character, LARGE).size)


def _ink(face: str, character: str, size: float) -> Image.Image:
    """Return a face's `character` in an image of grey levels without a margin."""
    font = ImageFont.truetype(_file(face), size, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), character, 255, font)
    return image.crop(image.getbbox())


def _file(face: str) -> Path:
    """Return a face's file, found without the import of matplotlib, which is slow."""
    package = find_spec("matplotlib")
    assert package is not None  # it is a dependency
    assert package.origin is not None
    return Path(package.origin).parent / "mpl-data/fonts/ttf" / f"{face}.ttf"


@lru_cache(None)
def hash_of(faces: tuple[str, ...]) -> str:
    """Return a hash of the faces' files."""
    hasher = hashlib.sha256()
    for face in faces:
        hasher.update(_file(face).read_bytes())
    return hasher.hexdigest()
