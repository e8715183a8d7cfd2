"""One encoded image: whether it is usable, how it is oriented, and the plain form of unusual formats.

JPEG, PNG and WebP of eight or sixteen bits without transparency keep their bytes. Pillow converts other kinds once,
without loss, to a PNG of eight-bit RGB. Transparent pixels become white. A JPEG in CMYK is converted too, because
decoders differ in its colours.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.datasets.colour_profile import has_other_colours, in_srgb
from pipeline.datasets.sources.base import Unreadable
from pipeline.system.memory import check
from vgg.pillow import MOST_PIXELS

READABLE = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")  # no EPS: Pillow would run it
JPEGS = ("JPEG", "MPO")  # an MPO is a JPEG followed by more data
PLAIN = (*JPEGS, "PNG", "WEBP")
ORIENTATION = 0x0112  # the EXIF tag
SUBFILE, BITS, PHOTOMETRIC, SUB_IFDS, DNG = 254, 258, 262, 330, 50706  # tags of TIFF
REDUCED, MASK = 1, 4  # bits of SUBFILE: a page is a smaller copy, or a mask, of another
SENSOR = (32803, 34892)  # PHOTOMETRIC of what a camera's sensor has measured
RAWS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")  # beginnings of raw files
RAW = "a camera's raw file: develop it, and save it as JPEG or TIFF"
OTHER_COLOURS = "with another colour profile"
OTHER_COLOURS_IGNORED = "read as sRGB despite another colour profile"
POINTERS = {b"version https://git-lfs": "a Git LFS pointer, not the image: run git lfs pull",
            b"/annex/objects/": "a git-annex pointer, not the image: run git annex get"}  # fmt: skip
# EXIF orientation -> steps to upright, in this order: exchange rows and columns, flip vertically, flip horizontally
TURNS = {2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
         6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}  # fmt: skip
Turn = tuple[bool, bool, bool]
AS_IT_IS: Turn = (False, False, False)
Pixels = NDArray[np.uint8]
Bounds = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class NoImage(Unreadable):
    """An error for bytes that are not an image of any kind."""


class StoredImage(NamedTuple):
    """An image that decodes."""

    encoded: bytes
    height: int  # as encoded, pixels
    width: int
    turn: Turn  # the steps that make it upright
    converted: str  # the original format; empty if the bytes are the source's
    other_colours: bool = False  # it has a colour profile other than sRGB that is ignored


def look(
    encoded: bytes, max_aspect: float, upright: bool = True, distrust: bool = False, convert_colours: bool = False
) -> StoredImage:
    """Return a description of the image in `encoded`. Raise Unreadable, with the reason, if it is unusable.

    With `convert_colours`, an image with an embedded profile of other colours is stored in sRGB.

    Pillow decodes the whole image, except a JPEG's data, which it decodes only with `distrust`: DALI decodes it later.
    """
    if not encoded:
        raise NoImage("an empty file")
    with _opened(encoded) as image:
        if _is_raw(image, encoded):
            raise Unreadable(RAW)
        _check_shape(image, max_aspect)
        if distrust or image.format not in JPEGS:
            _decode(image, encoded)  # before the EXIF data is read: that loads a PNG, and loading rotates a TIFF
        turn = _turn(image) if upright else AS_IT_IS
        height, width = image.height, image.width
        kind, other_colours = odd_kind(image), has_other_colours(image)
        if other_colours and convert_colours:
            return StoredImage(as_png(_in_srgb(image)), height, width, turn, f"{image.format} {OTHER_COLOURS}")
        return StoredImage(as_png(image) if kind else encoded, height, width, turn, kind, other_colours)


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return an image of other colours in sRGB. Raise Unreadable if its profile cannot be applied."""
    try:
        return in_srgb(image)
    except ImageCms.PyCMSError as error:
        raise Unreadable(f"its colour profile cannot be applied: {error}") from None


@contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    """Yield the image as opened by Pillow. Raise MemoryError if memory runs out, Unreadable on any other error."""
    pixels = 0
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=READABLE) as image:
            pixels = image.height * image.width
            yield image
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MOST_PIXELS / 1e6:.0f} million pixels") from None
    except Unreadable:
        raise
    except Exception as error:  # Pillow's format readers raise any exception
        check(error, pixels)
        if isinstance(error, UnidentifiedImageError):
            raise _unknown_format(encoded) from None
        raise Unreadable(f"cannot be decoded: {error}") from None


def odd_kind(image: Image.Image) -> str:
    """Return why the image's bytes cannot be stored unchanged, or an empty string if they can."""
    if image.format not in PLAIN:
        return str(image.format)
    if image.has_transparency_data:
        return f"{image.format} with transparency"
    if image.mode == "CMYK":
        return f"{image.format} in CMYK"
    return ""


