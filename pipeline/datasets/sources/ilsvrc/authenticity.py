"""Whether the images are the published ones: not resized and not re-encoded.

The sizes of a sample are in known_images.csv. They are those that timm's WebDataset copy of the data set states in its
json members, as shown by Hugging Face. No hashes of single images are published; the column `sha256` takes them if
they become known. The lengths of the archives are published, so the images of a complete split have to add up to them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pipeline.datasets.sources.base import ImageFacts, Split
from pipeline.datasets.sources.ilsvrc import reference
from pipeline.datasets.sources.ilsvrc.reference import CALLED

ALIKE = 0.8  # share of images with the same side; of the published ones, 375 pixels are the most frequent shorter side
ODD = 0.1  # share of the sample that may differ
CONTENT = 0.98  # least share of the images in the archives' bytes: the rest is headers and padding
USUAL_LONGER = 500  # pixels; most published images have this longer side
ENOUGH = 100  # images of which the sides are compared with each other


class KnownImage(NamedTuple):
    """What is known about one published image."""

    sides: tuple[int, int]  # pixels, the shorter first
    sha256: str  # of the file; empty if it is not known


def doubts(images: Iterator[ImageFacts]) -> list[str]:
    """Return why the images are others than the published ones, as far as sizes and hashes show it."""
    known, compared, differing = known_images(), 0, list[str]()
    sides, counts, lengths = Counter[tuple[Split, int, int]](), Counter[Split](), Counter[Split]()
    for image in images:
        counts[image.split] += 1
        lengths[image.split] += image.bytes
        if not image.rescaled:
            sides[image.split, min(image.height, image.width), max(image.height, image.width)] += 1
        if found := known.get(image.id):
            compared += 1
            differing += [_difference(image, found)] * (not _is_alike(image, found))
    texts = [text for split in counts for text in _resized(split, counts[split], sides)]
    if len(differing) > ODD * compared:
        texts.append(f"{len(differing)} of {compared} images of known size or content differ, such as {differing[0]}")
    return texts + [text for split in counts for text in _reencoded(split, counts[split], lengths[split])]


@cache
def known_images() -> dict[str, KnownImage]:
    """Return the published images that can be compared, by id."""
    lines = files(__package__).joinpath("known_images.csv").read_text().splitlines()
    rows = [(row["id"], int(row["width"]), int(row["height"]), row["sha256"]) for row in csv.DictReader(lines)]
    return {id: KnownImage((min(width, height), max(width, height)), sha256) for id, width, height, sha256 in rows}


def _is_alike(image: ImageFacts, known: KnownImage) -> bool:
    """Return whether an image may be the published one. An image that was rescaled has its aspect ratio."""
    short, long = sorted((image.height, image.width))
    if known.sha256 and image.sha256 != known.sha256:
        return False
    if not image.rescaled:
        return (short, long) == known.sides
    return short < known.sides[0] and abs(long - short * known.sides[1] / known.sides[0]) < 1.5


def _difference(image: ImageFacts, known: KnownImage) -> str:
    """Return how an image differs from the published one."""
    short, long = sorted((image.height, image.width))
    if (short, long) == known.sides:
        return f"{image.id}, whose bytes are others"
    return f"{image.id}, with sides of {short} and {long} pixels and not {known.sides[0]} and {known.sides[1]}"


def _resized(split: Split, images: int, sides: Counter[tuple[Split, int, int]]) -> Iterator[str]:
    """Yield a text if nearly all images of a split have the same shorter or longer side."""
    if images < ENOUGH:
        return
    for place, name in ((1, "shorter"), (2, "longer")):
        each = Counter[int]()
        for key, count in sides.items():
            if key[0] == split:
                each[int(key[place])] += count
        side, count = each.most_common(1)[0] if each else (0, 0)
        if count > ALIKE * images and (name == "shorter" or side < USUAL_LONGER):
            share = f"{100 * count / images:.0f} % of the {CALLED[split]} images"
            yield f"{share} have a {name} side of {side} pixels: they are resized"
            return


def _reencoded(split: Split, images: int, length: int) -> Iterator[str]:
    """Yield a text if a complete split has more or fewer bytes than its published archive holds."""
    whole = reference.ARCHIVE_BYTES[split]
    if images == reference.IMAGES[split] and not CONTENT * whole <= length <= whole:
        yield f"the {CALLED[split]} images have {length:,} bytes, not about {whole:,}: they are encoded anew"
