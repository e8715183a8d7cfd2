"""One encoded image: every kind kept or converted without loss, decoders see Pillow's pixels, bad ones are named."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageOps, TiffImagePlugin, features

from pipeline.datasets.image_file import (
    AS_IT_IS,
    ORIENTATION,
    TURNS,
    encode,
    libjpegs_warning,
    look,
    odd_kind,
    recoded,
    turned,
    turned_box,
)
from pipeline.datasets.sources.base import Unreadable
from tests.support.cases import case
from tests.support.images import DECODERS, Pixels, decoded, photograph
from vgg.images import Decoder

MAX_ASPECT = 32.0
LAST_OF_PNG = 12 + 4 + 4  # bytes: the end's chunk, and of the chunk before its CRC and zlib's sum
Random = np.random.Generator
Levels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ExpectedImage:
    """An image that a test made, and what is to come of it."""

    encoded: bytes
    pixels: Pixels  # (height, width, 3) upon white
    converted: str = ""
    apart: int = 0  # grey levels allowed


def saved(picture: Image.Image, kind: str, **how: Any) -> bytes:
    """What Pillow makes of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def scene(random: Random) -> Image.Image:
    """A small photograph."""
    return Image.fromarray(photograph(random, *random.integers(18, 60, 2).tolist()))


def veil(random: Random, picture: Image.Image) -> Image.Image:
    """Opacity at random, every degree of it, with all of one corner clear."""
    levels = random.integers(0, 256, (picture.height, picture.width)).astype(np.uint8)
    levels[:3, :3] = 0
    return Image.fromarray(levels)


def veiled(random: Random, mode: str = "RGB") -> Image.Image:
    """A photograph with opacity."""
    picture = scene(random).convert(mode)
    picture.putalpha(veil(random, picture))
    return picture