def as_png(image: Image.Image) -> bytes:
    """Return the image as a PNG of eight-bit RGB on white. Raise Unreadable if its pixel mode cannot be converted."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        levels = np.asarray(image).astype(np.uint32)
        transparent_level = image.info.get("transparency")
        top = 2 ** _bits(image) - 1
        image = Image.fromarray(((levels * 255 + top // 2) // top).astype(np.uint8))
        if transparent_level is not None:
            image.putalpha(Image.fromarray(np.where(levels == transparent_level, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _bits(image: Image.Image) -> int:
    """Return the bits of a level of grey: 16, or fewer where a TIFF says so and Pillow does not scale the values."""
    bits = image.tag_v2.get(BITS, (16,)) if isinstance(image, TiffImageFile) else (16,)
    return int(bits[0])


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 32-bit values (height, width) as 8 bits, by their range. Raise Unreadable if the range is no usual one."""
    low, high = float(values.min()), float(values.max())
    fractions = values.dtype.kind == "f" and high <= 1
    if not 0 <= low <= high <= 65535 or (values.dtype.kind == "f" and 1 < high < 2):  # NaN is neither
        what = f"32-bit values from {low:g} to {high:g}"
        raise Unreadable(f"{what}: neither 0 to 255 nor 0 to 65535, nor fractions from 0 to 1")
    scale = 255 if fractions else 1 if high <= 255 else 1 / 257
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def recoded(encoded: bytes) -> bytes:
    """Return the image decoded by Pillow, as a PNG of eight-bit RGB. Raise Unreadable if Pillow cannot decode it."""
    with _opened(encoded) as image:
        return as_png(image)


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """Return the pixels (height, width, 3) made upright."""
    exchange, down, across = turn
    pixels = pixels.swapaxes(0, 1) if exchange else pixels
    pixels = pixels[::-1] if down else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if across else pixels)


def turned_box(box: Bounds, height: float, width: float, turn: Turn) -> Bounds:
    """Return where a box of an image of `height` x `width` pixels is once the image is upright."""
    left, top, right, bottom = box
    if turn[0]:
        left, top, right, bottom, height, width = top, left, bottom, right, width, height
    if turn[1]:
        top, bottom = height - bottom, height - top
    if turn[2]:
        left, right = width - right, width - left
    return left, top, right, bottom


def encode(pixels: Pixels, quality: int, chroma: str) -> bytes:
    """Return RGB pixels (height, width, 3) as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    return buffer.getvalue()


def libjpegs_warning(encoded: bytes) -> str:
    """Return libjpeg's warning about a JPEG's data, or an empty string. All data is decoded, at 1/8 size for speed."""
    from simplejpeg import decode_jpeg

    if not encoded.startswith(b"\xff\xd8"):
        return ""
    try:
        decode_jpeg(encoded, min_height=1, min_width=1, min_factor=1)
    except ValueError as reason:
        check(reason)
        return str(reason)
    return ""


def _decode(image: Image.Image, encoded: bytes) -> None:
    """Decode the whole image. Verify a PNG's checksums too, which Pillow compares only on request."""
    if image.format == "PNG":
        with Image.open(io.BytesIO(encoded), formats=("PNG",)) as reopened:
            reopened.verify()
    image.load()


def _turn(image: Image.Image) -> Turn:
    """Return the steps that make the image upright, from its EXIF data. Broken EXIF data is ignored."""
    try:
        return TURNS.get(int(image.getexif().get(ORIENTATION, 1)), AS_IT_IS)
    except Exception as error:
        check(error)
        return AS_IT_IS


def _check_shape(image: Image.Image, max_aspect: float) -> None:
    """Raise Unreadable if the image is too narrow or too long, or if the file has several images."""
    short, long = sorted(image.size)
    if short < 2:
        raise Unreadable(f"one pixel high or wide: {image.width} x {image.height}")
    if long > max_aspect * short:
        raise Unreadable(f"longer than {max_aspect:g} times its shorter side: {image.width} x {image.height}")
    frames = _frames(image)
    if frames > 1 and image.format not in JPEGS:
        raise Unreadable(f"more than one image: a {image.format} with {frames} frames")


def _frames(image: Image.Image) -> int:
    """Return the number of images in a file, without a TIFF's reduced copies and masks of another page."""
    frames: int = getattr(image, "n_frames", 1)
    if frames == 1 or not isinstance(image, TiffImageFile):
        return frames
    whole = 0
    for frame in range(frames):
        image.seek(frame)
        whole += not int(image.tag_v2.get(SUBFILE, 0)) & (REDUCED | MASK)
    image.seek(0)
    if int(image.tag_v2.get(SUBFILE, 0)) & (REDUCED | MASK):
        raise Unreadable("a TIFF whose first page is a smaller copy, or a mask, of another")
    return whole


def _is_raw(image: Image.Image, encoded: bytes) -> bool:
    """Return whether a TIFF is a camera's raw file, whose first page is a small copy of the photograph."""
    if not isinstance(image, TiffImageFile):
        return False
    tags = image.tag_v2
    sensor = DNG in tags or tags.get(PHOTOMETRIC) in SENSOR or encoded[8:10] == b"CR"
    return sensor or (bool(int(tags.get(SUBFILE, 0)) & REDUCED) and SUB_IFDS in tags)


def _unknown_format(encoded: bytes) -> Unreadable:
    """Return an error that names the format of bytes unknown to Pillow, as far as their beginning shows it."""
    for beginning, what in POINTERS.items():
        if encoded.startswith(beginning):
            return Unreadable(what)
    if encoded.startswith(RAWS) or encoded[4:11] == b"ftypcrx" or encoded[8:10] == b"CR":
        return Unreadable(RAW)
    if encoded.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return Unreadable("a TIFF of a kind that is not supported: save it with 8 or 16 bits, or as PNG")
    start = encoded[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")):
        return NoImage("a web page or other markup, not an image")
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return Unreadable("HEIF, which is not supported: save it as JPEG")
    return NoImage("not an image" if start.strip(b"\0") else "only zeros")
