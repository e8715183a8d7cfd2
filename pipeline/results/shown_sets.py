"""What the page of other data sets shows of one set: examples of two classes, and descriptors of some in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.experiment.other_sets import shown_stage
from pipeline.experiment.paths import shown_set, shown_set_pixels
from pipeline.results.encoded_images import WithImages, read_values, write_values

HIGHEST, LOWEST = "highest", "lowest"


@dataclass(frozen=True)
class ShownExample:
    """A test example with its score by the SVM of a class: of the highest scores, or of the class's lowest ones."""

    id: str  # of the image
    label: int  # the class
    value: float  # the class's measure in the first split, per cent
    kind: str  # HIGHEST or LOWEST
    score: float
    classes: list[int]  # those that are there
    box: list[float] | None  # left, top, right, bottom relative to the image; None: the whole image


@dataclass(frozen=True)
class DescriptorMap:
    """Descriptors of some classes, by their first two principal components."""

    labels: list[int]  # (examples,)
    points: list[list[float]]  # (examples, 2)
    shares: list[float]  # (2,) of the variance


@dataclass(frozen=True)
class ShownSet(WithImages):
    """Everything that the page shows of a data set, besides its table. `images` is empty if they are not there."""

    profile: str
    set: str
    manifest: str
    scores_sha256: str
    classes: dict[str, str]  # number, as text, to name
    examples: list[ShownExample]
    map: DescriptorMap
    images: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # encoded, by name


def example_image(name: str, number: int) -> str:
    """Return the name of the image of an example of data set `name`, by its place among the examples."""
    return f"{name}-{number}"


def write_shown_set(values: ShownSet) -> None:
    """Write the images, then the numbers."""
    write_values(values, shown_set(values.profile, values.set), shown_set_pixels(values.profile, values.set))


def read_shown_set(profile: str, name: str) -> ShownSet | None:
    """Return what is shown of a data set; None if there is nothing. Raise Failure if a file is broken."""
    make = f"dvc repro {shown_stage(name)}"
    return read_values(shown_set(profile, name), shown_set_pixels(profile, name), make, _built)


def _built(values: dict[str, Any], images: Mapping[str, bytes]) -> ShownSet:
    typed = {
        "examples": [ShownExample(**example) for example in values["examples"]],
        "map": DescriptorMap(**values["map"]),
    }
    return ShownSet(**values | typed, images=images)
