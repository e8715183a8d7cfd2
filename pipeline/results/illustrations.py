"""The illustrations: what one net sees in one image, and training crops of another; numbers and images are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import Failure
from pipeline.experiment.paths import illustrated_images, illustrations
from pipeline.results.array_file import arrays_in
from pipeline.system.atomic_files import read_json, whole, write_json

MAKE = "dvc repro illustrations"
WHOLE = "image"  # the name of the validation image, the whole of it
QUALITY = 90  # of the images as JPEG
Grid = list[list[float | None]]  # a value for each place, row by row; None where a crop reaches beyond the image
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class OfClasses:
    """A value for the image's true class, and for another class: that for which the centre crop takes it."""

    true: float
    other: float


@dataclass(frozen=True)
class Places:
    """Posteriors of crops at the places of a grid. Places are the crops' upper left corners, pixels of the image."""

    tops: list[int]
    lefts: list[int]
    true: Grid  # (tops, lefts) posterior of the true class
    other: Grid


@dataclass(frozen=True)
class ScoreMap:
    """The class score map of an image before it is averaged, without the flipped image (section 3.2).

    Its cells stand for crops at `tops` and `lefts`. Posteriors are each cell's own softmax.
    """

    tops: list[int]
    lefts: list[int]
    true_scores: Grid  # before the softmax
    other_scores: Grid
    true: Grid  # posteriors
    other: Grid


@dataclass(frozen=True)
class CentralCrop:
    """How much of the image its central crop shows at one scale."""

    scale: int  # S, the paper's pixels
    height: int  # of the rescaled image, pixels
    width: int
    top: int  # of the crop
    left: int

    def share(self, crop: int) -> float:
        """Return which part of the image's area the crop is."""
        return crop * crop / (self.height * self.width)


@dataclass(frozen=True)
class ScoredImage:
    """A validation image as one net scores it at one scale."""

    id: str
    label: int  # number of its true class
    other: int  # number of the other class
    test_scale: int  # Q, the paper's pixels
    height: int  # of the rescaled image, pixels
    width: int
    dense: OfClasses  # posteriors of the dense evaluation, which averages the maps of the image and its flip
    centre: OfClasses  # posteriors of the central crop
    dense_right: bool  # whether the first guess is right
    centre_right: bool
    map: ScoreMap
    cut: Places  # crops at the places of the map's cells, cut out and so zero-padded at their own edges
    grid: Places  # the 5 x 5 crops of multi-crop evaluation
    scales: list[CentralCrop]  # S = 256 and 512


@dataclass(frozen=True)
class Draw:
    """How one training crop was drawn, in this profile's pixels."""

    height: int  # of the rescaled image
    width: int
    top: int  # of the crop
    left: int
    flip: bool
    shift: list[float]  # (3,) colour shift in grey levels of R, G and B


@dataclass(frozen=True)
class CropSeries:
    """The crops of the training image over the epochs at one training scale."""

    scales: list[int]  # smallest and largest S, the paper's pixels
    draws: list[Draw]  # one for each epoch


@dataclass(frozen=True)
class TrainingCrops:
    """Training crops of one image over the first epochs: those that the training stream yields with this seed."""

    id: str
    label: int
    seed: int
    series: list[CropSeries]  # S = 256, S = 384, S jittered


@dataclass(frozen=True)
class StackField:
    """What one output unit of stacked convolutions sees: its gradient for each input pixel, equal weights assumed."""

    kernels: list[int]  # sides, the first layer first
    gradient: Grid  # the middle output's, of a square input; its sum is 1


@dataclass(frozen=True)
class NetField:
    """The side of the square of input pixels that a unit of a net's last convolution sees."""

    net: str
    layer: str
    side: int  # pixels


@dataclass(frozen=True)
class ReceptiveFields:
    """The receptive fields that section 2.3 compares, and those of whole nets."""

    stacks: list[StackField] = field(default_factory=list)
    nets: list[NetField] = field(default_factory=list)


