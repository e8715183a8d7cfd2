"""The comparison of published nets' measured errors with the published errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vgg.errors import Error, wilson

MARGIN = 0.5  # percentage points by which frameworks differ because of decoding, resizing and rounding
LOST = 90.0  # error in per cent from which on a net's outputs are unrelated to the images


@dataclass(frozen=True)
class Trial:
    """The result of a trial with another input, or with another value of a key of `score`."""

    words: str  # options of an import, or the key and its value
    top1: Error


@dataclass(frozen=True)
class Checked:
    """A published net's errors in one protocol, next to the published errors, in per cent."""

    run: str
    mode: str
    scale: int
    top1: Error
    top5: Error
    figures: Sequence[Mapping[str, str]]  # rows of published_nets.csv
    sure: float  # mean posterior of the most likely class
    named: float = 1.0  # number of predicted classes, divided by the number of classes that occur
    trials: Sequence[Trial] = ()
    settings: Sequence[Trial] = ()  # with other values of keys of `score`, on the same images
    square: bool = False  # nearly all images are squares of one size

    def published(self, measure: str) -> tuple[float, float]:
        """Return the lowest and the highest published error."""
        values = [float(figure[measure]) for figure in self.figures]
        return min(values), max(values)

    @property
    def agrees(self) -> bool:
        """Return True if both errors agree with the published ones, within the resolution of this number of images."""
        return not self.miss("top1") and not self.miss("top5")

    @property
    def better(self) -> Trial | None:
        """Return the best trial if it is clearly better than the net's own input, else None."""
        best = min(self.trials, key=lambda trial: trial.top1.error, default=None)
        return best if best and best.top1.error < LOST and best.top1.high < self.top1.low else None

    @property
    def closer(self) -> list[Trial]:
        """Return the settings whose top-1 error is closer to the published ones, the closest first."""
        closer = [trial for trial in self.settings if self._distance(trial.top1) < self._distance(self.top1)]
        return sorted(closer, key=lambda trial: self._distance(trial.top1))

    def _distance(self, top1: Error) -> float:
        low, high = self.published("top1")
        return max(low - top1.error, top1.error - high, 0.0)

    @property
    def seen(self) -> float:
        """Return the smallest difference, in percentage points, that this number of images can detect."""
        images, published = self.top1.images, self.published("top1")[1]
        interval = wilson(round(images * published / 100), images)
        return (interval.high - interval.low) / 2 + MARGIN

    def miss(self, measure: str) -> float:
        """Return the error's signed distance to the published ones, in points; 0 if its interval is within MARGIN."""
        measured, (low, high) = getattr(self, measure), self.published(measure)
        if measured.high < low - MARGIN:
            return float(measured.error - low)
        return float(measured.error - high) if measured.low > high + MARGIN else 0.0
