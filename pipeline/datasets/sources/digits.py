"""The embedded source: scikit-learn's handwritten digits, each drawn on its own coloured, textured canvas.

The 1,797 digits are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
Machine Learning Repository, 1998, CC BY 4.0), 8 x 8 pixels each. The canvases vary in size, shape, colour and
texture, and the digits in place, so that scale, cropping, flipping, colour and boxes have an effect. Everything is
drawn from one seed.
"""

from __future__ import annotations

from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.sources.base import SPLITS, Box, Encoded, Entry, Known, Listing, Split
from pipeline.datasets.sources.canvas import DrawnSource, Levels
from pipeline.experiment.params import DigitsParams

VERSION = 1  # raise it when the same parameters draw different images


class Digits(DrawnSource[DigitsParams]):
    """A source that draws the digits."""

    name = "digits"
    about = "1,797 handwritten digits (UCI, through scikit-learn), each on a coloured, textured canvas of its own"
    known = Known(1343, 454, 10)

    def drawn_with(self) -> dict[str, Any]:
        """Return the versions of this generator, and of the drawing and encoding libraries."""
        return {"generator": VERSION, **{name: version(name) for name in ("numpy", "pillow", "scikit-learn")}}

    @cached_property
    def digits(self) -> Levels:
        """Return the digits (1797, 8, 8); 1 is ink."""
        return np.asarray(self._bunch.images / 16.0)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Return the digits' classes (1797,)."""
        return np.asarray(self._bunch.target)

    @cached_property
    def _bunch(self) -> Any:
        from sklearn.datasets import load_digits

        return load_digits()

    def listing(self) -> Listing:
        """Return both splits, each shuffled in its own order, with at most `limit` images per split."""
        entries = {split: [self._entry(int(index)) for index in self._members(split)] for split in SPLITS}
        return Listing([str(digit) for digit in range(10)], entries, [])

    def read(self, entry: Entry) -> Encoded:
        """Return a digit, drawn now, and its box."""
        encoded, box = self._draw(entry.where)
        return Encoded(encoded, (box,))

    def _entry(self, index: int) -> Entry:
        return Entry(f"digit-{index:04d}", int(self.labels[index]), index)

    def _members(self, split: Split) -> NDArray[np.int64]:
        """Return the numbers of a split's digits. A quarter of each class, rounded up, is for validation."""
        shuffled = np.random.default_rng([self.drawing.seed, 0]).permutation(len(self.labels))
        rank = np.empty(len(shuffled), np.int64)
        for digit in range(10):
            of_class = shuffled[self.labels[shuffled] == digit]
            rank[of_class] = np.arange(len(of_class))
        quarter = np.ceil(np.bincount(self.labels) / 4)[self.labels]  # (1797,)
        in_split = rank < quarter if split == "val" else rank >= quarter
        members = shuffled[in_split[shuffled]]
        return members[: self.limit]

    def _draw(self, index: int) -> tuple[bytes, Box]:
        """Return a digit on its canvas as a JPEG, and the box around it in pixels."""
        random = np.random.default_rng([self.drawing.seed, 1, index])
        return self.draw(random, partial(self._place, index))

    def _place(self, index: int, random: np.random.Generator, height: int, width: int) -> Levels:
        """Return the digit's ink on an empty canvas, (height, width) in [0, 1]."""
        short = min(height, width)
        size = round(random.uniform(*self.drawing.digit) * short)
        spread = self.drawing.spread * short
        top = round(np.clip((height - size) / 2 + random.uniform(-spread, spread), 0, height - size))
        left = round(np.clip((width - size) / 2 + random.uniform(-spread, spread), 0, width - size))
        small = Image.fromarray(self.digits[index].astype(np.float32))
        large = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float64)
        mask = np.zeros((height, width), np.float32)
        mask[top : top + size, left : left + size] = np.clip((large - 0.3) * 2.5, 0, 1)
        return mask
