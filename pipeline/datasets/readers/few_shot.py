"""The embedded set `few-shot`: capital Greek and Cyrillic letters, few images a class, and a background class."""

from __future__ import annotations

from functools import cached_property

from pipeline.datasets.readers.base import POSITIVE, Annotations
from pipeline.datasets.readers.drawn import Drawn, DrawnReader
from pipeline.datasets.sources.characters import ALPHABETS

BACKGROUND = "background"  # letters of no other class


class FewShot(DrawnReader):
    """A source of images of one letter each, without sets of its own."""

    name = "few-shot"
    about = "capital Greek and Cyrillic letters, and Latin ones as background, one on a canvas; drawn here"
    symbols = "ΓΔΘΛΞΠΣΦΨΩБДЖЛЦШЪЫЭЮ"

    @property
    def classes(self) -> list[str]:
        """Return the classes' names, the background first."""
        return [BACKGROUND, *self.symbols]

    @cached_property
    def ids(self) -> list[str]:
        """Return the ids: class and number."""
        return [f"{name}/{number:02d}" for name in self.classes for number in range(self.drawing.few_shot)]

    def objects(self, number: int) -> list[Drawn]:
        """Return the letter of the image's class, or for the background any Latin one."""
        label = number // self.drawing.few_shot
        others = ALPHABETS["latin"]
        return [Drawn(self.classes[label] if label else others[self.random(0, number).integers(26)])]

    def annotations(self) -> Annotations:
        """Return each image's only class."""
        labels = self.no_labels(len(self.ids))
        for image, row in enumerate(labels):
            row[image // self.drawing.few_shot] = POSITIVE
        return self.whole_images(labels, {})
