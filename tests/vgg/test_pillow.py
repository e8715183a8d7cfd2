"""The decoder without DALI: on hard images its pixels are DALI's to a grey level, and what is broken is an error."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from tests.support.images import (
    GREY_LEVELS,
    GREY_LEVELS_AT_THE_RIM,
    Pictures,
    Pixels,
    decoded,
    jpeg,
    needs_dali,
    photograph,
    photographs,
    rim,
)
from vgg import pillow
from vgg.images import Decoder, rescaled_batches
from vgg.stream import StreamConfig, training_stream

Random = np.random.Generator


def encoded(picture: Pixels, mode: str = "RGB", kind: str = "JPEG", **how: object) -> bytes:
    """Pixels in a mode and a format of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


def turned_by_exif(random: Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photograph(random, 90, 130), exif=exif)


def deep_grey(random: Random) -> bytes:
    buffer = io.BytesIO()
    levels = photograph(random, 90, 130)[:, :, 0].astype(np.uint16) * 256 + random.integers(0, 256, (90, 130))
    Image.fromarray(levels.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


HARD: dict[str, Callable[[Random], bytes]] = {
    "grey": lambda random: encoded(photograph(random, 90, 130), "L"),
    "exif": turned_by_exif,
    "16 bits": deep_grey,
    "progressive": lambda random: encoded(photograph(random, 90, 130), progressive=True),
    "chroma of odd sides": lambda random: encoded(photograph(random, 91, 133), subsampling="4:2:0"),
    "one pixel": lambda random: encoded(photograph(random, 1, 1)),
    "one row": lambda random: encoded(photograph(random, 1, 70)),
    "one column": lambda random: encoded(photograph(random, 70, 1)),
    "very long": lambda random: encoded(photograph(random, 20, 640)),
    "very high": lambda random: encoded(photograph(random, 640, 20)),
    "palette": lambda random: encoded(photograph(random, 90, 130), "P", "PNG"),
    "webp": lambda random: encoded(photograph(random, 90, 130), kind="WEBP"),
    "junk at the end": lambda random: encoded(photograph(random, 90, 130)) + random.bytes(40),
}


def both(images: list[bytes], *sizes: tuple[int, int]) -> tuple[list[Pixels], list[Pixels]]:
    """The pixels of DALI and of the decoder without it, whole or rescaled to sizes (height, width)."""
    data = [np.frombuffer(image, np.uint8) for image in images]
    wanted = np.array(sizes) if sizes else None
    dali, ours = (Decoder(len(data), decoder=name)(data, wanted) for name in ("dali", "pillow"))
    return dali, ours


@needs_dali
@pytest.mark.parametrize("kind", HARD)
def test_hard_images_are_dalis_whole_and_rescaled(kind: str, rng: Random, seed: int) -> None:
    image = HARD[kind](rng)
    ((dali,), (ours,)) = both([image])
    assert ours.shape == dali.shape
    assert np.abs(ours.astype(int) - dali).max() <= (1 if kind == "16 bits" else 0), seed
    height, width = dali.shape[:2]
    for size in ((height * 3 + 1, width * 3 + 2), (max(height // 2, 1), max(width // 3, 1))):  # enlarged and reduced
        ((dali,), (ours,)) = both([image], size)
        apart, outside = np.abs(ours.astype(int) - dali).max(2), rim(*size)
        assert apart[~outside].max(initial=0) <= GREY_LEVELS, (size, seed)
        assert apart[outside].max() <= GREY_LEVELS_AT_THE_RIM, (size, seed)


@needs_dali
def test_cmyk_is_as_dali_shows_it(rng: Random, seed: int) -> None:
    ((dali,), (ours,)) = both([encoded(photograph(rng, 90, 130), "CMYK")])
    assert np.abs(ours.astype(int) - dali).max() <= 1, seed


@needs_dali
def test_training_crops_and_whole_images_are_dalis_to_a_grey_level(rng: Random, seed: int) -> None:
    """But for a rim, where DALI repeats the last pixel; photographs without edges there are as near at the rim."""
    sizes = [(375, 500), (500, 375), (60, 80), (700, 900), (40, 400), *rng.integers(60, 520, (5, 2)).tolist()]
    images = photographs(rng, sizes, things=0)
    plan = StreamConfig(seed, len(sizes), 96, (110, 220))
    for dali, ours in zip(
        *(islice(training_stream(images, plan, decoder=name), 3) for name in ("dali", "pillow")), strict=True
    ):
        assert np.array_equal(dali.ids, ours.ids)
        apart = (dali.pixels.int() - ours.pixels.int()).abs()
        assert (apart > 1).float().mean() < 0.001 and apart.max() <= GREY_LEVELS_AT_THE_RIM, seed
        assert apart.float().mean() < 0.25, seed
    for dali, ours in zip(
        *(rescaled_batches(images, 128, 4, decoder=name) for name in ("dali", "pillow")), strict=True
    ):
        apart = (dali.pixels.int() - ours.pixels.int()).abs()
        assert (apart > 1).float().mean() < 0.001 and apart.max() <= GREY_LEVELS_AT_THE_RIM, seed


@pytest.mark.parametrize("resize", pillow.FILTERS)
def test_whole_images_are_exactly_pillows(resize: str, rng: Random, seed: int) -> None:
    images = photographs(rng, [(90, 120), (300, 200), (64, 64)])
    for pixels, ids in rescaled_batches(images, 64, 2, decoder="pillow", resize=resize):
        for found, image in zip(pixels.permute(0, 2, 3, 1).numpy(), ids.tolist(), strict=True):
            whole = Image.fromarray(decoded(images[image]))
            wanted = whole.resize((found.shape[1], found.shape[0]), pillow.FILTERS[resize])
            assert np.array_equal(found, wanted), (seed, image)


def test_a_crop_is_cut_from_the_whole_rescaled_image(rng: Random, seed: int) -> None:
    pixels = photograph(rng, 150, 210)
    for height, width in ((150, 210), (300, 420), (110, 154), (71, 100)):
        top, left = int(rng.integers(height - 63)), int(rng.integers(width - 63))
        whole = pillow.resized(pixels, height, width)[top : top + 64, left : left + 64]
        crop = pillow.cropped(pixels, height, width, top, left, 64)
        assert np.abs(crop.astype(int) - whole).max() <= 1, (seed, height, top, left)


BROKEN: dict[str, Callable[[Random], bytes]] = {
    "nothing": lambda _: b"",
    "text": lambda _: b"<html>",
    "cut": lambda random: jpeg(photograph(random, 90, 130))[:-900],
    "only a head": lambda _: b"\xff\xd8\xff\xe0",
    "a PNG that is cut": lambda random: encoded(photograph(random, 90, 130), kind="PNG")[:-900],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_an_error_and_does_no_harm_to_others(kind: str, rng: Random) -> None:
    decoder, good = Decoder(2, decoder="pillow"), np.frombuffer(jpeg(photograph(rng, 40, 50)), np.uint8)
    with pytest.raises(RuntimeError, match="Pillow cannot decode the image"):
        decoder([good, np.frombuffer(BROKEN[kind](rng), np.uint8)])
    assert decoder([good])[0].shape == (40, 50, 3)


def test_a_broken_image_ends_the_stream_with_the_error(rng: Random) -> None:
    images = Pictures([jpeg(photograph(rng, 90, 130)) for _ in range(4)], [0] * 4)
    images.encoded[2] = images.encoded[2][:-900]
    with pytest.raises(RuntimeError, match="Pillow cannot decode the image"):
        next(training_stream(images, StreamConfig(0, 4, 32, (40, 40)), decoder="pillow"))


def test_memory_that_runs_out_is_no_broken_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        pillow.decoded(np.zeros(9, np.uint8))
