"""Copies in another size or encoding are told from the published images, and the published ones are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.datasets.sources.base import ImageFacts, Split
from pipeline.datasets.sources.ilsvrc import authenticity, reference
from pipeline.datasets.sources.ilsvrc.authenticity import KnownImage, doubts, known_images
from pipeline.datasets.sources.ilsvrc.names import IDS

Random = np.random.Generator
SIZES = ((375, 500), (333, 500), (500, 375), (480, 640), (500, 500), (281, 500), (768, 1024), (150, 120))
SHARES = (0.35, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05, 0.05)  # about as in ILSVRC-2012


def photographs(rng: Random, split: Split, count: int, known: bool = True) -> list[ImageFacts]:
    """Images of the usual sizes, the known ones among them; above 512 they were rescaled in preparation."""
    images = []
    for number, place in enumerate(rng.choice(len(SIZES), count, p=SHARES)):
        height, width = SIZES[int(place)]
        id = f"n01440764_{number + 50000}" if split == "train" else f"ILSVRC2012_val_{number + 90000:08d}"
        images.append(image(split, id, height, width))
    own = [(id, one) for id, one in known_images().items() if IDS[split].fullmatch(id)] if known else []
    return images + [image(split, id, one.sides[0], one.sides[1]) for id, one in own]


def image(split: Split, id: str, height: int, width: int) -> ImageFacts:
    """An image, prepared with a largest S of 512."""
    ratio = min(1.0, 512 / min(height, width)) if split == "train" else 1.0
    return ImageFacts(split, id, round(height * ratio), round(width * ratio), 110_000, "00", ratio < 1)


def resized(images: list[ImageFacts], shorter: int, square: bool = False) -> Iterator[ImageFacts]:
    """The images as a copy in one size has them."""
    for one in images:
        ratio = shorter / min(one.height, one.width)
        height, width = (shorter, shorter) if square else (round(one.height * ratio), round(one.width * ratio))
        yield one._replace(height=height, width=width, rescaled=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_published_images_raise_no_doubt(split: Split, rng: Random) -> None:
    assert doubts(iter(photographs(rng, split, 2000))) == []
    assert doubts(iter(photographs(rng, split, 20))) == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("shorter", "square"), [(64, True), (64, False), (256, False), (224, True)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_copies_in_one_size_are_named(split: Split, shorter: int, square: bool, known: bool, rng: Random) -> None:
    (first, *more) = doubts(resized(photographs(rng, split, 2000, known), shorter, square))
    assert f"have a shorter side of {shorter} pixels: they are resized" in first
    assert bool(more) == known


def test_copies_whose_longer_side_is_the_same_are_named(rng: Random) -> None:
    images = [one._replace(height=round(one.height * 256 / max(one.height, one.width)),
                           width=round(one.width * 256 / max(one.height, one.width)), rescaled=False)
              for one in photographs(rng, "val", 2000, known=False)]  # fmt: skip
    assert "have a longer side of 256 pixels" in doubts(iter(images))[0]


def test_a_few_images_of_a_small_copy_are_told_by_their_known_sizes(rng: Random) -> None:
    some = photographs(rng, "val", 0)
    (text,) = doubts(one._replace(height=one.height // 2, width=one.width // 2) for one in some)
    assert f"{len(some)} of {len(some)} images of known size or content differ, such as ILSVRC2012_val_00003545" in text
    assert doubts(iter([some[0]._replace(height=9), *some[1:]])) == [], "one odd image is no copy"


def test_a_complete_split_that_is_encoded_anew_is_named(rng: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(rng, "val", 2000)
    monkeypatch.setattr(reference, "IMAGES", {"train": 1, "val": len(images)})
    whole = len(images) * 110_000
    monkeypatch.setattr(reference, "ARCHIVE_BYTES", {"train": 1, "val": whole + 768 * len(images)})
    assert doubts(iter(images)) == []
    for length in (90_000, 120_000):
        (text,) = doubts(one._replace(bytes=length) for one in images)
        assert f"{len(images) * length:,} bytes" in text and "encoded anew" in text


def test_the_archives_lengths_fit_images_of_the_usual_length() -> None:
    for split, whole in reference.ARCHIVE_BYTES.items():
        headers = reference.IMAGES[split] * (512 + 511)  # of a tar, and its padding at most
        assert authenticity.CONTENT * whole < whole - headers < whole


def test_other_bytes_of_a_known_hash_are_named(rng: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    some = photographs(rng, "val", 0)
    hashes = {one.id: KnownImage(tuple(sorted((one.height, one.width))), "00") for one in some}  # type: ignore[arg-type]
    monkeypatch.setattr(authenticity, "known_images", lambda: hashes)
    assert doubts(iter(some)) == []
    (text,) = doubts(one._replace(sha256="11") for one in some)
    assert "whose bytes are others" in text


def test_known_images_have_published_names_and_plausible_sizes() -> None:
    for id, one in known_images().items():
        assert IDS["val" if "val" in id else "train"].fullmatch(id)
        assert 50 < one.sides[0] <= one.sides[1] < 5000
        assert len(one.sha256) in (0, 64)
