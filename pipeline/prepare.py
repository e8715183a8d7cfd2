"""Preparation: a source's images decoded, the large ones rescaled, and written as shards (sections 3.1, 3.2).

The shards lie in a folder named by a hash of the source's fingerprint and of the parameters, outside of what DVC
tracks and deletes; several clones may share it. The manifest and the facts lie in it too and are copied to their place.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.device import has_gpu
from pipeline.errors import Failure
from pipeline.facts import Facts
from pipeline.files import digest, read_json, sha256, whole, write_json
from pipeline.lock import alone
from pipeline.params import Params
from pipeline.params import Prepare as PrepareParams
from pipeline.paths import MANIFEST, SHARDS, shards_root
from pipeline.progress import Progress
from pipeline.shards import Shards, ShardWriter
from pipeline.sources import fingerprint, open_source
from pipeline.sources.base import SPLITS, Item, Source
from vgg.draws import rescaled
from vgg.images import rescale

BATCH = 32  # images decoded at a time
COLUMNS = ("split", "id", "class", "height", "width", "bytes", "sha256")
READABLE = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # what DALI decodes
NO_BOX = (float("nan"),) * 4


def shards_key(params: Params) -> str:
    """The name of the prepared data set's folder: a hash of all that its bytes depend on."""
    prepare = params.chosen.prepare.model_dump(exclude={"device"})
    largest = params.chosen.net.pixels(params.largest_scale)
    return digest([fingerprint(params.chosen), prepare, largest, params.method.prepare])[:16]


def prepare(params: Params) -> Facts:
    """Make the data set's shards unless they are there; write the manifest and the facts. Failure names a bad image."""
    folder = shards_root() / shards_key(params)
    if not is_whole(folder):
        with alone(folder.with_suffix(".lock"), "preparing this data set"):
            if not is_whole(folder):  # somebody else may have made it just now
                _make(params, folder)
    with (folder / "manifest.csv").open("rb") as source, whole(MANIFEST) as target:
        shutil.copyfileobj(source, target)
    with whole(SHARDS) as file:
        file.write(f"{folder.name}\n".encode())
    found = _read(folder)
    found.write(params.profile)
    return found


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds a complete prepared data set."""
    try:
        for split in SPLITS:
            Shards(folder, split)
        return sha256(folder / "manifest.csv") == _read(folder).manifest
    except (Failure, OSError, TypeError):
        return False


def _read(folder: Path) -> Facts:
    return Facts(**read_json(folder / "facts.json", "vgg-repro prepare"))


def _make(params: Params, folder: Path) -> None:
    """Write the data set beside its place, then move it there."""
    partial = folder.with_name(folder.name + ".partial")
    try:
        for stale in (partial, folder):
            shutil.rmtree(stale, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(partial / "facts.json", asdict(_write_splits(params, partial)))
        partial.rename(folder)
    except OSError as error:
        raise Failure(f"the shards could not be written to {folder}: {error.strerror or error}") from error


def _write_splits(params: Params, folder: Path) -> Facts:
    """Write both splits' shards and the manifest into `folder`, and say what was seen."""
    source, wanted = open_source(params.chosen), params.chosen.prepare
    largest = params.chosen.net.pixels(params.largest_scale)
    colours, smaller = Colours(), 0
    with (folder / "manifest.csv").open("w", newline="") as file:
        manifest = csv.writer(file, lineterminator="\n")
        manifest.writerow(COLUMNS)
        for split in SPLITS:
            if not source.count(split):
                raise Failure(f"the source {source.name} has no image in its part {split}")
            limit = largest if split == "train" and wanted.rescale == "train" else None
            writer = ShardWriter(folder, split, wanted.shard_mb << 20)
            with writer, Progress(f"prepare {split}", source.count(split), "images") as progress:
                for done in _decoded(source.items(split), limit, wanted):
                    writer.add(done.item.id, done.item.label, done.stored, done.size, done.box)
                    manifest.writerow(_manifest_row(split, done))
                    if split == "train":
                        colours.add(done.pixels)
                        smaller += done.stored is not done.item.encoded
                    progress.advance()
    return _facts(source, sha256(folder / "manifest.csv"), colours, smaller)


@dataclass
class Decoded:
    """An image as it came and as it is stored."""

    item: Item
    stored: bytes
    size: tuple[int, int]  # (height, width) as stored, pixels
    box: tuple[float, float, float, float]  # in the stored image
    pixels: NDArray[np.uint8]  # (height, width, 3) as stored or about to be encoded


