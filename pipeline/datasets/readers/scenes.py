"""The embedded set `scenes`: one to three handwritten digits or Greek letters an image; tiny ones are difficult."""

from __future__ import annotations

from functools import cached_property

from pipeline.datasets.readers.base import NEITHER, POSITIVE, Annotations, in_order
from pipeline.datasets.readers.drawn import DIGITS, Drawn, DrawnReader

MOST = 3  # objects on an image
TINY = 0.2  # share of tiny objects


class Scenes(DrawnReader):
    """A source of scenes with several objects, divided into train, val and test."""

    name = "scenes"
    about = "one to three handwritten digits (UCI, through scikit-learn) or Greek letters on a canvas; drawn here"
    symbols = f"{DIGITS}αβγδζθλμξπ"

    @cached_property
    def ids(self) -> list[str]:
        """Return the ids: numbers, a quarter of the images for training, a quarter for validation, half for testing."""
        return [f"scene-{number:04d}" for number in range(4 * self.drawing.scenes)]

    def objects(self, number: int) -> list[Drawn]:
        """Return different symbols, some of them tiny."""
        random = self.random(0, number)
        symbols = random.permutation(list(self.symbols))[: random.integers(1, MOST + 1)]
        return [Drawn(str(symbol), bool(random.random() < TINY)) for symbol in symbols]

    def annotations(self) -> Annotations:
        """Return the classes of each image; a class that is there only as a tiny object is difficult."""
        labels = self.no_labels(len(self.ids))
        for image, row in enumerate(labels):
            for drawn in self.objects(image):
                row[self.symbols.index(drawn.symbol)] = NEITHER if drawn.tiny else POSITIVE
        quarter = self.drawing.scenes
        return self.whole_images(labels, in_order([("train", quarter), ("val", quarter), ("test", 2 * quarter)]))