def on_white(picture: Image.Image) -> Pixels:
    """By the formula: what is c at opacity a shows as a c + (1 - a) white."""
    layer = np.asarray(picture.convert("RGBA")) / 1.0
    opacity = layer[:, :, 3:] / 255
    return np.rint(layer[:, :, :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_by_hand(levels: Levels, bits: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG of levels (height, width, ...) with eight or sixteen `bits` each and PNG's number of a `colour` type."""
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in levels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep(random: Random, *channels: int) -> Levels:
    """Levels of sixteen bits, the ends and the ties of rounding among them: (height, width, *channels)."""
    levels = random.integers(0, 65536, (*random.integers(18, 60, 2).tolist(), *channels))
    levels.reshape(-1)[:6] = 0, 65535, 128, 129, 65406, 65407
    return levels


def eight_bits(levels: Levels) -> Pixels:
    """Sixteen bits to RGB of eight: 65535 is 255 times 257."""
    pixels = np.rint(levels / 257).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def kept(encoded: bytes) -> ExpectedImage:
    """Stays as it is, and Pillow says how it looks."""
    return ExpectedImage(encoded, decoded(encoded))


def as_made(picture: Image.Image, kind: str, converted: str = "", **how: Any) -> ExpectedImage:
    """A kind that loses nothing, so that the picture itself says how it looks."""
    pixels = on_white(picture) if picture.has_transparency_data else np.asarray(picture.convert("RGB"))
    return ExpectedImage(saved(picture, kind, **how), pixels, converted)


def jpeg_kind(mode: str = "RGB", **how: Any) -> Callable[[Random], ExpectedImage]:
    return lambda random: kept(saved(scene(random).convert(mode), "JPEG", **how))


def cmyk_jpeg(random: Random) -> ExpectedImage:
    encoded = saved(scene(random).convert("CMYK"), "JPEG")
    return ExpectedImage(encoded, decoded(encoded), "JPEG in CMYK")


def lossy(picture: Image.Image, kind: str, converted: str, **how: Any) -> ExpectedImage:
    """A kind that loses something and is converted: Pillow's layers, put on white by hand."""
    encoded = saved(picture, kind, **how)
    with Image.open(io.BytesIO(encoded)) as again:
        return ExpectedImage(encoded, on_white(again), converted)


def deep_grey_png(random: Random) -> ExpectedImage:
    levels = deep(random)
    return ExpectedImage(png_by_hand(levels, 16, 0), eight_bits(levels))


def deep_png(random: Random) -> ExpectedImage:
    levels = deep(random, 3)
    return ExpectedImage(png_by_hand(levels, 16, 2), eight_bits(levels))


def deep_png_with_alpha(random: Random) -> ExpectedImage:
    """Clear or opaque; Pillow keeps the upper eight bits here and rounds nothing, so a level apart."""
    levels = deep(random, 4)
    levels[:, :, 3] = np.where(levels[:, :, 3] < 32768, 0, 65535)
    wanted = np.where(levels[:, :, 3:] > 0, eight_bits(levels[:, :, :3]), 255).astype(np.uint8)
    return ExpectedImage(png_by_hand(levels, 16, 6), wanted, "PNG with transparency", 1)


def deep_grey_png_with_a_clear_level(random: Random) -> ExpectedImage:
    levels = deep(random)
    clear = int(levels[5, 5])
    wanted = np.where((levels == clear)[:, :, None], 255, eight_bits(levels)).astype(np.uint8)
    return ExpectedImage(
        png_by_hand(levels, 16, 0, chunk(b"tRNS", struct.pack(">H", clear))), wanted, "PNG with transparency"
    )


def png_with_a_clear_colour(random: Random) -> ExpectedImage:
    levels = np.asarray(scene(random)).copy()
    clear = levels[5, 5].astype(int)
    wanted = np.where((levels == clear).all(2, keepdims=True), 255, levels).astype(np.uint8)
    return ExpectedImage(
        png_by_hand(levels, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *clear))), wanted, "PNG with transparency"
    )


def palette_png_with_opacities(random: Random) -> ExpectedImage:
    opacities = random.integers(0, 256, 16).astype(np.uint8)
    picture = scene(random).quantize(16)
    colours, numbers = np.array(picture.getpalette()).reshape(-1, 3), np.asarray(picture)
    layer = np.concatenate([colours[numbers], opacities[numbers][:, :, None]], 2).astype(np.uint8)
    encoded = saved(picture, "PNG", transparency=opacities.tobytes())
    return ExpectedImage(encoded, on_white(Image.fromarray(layer)), "PNG with transparency")


def gif_with_a_clear_colour(random: Random) -> ExpectedImage:
    picture = scene(random).quantize(16)
    clear = np.asarray(picture) == 3
    wanted = np.where(clear[:, :, None], 255, np.asarray(picture.convert("RGB"))).astype(np.uint8)
    return ExpectedImage(saved(picture, "GIF", transparency=3), wanted, "GIF")


def deep_tiff(random: Random) -> ExpectedImage:
    levels = deep(random)
    return ExpectedImage(saved(Image.fromarray(levels.astype(np.uint16)), "TIFF"), eight_bits(levels), "TIFF")


def deep_pgm(random: Random) -> ExpectedImage:
    levels = deep(random)
    head = f"P5\n{levels.shape[1]} {levels.shape[0]}\n65535\n".encode()
    return ExpectedImage(head + levels.astype(">u2").tobytes(), eight_bits(levels), "PPM")


KINDS: dict[str, Callable[[Random], ExpectedImage]] = {
    "jpeg": jpeg_kind(),
    "jpeg-progressive": jpeg_kind(progressive=True),
    "jpeg-grey": jpeg_kind("L"),
    "jpeg-cmyk": cmyk_jpeg,
    "jpeg-444": jpeg_kind(subsampling="4:4:4"),
    "jpeg-422": jpeg_kind(subsampling="4:2:2"),
    "jpeg-without-ycc": jpeg_kind(keep_rgb=True),
    "jpeg-with-restarts": jpeg_kind(restart_marker_rows=1),
    "jpeg-of-two": lambda random: kept(saved(scene(random), "MPO", save_all=True, append_images=[scene(random)])),
    "png": lambda random: as_made(scene(random), "PNG"),
    "png-grey": lambda random: as_made(scene(random).convert("L"), "PNG"),
    "png-palette": lambda random: as_made(scene(random).quantize(256), "PNG"),
    "png-1-bit": lambda random: as_made(scene(random).convert("1"), "PNG"),
    "png-grey-16": deep_grey_png,
    "png-16": deep_png,
    "png-rgba": lambda random: as_made(veiled(random), "PNG", "PNG with transparency"),
    "png-rgba-16": deep_png_with_alpha,
    "png-la": lambda random: as_made(veiled(random, "L"), "PNG", "PNG with transparency"),
    "png-clear-colour": png_with_a_clear_colour,
    "png-grey-16-clear-level": deep_grey_png_with_a_clear_level,
    "png-palette-with-opacities": palette_png_with_opacities,
    "webp": lambda random: kept(saved(scene(random), "WEBP")),
    "webp-lossless": lambda random: as_made(scene(random), "WEBP", lossless=True),
    "webp-alpha": lambda random: lossy(veiled(random), "WEBP", "WEBP with transparency"),
    "webp-lossless-alpha": lambda random: as_made(
        veiled(random), "WEBP", "WEBP with transparency", lossless=True, exact=True
    ),
    "gif": lambda random: as_made(scene(random).quantize(200), "GIF", "GIF"),
    "gif-clear-colour": gif_with_a_clear_colour,
    "bmp": lambda random: as_made(scene(random), "BMP", "BMP"),
    "tiff": lambda random: as_made(scene(random), "TIFF", "TIFF"),
    "tiff-rgba": lambda random: as_made(veiled(random), "TIFF", "TIFF"),
    "tiff-16": deep_tiff,
    "ppm": lambda random: as_made(scene(random), "PPM", "PPM"),
    "pgm-16": deep_pgm,
}
if features.check("avif"):
    KINDS["avif"] = lambda random: lossy(scene(random), "AVIF", "AVIF")
    KINDS["avif-alpha"] = lambda random: lossy(veiled(random), "AVIF", "AVIF")
if features.check("jpg_2000"):
    KINDS["j2k"] = lambda random: as_made(scene(random), "JPEG2000", "JPEG2000")


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(1, decoder=request.param)


def seen_by(decoder: Decoder, encoded: bytes) -> Pixels:
    """A decoder's pixels."""
    (pixels,) = decoder([np.frombuffer(encoded, np.uint8)])
    return pixels.copy()


def refused(encoded: bytes, max_aspect: float = MAX_ASPECT, distrust: bool = False) -> str:
    """Why it is of no use."""
    with pytest.raises(Unreadable) as caught:
        look(encoded, max_aspect, distrust=distrust)
    assert str(caught.value)
    return str(caught.value)


def refusal(encoded: bytes, distrust: bool = False) -> str:
    """Why it is of no use; empty if it is of use."""
    try:
        look(encoded, MAX_ASPECT, distrust=distrust)
    except Unreadable as reason:
        return str(reason) or "no reason given"
    return ""


# Good ones


def rounded_down(decoder: Decoder, kind: str) -> int:
    """Return by how many levels a kind is darker: of sixteen bits in colour Pillow keeps the upper eight."""
    return int(decoder.decoder == "pillow" and kind == "png-16")


def test_it_is_kept_or_converted_without_loss_and_each_decoder_sees_its_pixels(decoder: Decoder, rng: Random) -> None:
    for kind, make in KINDS.items():
        made = make(rng)
        for distrust in (False, True):
            with case(kind):
                picture = look(made.encoded, MAX_ASPECT, distrust=distrust)
                assert (picture.height, picture.width) == made.pixels.shape[:2]
                facts = picture.turn, picture.converted, libjpegs_warning(made.encoded)
                assert facts == (AS_IT_IS, made.converted, "")
                assert (picture.encoded == made.encoded) == (not made.converted), "no other bytes unless converted"
                pixels = seen_by(decoder, picture.encoded)
                assert np.abs(pixels.astype(int) - made.pixels).max() <= max(made.apart, rounded_down(decoder, kind))
                if made.converted:
                    with Image.open(io.BytesIO(picture.encoded)) as again:
                        assert (again.format, again.mode) == ("PNG", "RGB")
                        assert not odd_kind(again), "and is not converted again"


def as_ycck(encoded: bytes) -> bytes:
    """The same JPEG in CMYK, declared to be in YCCK by Adobe's marker, as Photoshop stores it."""
    transform = encoded.index(b"Adobe") + 11
    return encoded[:transform] + b"\x02" + encoded[transform + 1 :]


def test_a_jpeg_in_cmyk_looks_as_dali_decoded_it_on_a_cpu(decoder: Decoder, rng: Random) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (60, 70, 4), np.uint8), "CMYK")
    for picture in (noise, scene(rng).convert("CMYK")):
        encoded = saved(picture, "JPEG")
        for original in (encoded, as_ycck(encoded)):
            before, now = (seen_by(decoder, one) for one in (original, look(original, MAX_ASPECT).encoded))
            assert np.abs(before.astype(int) - now).max() <= 1


