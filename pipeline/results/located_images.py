"""The illustrations of localisation: true and predicted boxes, the merging on one image, errors by overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import Failure
from pipeline.experiment.paths import located_images, located_pixels
from pipeline.results.illustrations import Pixels, decoded, read_encoded
from pipeline.system.atomic_files import read_json, whole, write_json

MAKE = "dvc repro localisation"
BEST, WORST = "best", "worst"
MERGING = "merging"  # the name of the image whose boxes are merged
Edges = list[float]  # left, top, right, bottom in pixels of the stored image


@dataclass(frozen=True)
class LocatedImage:
    """A validation image with its true boxes and a localiser's box of its class at the central crop (protocol 1)."""

    id: str
    label: int
    kind: str  # BEST or WORST
    height: int  # of the stored image, pixels
    width: int
    true: list[Edges]
    box: Edges
    overlap: float  # the largest of the box with a true one


@dataclass(frozen=True)
class Merging:
    """The boxes of one image's class in all windows, before and after they are merged (protocol 2)."""

    id: str
    label: int
    height: int
    width: int
    true: list[Edges]
    windows: list[Edges]  # each with its class's posterior as a fifth number
    merged: list[Edges]  # each with the sum of its members' posteriors as a fifth number, the largest first
    threshold: float
    windows_of: str  # the localisers and Q


@dataclass(frozen=True)
class OverlapCurve:
    """The errors of a table's row, in per cent, if a box is right from each overlap on."""

    table: str
    row: str
    guesses: int
    overlaps: list[float]
    errors: list[float]


@dataclass(frozen=True)
class LocatedImages:
    """Everything that the page of localisation shows. `images` is empty if the images are not there."""

    profile: str
    run: str  # the localiser of the images
    manifest: str
    weights_sha256: str
    classes: dict[str, str]  # number, as text, to name, of the images' classes
    images_counted: int
    examples: list[LocatedImage]
    merging: Merging
    curves: list[OverlapCurve]
    images: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # encoded, by name

    def pixels(self) -> dict[str, Pixels]:
        """Return the images by name, (height, width, 3) each; none if they are not there."""
        return {name: decoded(image) for name, image in self.images.items()}


def example_name(number: int) -> str:
    """Return the name of the image of an example, by its place among the examples."""
    return f"located-{number}"


def write_located_images(values: LocatedImages) -> None:
    """Write the images, then the numbers."""
    arrays = {name: np.frombuffer(image, np.uint8) for name, image in values.images.items()}
    with whole(located_pixels(values.profile)) as file:
        np.savez(file, allow_pickle=False, manifest=np.array(values.manifest), **arrays)
    document = asdict(values)
    del document["images"]
    write_json(located_images(values.profile), document)


def read_located_images(profile: str) -> LocatedImages | None:
    """Return a profile's illustrations of localisation; None if there are none. Raise Failure if a file is broken."""
    path = located_images(profile)
    if not path.exists():
        return None
    values: dict[str, Any] = read_json(path, MAKE)
    try:
        return LocatedImages(
            **values
            | {
                "examples": [LocatedImage(**example) for example in values["examples"]],
                "merging": Merging(**values["merging"]),
                "curves": [OverlapCurve(**curve) for curve in values["curves"]],
                "images": read_encoded(located_pixels(profile), values["manifest"], MAKE),
            }
        )
    except (KeyError, TypeError) as reason:
        raise Failure(f"{path} cannot be read ({reason}); make it again with: {MAKE}") from None
