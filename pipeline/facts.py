"""What prepare found out about a data set: the few numbers that training and reports need."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.errors import Failure
from pipeline.files import read_json, write_json
from pipeline.paths import facts as facts_path
from pipeline.sources.base import SPLITS, Split

PREPARE = "vgg-repro prepare"


@dataclass(frozen=True)
class Facts:
    """A prepared data set; colours in grey levels 0..255, every training image weighing the same."""

    source: str
    about: str  # one sentence: what the images are and where they come from
    comparable: bool  # with the paper's numbers: plain ILSVRC-2012
    classes: list[str]
    train: int  # images
    val: int
    rescaled: int  # training images made smaller
    mean_rgb: list[float]  # of the training images, as all that follows; empty where there is none
    covariance: list[list[float]]
    eigenvalues: list[float]
    eigenvectors: list[list[float]]  # a row an eigenvector
    stored: dict[str, Any]  # the parameters that shape an image's pixels as stored, the largest S among them
    manifest: str  # a hash of all images that are kept and of how they are stored
    wnids: list[str] = field(default_factory=list)  # the classes' WordNet ids, where the source has them

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have images."""
        return tuple(split for split, images in zip(SPLITS, (self.train, self.val), strict=True) if images)

    def write(self, profile: str) -> None:
        """Write them where reports and stages look for them."""
        write_json(facts_path(profile), self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the WordNet ids where there is none."""
        values = asdict(self)
        return values if self.wnids else {key: value for key, value in values.items() if key != "wnids"}


def read_facts(profile: str) -> Facts:
    """The facts of the prepared data; Failure if there are none, or those of another version."""
    values: dict[str, Any] = read_json(facts_path(profile), PREPARE)
    try:
        return Facts(**values)
    except TypeError as error:
        path = facts_path(profile)
        raise Failure(f"{path} does not hold what it should ({error}); make it again with: {PREPARE}") from None
