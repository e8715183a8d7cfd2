"""The comparison of published nets' measured errors with the published errors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.experiment.params import CellRule
from vgg.errors import Error, Z
from vgg.judgement import POPULATION, Judgement, Verdict, judge, standard_error

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
    rules: Mapping[str, CellRule]  # by kind of figure
    sure: float  # mean posterior of the most likely class
    named: float = 1.0  # number of predicted classes, divided by the number of classes that occur
    trials: Sequence[Trial] = ()
    settings: Sequence[Trial] = ()  # with other values of keys of `score`, on the same images
    square: bool = False  # nearly all images are squares of one size
    comparable: bool = True  # the images are of the classes that the published errors are of

    def published(self, measure: str) -> tuple[float, float]:
        """Return the lowest and the highest published error."""
        values = [float(figure[measure]) for figure in self.figures]
        return min(values), max(values)

    @property
    def rule(self) -> CellRule:
        """Return the rule for figures of this protocol's kind."""
        return self.rules[self.figures[0]["kind"]]

    @property
    def agreement(self) -> Verdict:
        """Return whether both errors agree with the published ones, one differs, or these images are too few to say."""
        verdicts = {self.judgement(measure).verdict for measure in ("top1", "top5")}
        if verdicts & {Verdict.BETTER, Verdict.WORSE}:
            return Verdict.DIFFERS
        return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.AGREES

    @property
    def differs(self) -> bool:
        """Return True if an error is comparable, and differs from the published ones by more than the tolerance."""
        return self.comparable and self.agreement == Verdict.DIFFERS

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
        """Return the smallest difference of the top-1 error, in points, that this number of images shows."""
        return self.rule.tolerance + self._half(self.top1.images)

    @property
    def needed(self) -> int:
        """Return the smallest number of images that can show an agreement of the top-1 error."""
        return 1 + bisect_left(range(1, POPULATION), True, key=lambda images: self._half(images) < self.rule.tolerance)

    def _half(self, images: int) -> float:
        """Return half the interval of a difference of the top-1 error on so many images, in points."""
        return Z * standard_error(images, self.published("top1")[1], share=self.rule.share)

    def judgement(self, measure: str) -> Judgement:
        """Judge the error against the nearest published one."""
        judged = (self._judged(getattr(self, measure), figure[measure]) for figure in self.figures)
        return min(judged, key=lambda judgement: abs(judgement.difference))

    def _judged(self, measured: Error, figure: str) -> Judgement:
        """Judge a measured error against a published one. Its rounding is half a unit of its last digit."""
        return judge(
            measured.error, measured.images, float(figure), tolerance=self.rule.tolerance, share=self.rule.share,
            rounding=0.5 * 10.0 ** -len(figure.partition(".")[2]),
        )  # fmt: skip

    def miss(self, measure: str) -> float:
        """Return the error's signed distance to the nearest published one, in points; 0 if it does not differ."""
        judgement = self.judgement(measure)
        return judgement.difference if judgement.verdict in (Verdict.BETTER, Verdict.WORSE) else 0.0
