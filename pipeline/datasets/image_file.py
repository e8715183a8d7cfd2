"""One encoded image: whether it can be used, how it lies, and the plain form of the odd kinds.

JPEG, PNG and WebP of eight or sixteen bits without transparency keep their bytes. Other kinds are converted once, by
Pillow and without loss, to a PNG of eight-bit RGB; what is transparent becomes white.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from mimetypes import MimeTypes
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.datasets.sources.base import Unreadable
from pipeline.system.memory import check

READABLE = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")  # no EPS: Pillow would run it
JPEGS = ("JPEG", "MPO")  # an MPO is a JPEG with more behind it
PLAIN = (*JPEGS, "PNG", "WEBP")
KINDS = MimeTypes()  # Python's own table of endings, which is the same on all machines
OTHER_ENDINGS = (".cfg", ".db", ".ini", ".lnk", ".log", ".yaml", ".yml")  # that are not in it
ORIENTATION = 0x0112  # EXIF's tag
# EXIF's orientation to what makes it upright: rows and columns exchanged first, then upside down, then left to right
TURNS = {2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
         6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}  # fmt: skip
Turn = tuple[bool, bool, bool]
AS_IT_IS: Turn = (False, False, False)
Pixels = NDArray[np.uint8]
Bounds = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class NoImage(Unreadable):
    """Bytes that are no image of any kind."""


class Picture(NamedTuple):
    """An image that decodes."""

    encoded: bytes
    height: int  # as encoded, pixels
    width: int
    turn: Turn  # what makes it upright
    converted: str  # from which kind; empty: the bytes are the source's


def look(encoded: bytes, max_aspect: float, upright: bool = True, distrust: bool = False) -> Picture:
    """What `encoded` is. Unreadable says why it is of no use.

    A JPEG's data is left to DALI, unless with `distrust`; all else is decoded whole by Pillow.
    """
    if not encoded:
        raise NoImage("an empty file")
    with _opened(encoded) as picture:
        _check_shape(picture, max_aspect)
        if distrust or picture.format not in JPEGS:
            _decode(picture, encoded)  # before its EXIF data, which loads a PNG; and a TIFF is turned by it
        turn = _turn(picture) if upright else AS_IT_IS
        height, width = picture.height, picture.width
        kind = odd_kind(picture)
        return Picture(as_png(picture) if kind else encoded, height, width, turn, kind)


@contextmanager
def _opened(encoded: bytes) -> Iterator[Image.Image]:
    """Pillow's picture; whatever goes wrong with it meanwhile is Unreadable, and MemoryError where memory runs out."""
    pixels = 0
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=READABLE) as picture:
            pixels = picture.height * picture.width
            yield picture
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except Unreadable:
        raise
    except Exception as error:  # Pillow's readers of formats raise anything
        check(error, pixels)
        if isinstance(error, UnidentifiedImageError):
            raise _what_it_is(encoded) from None
        raise Unreadable(f"it does not decode: {error}") from None


def odd_kind(picture: Image.Image) -> str:
    """Why the image's bytes cannot stay as they are; empty if they can."""
    if picture.format not in PLAIN:
        return str(picture.format)
    if picture.has_transparency_data:
        return f"{picture.format} with transparency"
    return ""


def as_png(picture: Image.Image) -> bytes:
    """The image as a PNG of eight-bit RGB, what is transparent on white. Unreadable if it has no such colours."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        levels = np.asarray(picture).astype(np.uint32)
        clear = picture.info.get("transparency")
        picture = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        if clear is not None:
            picture.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    elif picture.mode in ("I", "F"):
        raise Unreadable(f"its pixels are of Pillow's mode {picture.mode}, neither eight bits nor sixteen")
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def recoded(encoded: bytes) -> bytes:
    """The image decoded by Pillow, as a PNG of eight-bit RGB. Unreadable if Pillow cannot."""
    with _opened(encoded) as picture:
        return as_png(picture)


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """Pixels (height, width, 3) made upright."""
    exchange, down, across = turn
    pixels = pixels.swapaxes(0, 1) if exchange else pixels
    pixels = pixels[::-1] if down else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if across else pixels)


def turned_box(box: Bounds, height: float, width: float, turn: Turn) -> Bounds:
    """A box in an image of `height` and `width` pixels, once the image is upright."""
    left, top, right, bottom = box
    if turn[0]:
        left, top, right, bottom, height, width = top, left, bottom, right, width, height
    if turn[1]:
        top, bottom = height - bottom, height - top
    if turn[2]:
        left, right = width - right, width - left
    return left, top, right, bottom


def encode(pixels: Pixels, quality: int, chroma: str) -> bytes:
    """RGB pixels (height, width, 3) as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    return buffer.getvalue()


def libjpegs_warning(encoded: bytes) -> str:
    """What libjpeg has to say of the whole of a JPEG's data, at an eighth of its size for speed; empty: nothing."""
    from simplejpeg import decode_jpeg

    if not encoded.startswith(b"\xff\xd8"):
        return ""
    try:
        decode_jpeg(encoded, min_height=1, min_width=1, min_factor=1)
    except ValueError as reason:
        check(reason)
        return str(reason)
    return ""


def _decode(picture: Image.Image, encoded: bytes) -> None:
    """Decode all of it; a PNG's check sums too, which Pillow compares only when asked to."""
    if picture.format == "PNG":
        with Image.open(io.BytesIO(encoded), formats=("PNG",)) as again:
            again.verify()
    picture.load()


def _turn(picture: Image.Image) -> Turn:
    """What makes the image upright, by its EXIF data; broken ones say nothing."""
    try:
        return TURNS.get(int(picture.getexif().get(ORIENTATION, 1)), AS_IT_IS)
    except Exception as error:
        check(error)
        return AS_IT_IS


def _check_shape(picture: Image.Image, max_aspect: float) -> None:
    short, long = sorted(picture.size)
    if short < 2:
        raise Unreadable(f"one pixel high or wide: {picture.width} x {picture.height}")
    if long > max_aspect * short:
        raise Unreadable(f"longer than {max_aspect:g} times its shorter side: {picture.width} x {picture.height}")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format not in JPEGS:
        raise Unreadable(f"more than one picture: a {picture.format} of {frames}")


def _what_it_is(encoded: bytes) -> Unreadable:
    """What bytes are that Pillow does not know, as far as their beginning tells."""
    start = encoded[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")):
        return NoImage("a web page or other markup, no image")
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return Unreadable("HEIF, which is not read: save it as JPEG")
    return NoImage("no image" if start.strip(b"\0") else "nothing but zeros")


def is_named_otherwise(name: str) -> bool:
    """Return whether a file's ending is that of another kind of file: notes.txt, but neither photo.heic nor photo."""
    kind = KINDS.guess_type(name)[0]
    return not kind.startswith("image/") if kind else name.lower().endswith(OTHER_ENDINGS)
