"""Photograph-like random JPEGs, images in memory as the stream wants them, and PIL's word on how they are rescaled."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from pipeline.system.decoders import has_dali
from tests.support import ROOT

Pixels = NDArray[np.uint8]

NO_DALI = not has_dali()
needs_dali = pytest.mark.skipif(NO_DALI, reason="DALI is not installed")
DECODERS = (pytest.param("dali", marks=needs_dali), "pillow")
USUAL = "pillow" if NO_DALI else "dali"  # what `auto` means here

# DALI rounds once and PIL after each of its two passes: at most 1.5 grey levels apart; on average 0.17, and 0.27 where
# a ratio of exactly 2 makes ties of all roundings
GREY_LEVELS, GREY_LEVELS_ON_AVERAGE = 2, 0.3
# at the image's rim DALI repeats the last pixel where PIL leaves out what is missing; an edge from black to white just
# there, halved in size, comes out 20 grey levels apart
GREY_LEVELS_AT_THE_RIM = 20


def run_seed() -> int:
    """Return the seed of the whole run, for fixtures of a module."""
    return int(os.environ["TEST_SEED"])


def photograph(random: np.random.Generator, height: int, width: int, things: int = 6) -> Pixels:
    """Light and shade at every scale, some things with edges, and grain: (height, width, 3)."""
    total = np.full((height, width, 3), random.uniform(90, 160, 3), np.float32)
    for cells, strength in ((3, 40), (8, 25), (24, 15), (70, 8)):
        blobs = np.clip(128 + strength * random.standard_normal((cells, cells, 3)), 0, 255).astype(np.uint8)
        total += np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128
    picture = Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(things):
        (left, right), (top, bottom) = np.sort(random.uniform(0, width, 2)), np.sort(random.uniform(0, height, 2))
        pen.ellipse((left, top, right, bottom), fill=tuple(int(level) for level in random.integers(0, 256, 3)))
    grain = random.normal(0, 3, (height, width, 1))
    return np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int = 90) -> bytes:
    """Pixels (height, width, 3) as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class Pictures:
    """Encoded images in memory, as vgg.images.Images has them."""

    def __init__(self, encoded: Sequence[bytes], labels: Sequence[int]) -> None:
        sizes = np.array([size(data) for data in encoded])
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        self.labels = np.asarray(labels, np.int64)
        self.encoded = [np.frombuffer(data, np.uint8) for data in encoded]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, image: int) -> Pixels:
        return self.encoded[image]


def photographs(random: np.random.Generator, sizes: Iterable[tuple[int, int]], things: int = 6) -> Pictures:
    """A photograph of each size (height, width), with random labels."""
    encoded = [jpeg(photograph(random, *sides, things), int(random.integers(75, 97))) for sides in sizes]
    return Pictures(encoded, random.integers(0, 1000, len(encoded)).tolist())


def size(encoded: bytes) -> tuple[int, int]:
    """The (height, width) that are stored."""
    with Image.open(io.BytesIO(encoded)) as picture:
        return picture.height, picture.width


def decoded(encoded: bytes | Pixels) -> Pixels:
    """PIL's pixels (height, width, 3)."""
    with Image.open(io.BytesIO(bytes(encoded))) as picture:
        return np.asarray(picture.convert("RGB"))


def gaps_around_ink(encoded: bytes, box: Sequence[float]) -> tuple[float, float, float, float]:
    """How far a drawn image's ink is inside its box: left, top, right, bottom.

    Ink is what is darker than the paper: by 25 grey levels, which JPEG's ringing on plain paper stays below.
    """
    grey = decoded(encoded) @ np.array([0.299, 0.587, 0.114])
    paper = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    dark = grey < paper - 25
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    left, top, right, bottom = box
    return columns[0] - left, rows[0] - top, right - 1 - columns[-1], bottom - 1 - rows[-1]


def resized(encoded: bytes | Pixels, height: int, width: int) -> Pixels:
    """PIL's antialiased bilinear rescaling of the whole image, (height, width, 3)."""
    picture = Image.fromarray(decoded(encoded))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def rim(height: int, width: int) -> NDArray[np.bool_]:
    """Where an image's outermost pixels are, (height, width)."""
    mask = np.ones((height, width), bool)
    mask[1:-1, 1:-1] = False
    return mask


def check_grey_levels(pixels: Pixels, wanted: Pixels, at_rim: NDArray[np.bool_], what: str) -> None:
    """`pixels` differ from `wanted` by no more than two good resamplers do."""
    assert pixels.shape == wanted.shape, what
    apart = np.abs(pixels.astype(np.int64) - wanted.astype(np.int64)).max(2)
    inside, outside = apart[~at_rim].max(initial=0), apart[at_rim].max(initial=0)
    assert inside <= GREY_LEVELS, f"{what}: {inside} grey levels apart"
    assert outside <= GREY_LEVELS_AT_THE_RIM, f"{what}: {outside} grey levels apart at the rim"
    mean = np.abs(pixels.astype(np.int64) - wanted.astype(np.int64)).mean()
    assert mean < GREY_LEVELS_ON_AVERAGE, f"{what}: {mean:.3f} grey levels apart on average"


def repository_params(folder: Path, **changes: dict[str, object]) -> Params:
    """The repository's params.yaml with keys of the profile's blocks changed, read from `folder`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block, keys in changes.items():
        values["profiles"][values["profile"]][block].update(keys)
    path = folder / f"params-{len(list(folder.glob('params-*')))}.yaml"
    path.write_text(yaml.safe_dump(values))
    return load(path)