def test_recoded_by_pillow_it_looks_the_same(decoder: Decoder, rng: Random) -> None:
    for kind, make in KINDS.items():
        made = make(rng)
        apart = 1 if kind == "png-16" else made.apart  # Pillow keeps the upper eight bits and rounds nothing
        with case(kind):
            pixels = seen_by(decoder, recoded(made.encoded))
            assert np.abs(pixels.astype(int) - made.pixels).max() <= apart


def test_transparency_that_hides_nothing_still_shows_every_colour(decoder: Decoder, rng: Random) -> None:
    picture = scene(rng)
    for kind in ("WEBP", "PNG"):
        kept = look(saved(picture.convert("RGBA"), kind, lossless=True), MAX_ASPECT)
        assert np.array_equal(seen_by(decoder, kept.encoded), np.asarray(picture)), kind


def test_a_jpeg_encoded_here_has_its_quality_and_chroma_and_decodes_alike(decoder: Decoder, rng: Random) -> None:
    pixels = np.asarray(scene(rng))
    quality = int(rng.integers(30, 100))
    for chroma in ("4:4:4", "4:2:2", "4:2:0"):
        encoded = encode(pixels, quality, chroma)
        assert encoded == saved(Image.fromarray(pixels), "JPEG", quality=quality, subsampling=chroma)
        assert np.array_equal(seen_by(decoder, encoded), decoded(encoded))