@dataclass(frozen=True)
class Illustrations:
    """Everything that the illustrations show. `images` is empty if the images are not there."""

    profile: str
    run: str
    manifest: str
    weights_sha256: str
    classes: list[str]
    crop: int  # pixels
    scored: ScoredImage
    training: TrainingCrops | None  # None where published weights are scored
    images: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # encoded, by name
    fields: ReceptiveFields = field(default_factory=ReceptiveFields)

    def pixels(self) -> dict[str, Pixels]:
        """Return the images by name, (height, width, 3) each; none if they are not there."""
        return {name: decoded(image) for name, image in self.images.items()}


def crop_name(series: int, epoch: int, plain: bool = False) -> str:
    """Return the name of a training crop: with the colour shift, as the net receives it, or `plain`."""
    return f"{'plain' if plain else 'crop'}-{series}-{epoch}"


def scale_name(scale: int) -> str:
    """Return the name of the central crop of the validation image at a scale."""
    return f"scale-{scale}"


def grid_values(grid: Grid) -> NDArray[np.float64]:
    """Return a grid as an array, NaN where there is no value."""
    return np.array(grid, float)


def encoded(pixels: Pixels, largest: int) -> bytes:
    """Return pixels (height, width, 3) as a JPEG whose longer side is at most `largest`."""
    image = Image.fromarray(pixels)
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def decoded(image: bytes) -> Pixels:
    """Return an encoded image as (height, width, 3)."""
    with Image.open(BytesIO(image)) as opened:
        return np.asarray(opened.convert("RGB"))


def write_illustrations(values: Illustrations) -> None:
    """Write the images, then the numbers."""
    arrays = {name: np.frombuffer(image, np.uint8) for name, image in values.images.items()}
    with whole(illustrated_images(values.profile)) as file:
        np.savez(file, allow_pickle=False, manifest=np.array(values.manifest), **arrays)
    document = asdict(values)
    del document["images"]
    write_json(illustrations(values.profile), document)


def read_illustrations(profile: str) -> Illustrations | None:
    """Return a profile's illustrations; None if there are none. Raise Failure if a file is broken."""
    path = illustrations(profile)
    if not path.exists():
        return None
    values = read_json(path, MAKE)
    try:
        return _illustrations(values, read_encoded(illustrated_images(profile), values["manifest"], MAKE))
    except (KeyError, TypeError) as reason:
        raise Failure(f"{path} cannot be read ({reason}); make it again with: {MAKE}") from None


def read_encoded(path: Path, manifest: str, make: str) -> dict[str, bytes]:
    """Return the encoded images in a file by name; none if they are not there or if they are of other images.

    Raise Failure, with the command `make`, if the file is broken.
    """
    if not path.exists():
        return {}
    with arrays_in(path, f"make it again with: {make}") as arrays:
        if str(arrays["manifest"]) != manifest:
            return {}
        return {name: array.tobytes() for name, array in arrays.items() if name != "manifest"}


def _illustrations(values: dict[str, Any], images: Mapping[str, bytes]) -> Illustrations:
    training, fields = values.pop("training"), values.pop("fields")
    return Illustrations(
        **{**values, "scored": _scored(values["scored"])},
        fields=_fields(fields),
        training=training and _training(training),
        images=images,
    )


def _scored(values: dict[str, Any]) -> ScoredImage:
    kinds = {"dense": OfClasses, "centre": OfClasses, "map": ScoreMap, "cut": Places, "grid": Places}
    typed = {name: kind(**values[name]) for name, kind in kinds.items()}
    return ScoredImage(**{**values, **typed, "scales": [CentralCrop(**scale) for scale in values["scales"]]})


def _training(values: dict[str, Any]) -> TrainingCrops:
    series = [CropSeries(row["scales"], [Draw(**draw) for draw in row["draws"]]) for row in values["series"]]
    return TrainingCrops(**{**values, "series": series})


def _fields(values: dict[str, Any]) -> ReceptiveFields:
    return ReceptiveFields([StackField(**row) for row in values["stacks"]], [NetField(**row) for row in values["nets"]])
