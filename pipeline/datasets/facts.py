"""A prepared data set's statistics and facts, in two files.

Training and scoring depend on the statistics. People read the facts: the statistics' numbers, and words, which may
change without any run being trained again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.system.atomic_files import read_json, write_json

PREPARE = "vgg-repro prepare"
Record = TypeVar("Record", "Statistics", "Facts")


@dataclass(frozen=True)
class Statistics:
    """The numbers that training and scoring use. Colours are in grey levels 0..255; training images weigh the same."""

    classes: int
    train: int  # images
    val: int
    mean_rgb: list[float]  # of the training images; empty if there are none
    covariance: list[list[float]]
    manifest: str  # a hash of all kept images and of how they are stored

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """A description of a prepared data set for people: its statistics, and words."""

    source: str
    about: str  # one sentence: what the images are and where they come from
    comparable: bool  # with the paper's numbers: true for the plain ILSVRC-2012
    classes: list[str]  # names
    train: int  # images, as in the statistics
    val: int
    rescaled: int  # number of training images that were downscaled
    mean_rgb: list[float]  # as in the statistics
    covariance: list[list[float]]
    stored: dict[str, Any]  # the parameters that determine the stored pixels, including the largest S
    manifest: str  # as in the statistics
    wnids: list[str] = field(default_factory=list)  # the classes' WordNet ids, if the source has them
    grouped: bool = False  # images whose ids are equal up to the last slash show the same thing

    @property
    def splits(self) -> tuple[Split, ...]:
        """Return the splits that have images."""
        return tuple(split for split, images in zip(SPLITS, (self.train, self.val), strict=True) if images)

    @property
    def std_rgb(self) -> list[float]:
        """Return the standard deviation of the training images' colours; it is empty if there are none."""
        return [float(level) for level in np.sqrt(np.diag(self.covariance))] if self.covariance else []

    @property
    def statistics(self) -> Statistics:
        """Return the part that training and scoring depend on."""
        return Statistics(len(self.classes), self.train, self.val, self.mean_rgb, self.covariance, self.manifest)

    def write(self, profile: str, data_set: DataSet = CLASSIFICATION) -> None:
        """Write the statistics to the file that stages read, and the facts to the file that reports read."""
        write_json(data_set.statistics, self.statistics.as_dict())
        write_json(data_set.facts(profile), self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, without the WordNet ids and the groups if there are none."""
        return {key: value for key, value in asdict(self).items() if value or key not in ("wnids", "grouped")}


def too_few(params: Params, facts: Facts) -> str:
    """Return why the active profile cannot train on these images, and what to do, or an empty string."""
    train = params.active.train
    if train is None or facts.train >= train.batch:
        return ""
    return (
        f"{facts.train} training images are fewer than one batch of {train.batch}, so nothing can be trained: add "
        f"images, or lower train.batch of profile {params.profile} in params.yaml"
    )


def read_facts(profile: str, data_set: DataSet = CLASSIFICATION) -> Facts:
    """Return the facts of the prepared data. Raise Failure if there are none."""
    return read(Facts, data_set.facts(profile))


def read_statistics(data_set: DataSet = CLASSIFICATION) -> Statistics:
    """Return the statistics of the data prepared last. Raise Failure if there are none."""
    return read(Statistics, data_set.statistics)


def read(kind: type[Record], path: Path) -> Record:
    """Return the statistics or facts at `path`. Raise Failure if they are missing, broken or of another version."""
    values = read_json(path, PREPARE)
    try:
        return kind(**values)
    except TypeError as error:
        raise Failure(f"{path} has unexpected content ({error}); make it again with: {PREPARE}") from None