# Turned ones


EXIF_KINDS = {"JPEG": {}, "MPO": {}, "PNG": {}, "WEBP": {}, "TIFF": {}}
if features.check("avif"):
    EXIF_KINDS["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}


def oriented(picture: Image.Image, kind: str, orientation: int) -> bytes:
    """The picture with an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(picture, kind, exif=exif, **EXIF_KINDS[kind])


@pytest.mark.parametrize("kind", EXIF_KINDS)
def test_made_upright_it_is_what_pillow_makes_of_it(kind: str, decoder: Decoder, rng: Random) -> None:
    for orientation in range(1, 9):
        encoded = oriented(scene(rng), kind, orientation)
        picture = look(encoded, MAX_ASPECT)
        pixels = seen_by(decoder, picture.encoded)
        assert pixels.shape == (picture.height, picture.width, 3)
        with Image.open(io.BytesIO(encoded)) as image:
            wanted = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(turned(pixels, picture.turn), wanted), orientation
        assert look(encoded, MAX_ASPECT, upright=False).turn == AS_IT_IS


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_transparent_one_is_turned_like_any_other(kind: str, rng: Random) -> None:
    orientation, picture = int(rng.integers(2, 9)), veiled(rng)
    looked = look(oriented(picture, kind, orientation), MAX_ASPECT)
    assert (looked.turn, looked.height, looked.width) == (TURNS[orientation], picture.height, picture.width)
    assert looked.converted


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_boxes_are_turned_together(orientation: int, rng: Random) -> None:
    height, width = rng.integers(8, 40, 2).tolist()
    (left, right), (top, bottom) = (
        np.sort(rng.choice(side + 1, 2, replace=False)).tolist() for side in (width, height)
    )
    pixels = rng.integers(0, 200, (height, width, 3)).astype(np.uint8)
    pixels[top:bottom, left:right] = 255
    picture, turn = Image.fromarray(pixels), TURNS.get(orientation, AS_IT_IS)
    picture.getexif()[ORIENTATION] = orientation
    upright = turned(pixels, turn)
    assert np.array_equal(upright, np.asarray(ImageOps.exif_transpose(picture)))
    assert upright.flags.c_contiguous
    rows, columns = np.nonzero((upright == 255).all(2))
    wanted = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert turned_box((left, top, right, bottom), height, width, turn) == wanted


def exif_block(kind: int, count: int, value: bytes) -> bytes:
    """EXIF's bytes with one entry, the orientation, by hand."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", ORIENTATION, kind, count, value) + bytes(4)


NO_ORIENTATIONS = {
    "0": exif_block(3, 1, b"\0\0"),
    "9": exif_block(3, 1, b"\x09\0"),
    "65535": exif_block(3, 1, b"\xff\xff"),
    "text": exif_block(2, 4, b"top\0"),
    "bytes": exif_block(7, 2, b"\x06\x06"),
    "none": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0",
    "empty": b"Exif\0\0",
    "nowhere": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "itself": b"Exif\0\0MM\0*\0\0\0\0",
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_is_none_turns_nothing(kind: str, rng: Random) -> None:
    for what, block in NO_ORIENTATIONS.items():
        picture = look(saved(scene(rng), kind, exif=block), MAX_ASPECT)
        assert (picture.turn, picture.converted) == (AS_IT_IS, ""), what


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow, when the test asks it
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_rubbish_for_exif_does_no_harm(kind: str, decoder: Decoder, rng: Random) -> None:
    for _ in range(10):
        head = [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08"][rng.integers(4)]
        encoded = saved(scene(rng), kind, exif=head + rng.bytes(int(rng.integers(1, 99))))
        picture = look(encoded, MAX_ASPECT)
        assert picture.encoded == encoded
        assert picture.turn in (AS_IT_IS, *TURNS.values())
    assert np.array_equal(seen_by(decoder, encoded), decoded(encoded))


# Bad ones


NO_IMAGES: dict[str, tuple[Callable[[Random], bytes], str]] = {
    "empty": (lambda _: b"", "an empty file"),
    "zeros": (lambda random: bytes(int(random.integers(1, 9999))), "only zeros"),
    "random": (lambda random: b"\x01" + random.bytes(5000), "not an image"),
    "text": (lambda _: b"cat.jpg\n", "not an image"),
    "html": (lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page or other markup"),
    "html-later": (lambda _: b"\r\n\t <HTML><head></head></HTML>", "a web page or other markup"),
    "xml": (lambda _: b'<?xml version="1.0"?><Error>AccessDenied</Error>', "a web page or other markup"),
    "svg": (lambda _: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "a web page or other markup"),
    "heif": (lambda _: struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(99), "HEIF"),
    "eps": (lambda random: saved(scene(random), "EPS"), "not an image"),
    "ico": (lambda random: saved(scene(random), "ICO"), "not an image"),
    "png-head": (lambda _: b"\x89PNG\r\n\x1a\n", "decode|not an image"),
    "jpeg-head": (lambda _: b"\xff\xd8\xff\xe0", "decode|not an image"),
    "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "annex": (lambda _: b"/annex/objects/SHA256E-s9--00.jpg\n", "git annex get"),
    "raf": (lambda random: b"FUJIFILMCCD-RAW 0201" + random.bytes(500), "raw file: develop it"),
    "orf": (lambda random: b"IIRO\x08\0\0\0" + random.bytes(500), "raw file: develop it"),
    "cr3": (lambda random: b"\0\0\0\x18ftypcrx " + random.bytes(500), "raw file: develop it"),
    "nef": (lambda random: tiff(scene(random), {254: (4, 1), 330: (4, 8)}), "raw file: develop it"),
    "dng": (lambda random: tiff(scene(random), {50706: (1, 1)}), "raw file: develop it"),
    "cr2": (lambda random: cr2(scene(random)), "raw file: develop it"),
    "tiff-of-many-floats": (lambda _: tiff_of(np.full((9, 9, 3), 0.5, np.float32)), "TIFF of a kind"),
}


def tiff(image: Image.Image, tags: dict[int, tuple[int, int]]) -> bytes:
    """A TIFF with more tags: number to type and value."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for number, (kind, value) in tags.items():
        directory.tagtype[number] = kind
        directory[number] = value
    return saved(image, "TIFF", tiffinfo=directory)


def cr2(image: Image.Image) -> bytes:
    """A TIFF whose head says that it is Canon's: eight bytes later, with all offsets as they were."""
    data = bytearray(tiff(image, {}))
    data[8:8] = b"CR\2\0\0\0\0\0"
    data[4:8] = (int.from_bytes(data[4:8], "little") + 8).to_bytes(4, "little")
    return bytes(data)


def tiff_of(values: NDArray[Any]) -> bytes:
    """A little-endian TIFF of any values, without compression: (height, width) or (height, width, 3)."""
    bands = values.shape[2] if values.ndim == 3 else 1
    height, width = values.shape[:2]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits = 8 * values.dtype.itemsize
    rows = [(256, width), (257, height), (258, bits), (259, 1), (262, 2 if bands == 3 else 1), (273, 8), (277, bands),
            (278, height), (279, values.nbytes), (339, kind)]  # fmt: skip
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in rows)
    data = values.tobytes() + b"\0" * (values.nbytes % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(rows)) + body + bytes(4)


def ramp(low: float, high: float, kind: str) -> NDArray[Any]:
    """Values from `low` to `high`, (20, 30)."""
    values = np.linspace(low, high if math.isfinite(high) else 200, 600).reshape(20, 30)
    values[-1, -1] = high
    return values.astype(kind)


def test_values_of_32_bits_of_another_range_are_refused_with_it(rng: Random) -> None:
    for low, high, kind in (
        *((-1, 255, "<f4"), (0, 1.5, "<f4"), (0, 70000, "<f4"), (0, math.nan, "<f4"), (0, math.inf, "<f4")),
        *((-5, 100, "<i4"), (0, 2**20, "<i4")),
    ):
        with case((low, high, kind)):
            assert refused(tiff_of(ramp(low, high, kind))).startswith("32-bit values from ")


def test_values_of_32_bits_become_levels_by_their_range() -> None:
    for high, kind, scale in (
        (1, "<f4", 255), (0.4, "<f4", 255), (0, "<f4", 255), (255, "<f4", 1), (3, "<f4", 1), (65535, "<f4", 1 / 257),
        (4095, "<f4", 1 / 257), (255, "<i4", 1), (1, "<i4", 1), (65535, "<i4", 1 / 257), (256, "<i4", 1 / 257),
    ):  # fmt: skip
        values = ramp(0, high, kind)
        with case((high, kind)):
            seen = decoded(look(tiff_of(values), MAX_ASPECT).encoded)
            assert np.abs(seen - values[..., None].astype(float) * scale).max() <= 0.5001


def test_grey_levels_of_12_bits_are_not_dark() -> None:
    levels = np.tile(np.arange(0, 4096, 128), (4, 1))  # (4, 32)
    pairs = levels.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = bytearray(tiff_of(packed.astype("u1").reshape(4, 48)))
    start = int.from_bytes(data[4:8], "little") + 2
    for place, value in ((0, 32), (2, 12)):  # width and bits of the first and third row of the directory
        data[start + 12 * place + 8 : start + 12 * place + 12] = value.to_bytes(4, "little")
    seen = decoded(look(bytes(data), MAX_ASPECT).encoded)
    assert np.abs(seen[..., 0] - levels * 255 / 4095).max() <= 0.5001


@pytest.mark.parametrize("bit", [1, 4, 5], ids=["reduced", "mask", "mask of a reduced one"])
def test_a_tiffs_smaller_copies_and_masks_are_no_images(bit: int, rng: Random) -> None:
    image = scene(rng).resize((80, 60))
    for pages in ([0, bit], [0, bit, bit]):
        whole = look(multipage(image, pages), MAX_ASPECT)
        assert (whole.height, whole.width, whole.converted) == (60, 80, "TIFF")
        assert np.array_equal(decoded(whole.encoded), np.asarray(image))
    assert refused(multipage(image, [0, 0, bit])) == "more than one image: a TIFF with 2 frames"
    assert "first page is a smaller copy" in refused(multipage(image, [bit, 0]))


def multipage(image: Image.Image, pages: list[int]) -> bytes:
    """A TIFF of pages, each with its SUBFILE; all but the first are smaller."""
    made = []
    for number, value in enumerate(pages):
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        directory.tagtype[254] = 4
        directory[254] = value
        page = image if not number else image.resize((20, 15))
        page.encoderinfo = {"tiffinfo": directory}
        made.append(page)
    return saved(made[0], "TIFF", save_all=True, append_images=made[1:], tiffinfo=made[0].encoderinfo["tiffinfo"])


def test_no_image_is_refused_with_what_it_is(rng: Random) -> None:
    for kind, (make, reason) in NO_IMAGES.items():
        with case(kind), pytest.raises(Unreadable, match=reason):
            look(make(rng), MAX_ASPECT)


def several(random: Random, kind: str) -> bytes:
    """Some pictures in one file."""
    first, *others = (scene(random).resize((30, 20)) for _ in range(3))
    return saved(first, kind, save_all=True, append_images=others)


def test_more_than_one_picture_is_refused(rng: Random) -> None:
    for kind in ("GIF", "PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])):
        assert refused(several(rng, kind)) == f"more than one image: a {kind} with 3 frames"


def test_an_eps_is_never_run(monkeypatch: pytest.MonkeyPatch, rng: Random) -> None:
    run: list[object] = []
    for where, name in [(subprocess, "Popen"), (subprocess, "check_call"), (subprocess, "run"), (os, "system")]:
        monkeypatch.setattr(where, name, lambda *what, **_: run.append(what) or 0)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    encoded = saved(scene(rng), "EPS")
    refused(encoded)
    with pytest.raises(Unreadable):
        look(encoded, MAX_ASPECT, distrust=True)
    with pytest.raises(Unreadable):
        recoded(encoded)
    assert not run
    with Image.open(io.BytesIO(encoded)) as picture, pytest.raises(Exception):  # noqa: B017, PT011
        picture.load()
    assert run, "Pillow alone would have run it"


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file whose head says that it is large."""
    if kind == "JPEG":
        encoded = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
        at = encoded.index(b"\xff\xc0")
        encoded[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(encoded)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")


def test_a_head_that_claims_60000_pixels_squared_is_refused_at_once() -> None:
    for kind in ("JPEG", "PNG"):
        assert refused(claiming(kind, 60_000, 60_000)) == "more than 268 million pixels"


def test_a_photograph_of_200_megapixels_is_taken() -> None:
    """Phones write 16320 x 12240. The JPEG's data is decoded later, by DALI."""
    image = look(claiming("JPEG", 16_320, 12_240), MAX_ASPECT)
    assert (image.height, image.width) == (12_240, 16_320)


def test_one_pixel_high_or_wide_is_refused(rng: Random) -> None:
    long = int(rng.integers(1, 30))
    for kind, size in (("JPEG", (long, 1)), ("PNG", (1, long))):
        assert refused(saved(Image.new("RGB", size), kind)) == f"one pixel high or wide: {size[0]} x {size[1]}"


def test_aspect_ratios_are_allowed_up_to_the_largest(decoder: Decoder, rng: Random) -> None:
    for _ in range(4):
        short, most = int(rng.integers(2, 12)), float(rng.integers(4, 65)) / 2
        long = int(short * most)  # exact: halves
        for add, turn in ((0, 1), (0, -1), (1, 1), (1, -1)):
            size = (long + add, short)[::turn]
            encoded = saved(Image.fromarray(photograph(rng, *size[::-1])), "PNG")
            if add:
                assert refused(encoded, most) == (f"longer than {most:g} times its shorter side: {size[0]} x {size[1]}")
            else:
                picture = look(encoded, most)
                assert seen_by(decoder, picture.encoded).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "jpeg-cmyk", "jpeg-with-restarts"])
def test_a_jpeg_cut_anywhere_is_refused_by_pillow_and_warned_of_by_libjpeg(kind: str, rng: Random) -> None:
    made = KINDS[kind](rng)
    for cut in [1, 2, 3, len(made.encoded) - 1, *rng.integers(4, len(made.encoded), 20).tolist()]:
        left = made.encoded[:-cut]
        assert refusal(left) or libjpegs_warning(left), cut
        if cut <= 2 and not refusal(left, distrust=True):  # only the end's marker is missing
            assert np.array_equal(decoded(recoded(left)), made.pixels), cut
        else:
            assert refused(left, distrust=True), cut
            with pytest.raises(Unreadable):
                recoded(left)


def test_a_jpeg_of_two_cut_in_its_second_picture_is_whole(decoder: Decoder, rng: Random) -> None:
    encoded = KINDS["jpeg-of-two"](rng).encoded
    second = encoded.rindex(b"\xff\xd8\xff")
    for cut in rng.integers(second + 2, len(encoded), 20).tolist():
        picture = look(encoded[:cut], MAX_ASPECT, distrust=True)
        assert libjpegs_warning(encoded[:cut]) == ""
        assert np.array_equal(seen_by(decoder, picture.encoded), decoded(encoded)), cut
    for cut in rng.integers(1, second - 1, 20).tolist():
        assert refused(encoded[:cut], distrust=True), cut


def test_a_jpeg_with_bytes_too_many_is_kept_and_libjpeg_warns_of_it(decoder: Decoder, rng: Random) -> None:
    encoded, count = KINDS["jpeg"](rng).encoded, int(rng.integers(20, 60))
    longer = encoded[:-2] + bytes(count) + encoded[-2:]
    picture = look(longer, MAX_ASPECT, distrust=True)
    assert picture.encoded == longer
    warning = re.fullmatch(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9", libjpegs_warning(longer))
    assert warning
    assert count - 8 <= int(warning[1]) <= count, "its buffer of eight bytes may have swallowed some"
    assert np.array_equal(seen_by(decoder, picture.encoded), decoded(encoded))


def test_a_jpeg_with_something_behind_its_end_is_as_good_as_without(decoder: Decoder, rng: Random) -> None:
    encoded = KINDS["jpeg"](rng).encoded
    longer = encoded + rng.bytes(99)
    picture = look(longer, MAX_ASPECT)
    assert libjpegs_warning(longer) == ""
    assert np.array_equal(seen_by(decoder, picture.encoded), decoded(encoded))


def test_libjpeg_is_asked_of_jpegs_only(rng: Random) -> None:
    others = [make(rng).encoded for kind, make in KINDS.items() if not kind.startswith("jpeg")]
    assert [libjpegs_warning(encoded) for encoded in (b"", b"\0", *others)] == [""] * (len(others) + 2)


def test_any_other_kind_cut_short_is_refused(rng: Random) -> None:
    """By more than what a format may have behind its pixels; DALI is not asked, Pillow decodes these whole."""
    for kind in (kind for kind in KINDS if not kind.startswith("jpeg")):
        encoded = KINDS[kind](rng).encoded
        for cut in rng.integers(25, len(encoded), 4).tolist():
            with case(f"{kind} without {cut} bytes"):
                assert refused(encoded[:-cut])


@pytest.mark.parametrize("kind", ["png", "png-grey-16"])
def test_a_png_cut_anywhere_is_refused_unless_all_its_pixels_are_there(kind: str, rng: Random) -> None:
    made = KINDS[kind](rng)
    for cut in [1, 5, *rng.integers(LAST_OF_PNG + 1, len(made.encoded), 15).tolist()]:
        try:
            picture = look(made.encoded[:-cut], MAX_ASPECT)
        except Unreadable:
            continue
        assert cut <= LAST_OF_PNG, "that cut must be seen"
        assert np.array_equal(decoded(recoded(picture.encoded)), made.pixels)


@pytest.mark.parametrize("kind", ["png", "png-palette-with-opacities"])
def test_a_png_whose_data_is_harmed_is_refused(kind: str, rng: Random) -> None:
    """Each chunk has its sum; stored as it is, without compression, data looks whole to whoever checks none."""
    for level in [1, 6] * 4 + [0] * 4:
        with Image.open(io.BytesIO(KINDS[kind](rng).encoded)) as picture:
            how = {"transparency": picture.info["transparency"]} if "transparency" in picture.info else {}
            bad = bytearray(saved(picture, "PNG", compress_level=level, **how))
        bad[int(rng.integers(bad.index(b"IDAT") + 4, len(bad) - LAST_OF_PNG))] ^= int(rng.integers(1, 256))
        assert refused(bytes(bad)), level


def warned(images: Iterable[bytes]) -> list[str]:
    """Python's warnings while images are looked at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for encoded in images:
            try:
                look(encoded, MAX_ASPECT)
            except Unreadable:
                continue
    return [str(warning.message) for warning in caught]


def test_pillows_warnings_of_many_pixels_reach_nobody(monkeypatch: pytest.MonkeyPatch, rng: Random) -> None:
    picture = saved(scene(rng), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", decoded(picture).size // 3 - 1)
    assert not refusal(picture)
    assert warned([picture]) == []


def test_pillows_warnings_of_odd_images_reach_nobody(rng: Random) -> None:
    images = [make(rng).encoded for make in KINDS.values()]
    torn = saved(scene(rng), "TIFF")
    entries = struct.unpack("<I", torn[4:8])[0]  # where a TIFF's entries are
    assert warned([*images, torn[: entries + 2 + 12 * 3 + 5]]) == []
