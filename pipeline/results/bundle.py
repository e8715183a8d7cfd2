"""What a bundle of a profile's results holds: everything that its report is rendered from, by rule, not by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import LOCKFILE, PARAMS, errors, posteriors, provenance_record, results
from pipeline.experiment.targets import scored
from pipeline.results.array_file import arrays_in
from pipeline.results.bundle_file import Content
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import read_json

GRAPH, CITATION = Path("dvc.yaml"), Path("CITATION.cff")
README = "README.md"  # of the bundle
VALUES = (".json", ".csv", ".npz", ".yaml")
IMAGE_FILES = (".png", ".jpg", ".jpeg", ".webp")


def result_files(found: Results, rendered: Collection[str], kept: Iterable[Path]) -> dict[str, Content]:
    """Return the files that the report of a profile is rendered from, by their names in the bundle.

    `rendered` are the names of the files that the report writes; `kept` are those of its pages that it cannot render
    again. Images, and arrays of images, are not among them. Raise Failure if there is no dvc.yaml.
    """
    if not GRAPH.exists():
        raise Failure(f"{GRAPH} is missing; restore it with: git checkout {GRAPH}")
    folder = results(found.profile)
    values = [path for path in _inside(folder, VALUES) if str(path.relative_to(folder)) not in rendered]
    records = [provenance_record(stage) for stage, record in found.provenance.items() if record]
    whole = [path for path in (PARAMS, LOCKFILE, GRAPH, CITATION) if path.exists()]
    return _named(*whole, *(path for path in values if not _holds_images(path)), *kept, *records)


def image_files(found: Results, rendered: Collection[str]) -> dict[str, Content]:
    """Return the images, and the arrays of images, that the report shows and does not draw itself."""
    folder = results(found.profile)
    images = [path for path in _inside(folder, IMAGE_FILES) if str(path.relative_to(folder)) not in rendered]
    return _named(*images, *(path for path in _inside(folder, (".npz",)) if _holds_images(path)))


def posterior_files(params: Params, profile: str) -> dict[str, Content]:
    """Return the posteriors of a profile that are on this machine, with the errors computed from them.

    There are none unless the profile is the active one.
    """
    wanted = scored(params) if profile == params.profile else []
    paths = [(posteriors(*score), errors(*score)) for score in wanted]
    return _named(*(path for pair in paths if _are_of(profile, *pair) for path in pair))


def _are_of(profile: str, arrays: Path, record: Path) -> bool:
    return arrays.exists() and record.exists() and read_json(record, "dvc repro").get("profile") == profile


def _inside(folder: Path, kinds: Collection[str]) -> Iterator[Path]:
    """Yield the files below a folder with these endings, without hidden ones, which are being written."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in kinds and path.is_file() and not path.name.startswith("."):
            yield path


def _holds_images(path: Path) -> bool:
    """Return True for a file of arrays of which one is an image."""
    if path.suffix != ".npz":
        return False
    try:
        with arrays_in(path, "") as arrays:
            return any(map(_is_image, arrays.values()))
    except Failure:  # what reads it says so
        return False


def _is_image(array: NDArray[Any]) -> bool:
    """Return True for pixels in three colours, and for the bytes of an image file."""
    if array.dtype != np.uint8 or array.ndim != 1:
        return array.dtype == np.uint8 and array.ndim > 2 and array.shape[-1] == 3
    try:
        with Image.open(BytesIO(array.tobytes())):
            return True
    except UnidentifiedImageError:
        return False


def _named(*paths: Path) -> dict[str, Content]:
    return {path.as_posix(): path for path in paths}
