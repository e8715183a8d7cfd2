"""Values with small encoded images beside them: the numbers are JSON, the images an archive of bytes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import Failure
from pipeline.results.array_file import arrays_in
from pipeline.system.atomic_files import read_json, whole, write_json

QUALITY = 90  # of the images as JPEG
Pixels = NDArray[np.uint8]
T = TypeVar("T")


class WithImages:
    """A base of dataclasses whose `images` are encoded, and empty if the images are not there."""

    manifest: str
    images: Mapping[str, bytes]  # by name

    def pixels(self) -> dict[str, Pixels]:
        """Return the images by name, (height, width, 3) each; none if they are not there."""
        return {name: decoded(image) for name, image in self.images.items()}


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


def write_values(values: Any, numbers: Path, images: Path) -> None:
    """Write a dataclass with images: the images to one file, then the numbers to the other."""
    arrays = {name: np.frombuffer(image, np.uint8) for name, image in values.images.items()}
    with whole(images) as file:
        np.savez(file, allow_pickle=False, manifest=np.array(values.manifest), **arrays)
    document = asdict(values)
    del document["images"]
    write_json(numbers, document)


def read_values(
    numbers: Path, images: Path, make: str, build: Callable[[dict[str, Any], Mapping[str, bytes]], T]
) -> T | None:
    """Return what `build` makes of the numbers and the images; None if there are no numbers.

    Raise Failure, with the command `make`, if a file is broken.
    """
    if not numbers.exists():
        return None
    values: dict[str, Any] = read_json(numbers, make)
    try:
        return build(values, read_encoded(images, values["manifest"], make))
    except (KeyError, TypeError) as reason:
        raise Failure(f"{numbers} cannot be read ({reason}); make it again with: {make}") from None


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
