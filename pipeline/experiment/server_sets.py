"""Data sets whose labels only an evaluation server knows, as data: what is scored on them, and its stages.

They are images of the classes of the active profile, for files of predictions alone. Neither training nor a table reads
them: their stages, shards and scores are their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.paper_tables import GUESSING

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

ILSVRC_TEST, OF_SOURCE = "ilsvrc-test", "ilsvrc2012"  # the only such set, and the source whose classes it has
TEST_IMAGES = 100_000  # of ILSVRC-2012
PREFIX = "test-"  # of the stages
LOCALISERS = ("PCR-256", "PCR-384")  # of Table 9's last row, by which boxes are predicted


class ServerScore(NamedTuple):
    """A run's score in one mode on such a data set."""

    data_set: str
    run: str
    mode: str

    @property
    def stage(self) -> str:
        """Return its stage: test-dense@ilsvrc-test-D-jitter, or test-windows-PCR-384@ilsvrc-test."""
        if self.mode == WINDOWS:
            return f"{PREFIX}{self.mode}-{self.run}@{self.data_set}"
        return f"{PREFIX}{self.mode}@{self.data_set}-{self.run}"


def class_scores(name: str) -> list[ServerScore]:
    """Return the scores of the data set `name` by which the paper's best system guesses classes."""
    return [ServerScore(name, run, mode) for run, mode in GUESSING.needs()]


def box_scores(name: str) -> list[ServerScore]:
    """Return the scores of the data set `name` by which it predicts boxes, besides those of the classes."""
    return [ServerScore(name, run, WINDOWS) for run in LOCALISERS]


def set_stages(name: str) -> tuple[str, str]:
    """Return the stages that look at the images of the data set `name` and that prepare them."""
    return f"{PREFIX}source@{name}", f"{PREFIX}set@{name}"


def server_score(params: Params, stage: str) -> ServerScore | None:
    """Return the score that a stage computes on such a data set; None for any other stage."""
    scores = (score for name in params.test_sets for score in (*class_scores(name), *box_scores(name)))
    return next((score for score in scores if score.stage == stage), None)


def misfits(params: Params) -> list[str]:
    """Return the rows of `test_sets` that the active profile cannot have, because its images have other classes."""
    return [] if params.active.data.source == OF_SOURCE else list(params.test_sets)
