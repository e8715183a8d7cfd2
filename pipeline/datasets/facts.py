"""What prepare found out about a data set, in two files.

The statistics are what training and scoring depend on. The facts are what people read: the statistics' numbers, and
words, which may change without any run being trained anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.system.atomic_files import read_json, write_json

PREPARE = "vgg-repro prepare"
Found = TypeVar("Found", "Statistics", "Facts")


@dataclass(frozen=True)
class Statistics:
    """What training and scoring depend on; colours in grey levels 0..255, every training image weighing the same."""

    classes: int
    train: int  # images
    val: int
    mean_rgb: list[float]  # of the training images; empty where there is none
    covariance: list[list[float]]
    manifest: str  # a hash of all images that are kept and of how they are stored

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """A prepared data set for people: its statistics, and words."""

    source: str
    about: str  # one sentence: what the images are and where they come from
    comparable: bool  # with the paper's numbers: plain ILSVRC-2012
    classes: list[str]  # their names
    train: int  # images, as in the statistics
    val: int
    rescaled: int  # training images made smaller
    mean_rgb: list[float]  # as in the statistics
    covariance: list[list[float]]
    stored: dict[str, Any]  # the parameters that shape an image's pixels as stored, the largest S among them
    manifest: str  # as in the statistics
    wnids: list[str] = field(default_factory=list)  # the classes' WordNet ids, where the source has them

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have images."""
        return tuple(split for split, images in zip(SPLITS, (self.train, self.val), strict=True) if images)

    @property
    def statistics(self) -> Statistics:
        """What of it training and scoring depend on."""
        return Statistics(len(self.classes), self.train, self.val, self.mean_rgb, self.covariance, self.manifest)

    def write(self, profile: str, data_set: DataSet) -> None:
        """Write the statistics where stages look for them, and the facts where reports do."""
        write_json(data_set.statistics, self.statistics.as_dict())
        write_json(data_set.facts(profile), self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the WordNet ids where there is none."""
        values = asdict(self)
        return values if self.wnids else {key: value for key, value in values.items() if key != "wnids"}


def read_facts(profile: str, data_set: DataSet = CLASSIFICATION) -> Facts:
    """The facts of the prepared data; Failure if there are none."""
    return read(Facts, data_set.facts(profile))


def read_statistics(data_set: DataSet = CLASSIFICATION) -> Statistics:
    """Return the statistics of the data that were prepared last; Failure if there are none."""
    return read(Statistics, data_set.statistics)


def read(kind: type[Found], path: Path) -> Found:
    """Return the statistics or facts at `path`; Failure if they are missing, broken, or of another version's form."""
    values = read_json(path, PREPARE)
    try:
        return kind(**values)
    except TypeError as error:
        raise Failure(f"{path} does not hold what it should ({error}); make it again with: {PREPARE}") from None
