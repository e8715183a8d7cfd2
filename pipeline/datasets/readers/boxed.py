"""The embedded set `boxed`: two or three letters an image, one of them with a box: which letter is in the box?"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pipeline.datasets.readers.base import POSITIVE, Annotations, in_order
from pipeline.datasets.readers.drawn import Drawn, DrawnReader
from pipeline.datasets.sources.base import Encoded, Entry


class Boxed(DrawnReader):
    """A source of objects in boxes, divided into train and val."""

    name = "boxed"
    about = "two or three Cyrillic letters on a canvas, one of them in a box; drawn here"
    symbols = "БДЖЛЦЧШЫЭЮ"

    @cached_property
    def ids(self) -> list[str]:
        """Return the ids: numbers, half of the images for training."""
        return [f"boxed-{number:04d}" for number in range(2 * self.drawing.boxed)]

    def objects(self, number: int) -> list[Drawn]:
        """Return different letters, the one with the box first."""
        random = self.random(0, number)
        return [Drawn(str(symbol)) for symbol in random.permutation(list(self.symbols))[: random.integers(2, 4)]]

    def read(self, entry: Entry) -> Encoded:
        """Return an image, drawn now, and the box of its first object."""
        encoded = super().read(entry)
        return encoded._replace(boxes=encoded.boxes[:1])

    def annotations(self) -> Annotations:
        """Return the class of each image's object with a box."""
        labels = self.no_labels(len(self.ids))
        for image, row in enumerate(labels):
            row[self.symbols.index(self.objects(image)[0].symbol)] = POSITIVE
        half, first = self.drawing.boxed, np.zeros(len(self.ids), np.int64)
        return Annotations(self.classes, self.ids, first, labels, in_order([("train", half), ("val", half)]))