def _decoded(items: Iterator[Item], largest: int | None, params: PrepareParams) -> Iterator[Decoded]:
    """Each item decoded, and made as small as `largest` if its smallest side is above it."""
    waiting: deque[tuple[Item, NDArray[np.int64], NDArray[np.int64]]] = deque()
    for batch in _named(rescale(_samples(items, largest, waiting), BATCH, gpu=has_gpu(params.device)), waiting):
        pixels = batch.as_cpu() if hasattr(batch, "as_cpu") else batch
        for i in range(len(pixels)):
            item, old, new = waiting.popleft()
            picture = np.array(pixels.at(i))
            same = bool((old == new).all())
            stored = item.encoded if same else encode(picture, params.quality, params.chroma)
            box = NO_BOX if item.box is None else _scaled(item.box, new / old)
            yield Decoded(item, stored, (int(new[0]), int(new[1])), box, picture)


def _named(batches: Iterator[Any], waiting: deque[Any]) -> Iterator[Any]:
    """The same batches; where DALI cannot decode one that Pillow could, a Failure that names its images."""
    try:
        yield from batches
    except RuntimeError as reason:
        names = ", ".join(item.id for item, _, _ in list(waiting)[:BATCH])
        raise Failure(
            f"DALI cannot decode one of these images: {names} ({str(reason).strip().splitlines()[-1]})"
        ) from None


def _samples(items: Iterator[Item], largest: int | None, waiting: deque[Any]) -> Iterator[Any]:
    for group in _batches(items):
        old = np.array([size_of(item) for item in group])  # (N, 2): height, width
        new = old
        if largest is not None:
            small = np.stack(rescaled(old[:, 0], old[:, 1], largest), 1)
            new = np.where(old.min(1, keepdims=True) > largest, small, old)
        waiting.extend(zip(group, old, new, strict=True))
        yield [np.frombuffer(item.encoded, np.uint8) for item in group], new[:, 0], new[:, 1]


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def size_of(item: Item) -> tuple[int, int]:
    """An image's (height, width) in pixels. Failure, by name, if it does not decode whole: DALI may die of such."""
    try:
        with Image.open(io.BytesIO(item.encoded)) as picture:
            if picture.format not in READABLE:
                raise Failure(f"{item.id} is a {picture.format} image, which is not read")
            picture.load()
            return picture.height, picture.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Failure(f"{item.id} is no image that can be decoded: {error}") from None


def encode(pixels: NDArray[np.uint8], quality: int, chroma: str) -> bytes:
    """RGB pixels (height, width, 3) as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    return buffer.getvalue()


def _scaled(box: tuple[int, int, int, int], ratio: NDArray[np.float64]) -> tuple[float, float, float, float]:
    down, across = float(ratio[0]), float(ratio[1])
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _manifest_row(split: str, done: Decoded) -> list[object]:
    encoded = done.item.encoded
    return [split, done.item.id, done.item.label, *done.size, len(encoded), hashlib.sha256(encoded).hexdigest()]


@dataclass
class Colours:
    """The mean RGB and the RGB covariance of images, each weighing the same whatever its size, as in training."""

    images: int = 0
    first: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # sum of the images' means
    second: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))  # of their second moments

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Count one image (height, width, 3)."""
        flat = pixels.reshape(-1, 3).astype(np.float64)
        self.images += 1
        self.first += flat.mean(0)
        self.second += flat.T @ flat / len(flat)

    def mean(self) -> NDArray[np.float64]:
        """(3,) in grey levels."""
        return self.first / self.images

    def covariance(self) -> NDArray[np.float64]:
        """(3, 3) in squared grey levels."""
        return self.second / self.images - np.outer(self.mean(), self.mean())


def _facts(source: Source, manifest: str, colours: Colours, smaller: int) -> Facts:
    covariance = colours.covariance()
    values, vectors = np.linalg.eigh(covariance)
    return Facts(
        source=source.name,
        about=source.about,
        comparable=source.comparable,
        classes=source.classes(),
        train=source.count("train"),
        val=source.count("val"),
        rescaled=smaller,
        mean_rgb=colours.mean().tolist(),
        covariance=covariance.tolist(),
        eigenvalues=values.tolist(),
        eigenvectors=vectors.T.tolist(),
        manifest=manifest,
    )
