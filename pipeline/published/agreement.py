"""Published nets' errors against the published ones: whether they agree, and by how much they miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vgg.errors import Error, wilson

MARGIN = 0.5  # points that frameworks differ by through decoding, resizing and rounding alone
LOST = 90.0  # per cent of error from which on a net says nothing about its pictures


@dataclass(frozen=True)
class Trial:
    """What came of something else."""

    words: str  # options, or a parameter
    top1: Error


@dataclass(frozen=True)
class Checked:
    """A published net's errors in one protocol, and those that others published, in per cent."""

    run: str
    mode: str
    scale: int
    top1: Error
    top5: Error
    figures: Sequence[Mapping[str, str]]  # rows of published_nets.csv
    sure: float  # mean posterior of the likeliest class
    named: float = 1.0  # how many different classes it names, of those that there are
    trials: Sequence[Trial] = ()
    square: bool = False  # nearly all images are squares of one size

    def published(self, measure: str) -> tuple[float, float]:
        """The lowest and the highest published error."""
        values = [float(one[measure]) for one in self.figures]
        return min(values), max(values)

    @property
    def agrees(self) -> bool:
        """Whether both errors are the published ones, as far as so many images can tell."""
        return not self.miss("top1") and not self.miss("top5")

    @property
    def better(self) -> Trial | None:
        """The best of the other inputs that are clearly better; none if none is."""
        best = min(self.trials, key=lambda trial: trial.top1.error, default=None)
        return best if best and best.top1.error < LOST and best.top1.high < self.top1.low else None

    @property
    def seen(self) -> float:
        """The points that a miss needs to be seen on so many images."""
        images, published = self.top1.images, self.published("top1")[1]
        found = wilson(round(images * published / 100), images)
        return (found.high - found.low) / 2 + MARGIN

    def miss(self, measure: str) -> float:
        """By how many points the error lies off the published ones; 0 if its interval reaches to within MARGIN."""
        found, (low, high) = getattr(self, measure), self.published(measure)
        if found.high < low - MARGIN:
            return float(found.error - low)
        return float(found.error - high) if found.low > high + MARGIN else 0.0
