"""Decoding and rescaling without DALI: JPEG by simplejpeg, all else by Pillow, in float regions of the whole image.

Pixels differ from DALI's by a grey level: DALI rounds once, Pillow after each of its two passes. At an image's border
DALI also repeats the last pixel, where Pillow leaves out what is missing.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # no EPS: Pillow would run it
JPEG = b"\xff\xd8"
COLOURS = ("YCbCr", "RGB", "Gray")  # of JPEGs that all decoders show alike
MOST_PIXELS = 2**28  # of an image: above the 200 million of a phone's camera
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses more than twice as many
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decoded(encoded: Pixels) -> Pixels:
    """Return an image's RGB, (height, width, 3), as stored: the EXIF orientation is ignored.

    Raise RuntimeError if it cannot be decoded. libjpeg's warnings of a JPEG that is decoded all the same go to the
    standard error stream, as DALI's do.
    """
    from simplejpeg import decode_jpeg, decode_jpeg_header

    if bytes(encoded[:2]) == JPEG:
        try:
            if decode_jpeg_header(encoded)[2] in COLOURS:
                return np.asarray(decode_jpeg(encoded))
        except ValueError as warning:  # Pillow decides what it means
            os.write(2, f"{warning}\n".encode())
    try:
        with Image.open(io.BytesIO(encoded.tobytes()), formats=FORMATS) as image:
            return np.asarray(of_eight_bits(image).convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's format readers raise any exception
        raise RuntimeError(f"Pillow cannot decode the image: {error}") from error


def of_eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of sixteen bits in eight, rounded as by DALI; any other image unchanged."""
    if not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def resized(pixels: Pixels, height: int, width: int, resize: str = "bilinear") -> Pixels:
    """Return the pixels rescaled to (height, width, 3) with antialiasing; bit for bit the same if that is their size.

    `resize` is bilinear or bicubic.
    """
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[resize]))


def cropped(pixels: Pixels, height: int, width: int, top: int, left: int, crop: int) -> Pixels:
    """Return the crop (crop, crop, 3) at a corner of the pixels rescaled to `height` x `width`, without the rest."""
    down, across = pixels.shape[0] / height, pixels.shape[1] / width  # source pixels per rescaled pixel
    region = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return np.asarray(Image.fromarray(pixels).resize((crop, crop), FILTERS["bilinear"], box=region))


def rescaled_samples(samples: Iterable[tuple[Any, ...]], threads: int, resize: str) -> Iterator[Pixels]:
    """Yield the images (N, height, width, 3) of each sample: encoded images, and the heights and widths to have."""

    def work(encoded: Pixels, height: int, width: int) -> Pixels:
        return resized(decoded(encoded), height, width, resize)

    return _in_threads(work, samples, threads)


def cropped_samples(samples: Iterable[tuple[Any, ...]], crop: int, threads: int) -> Iterator[Pixels]:
    """Yield the crops (N, crop, crop, 3) of each sample: encoded images, rescaled sizes, corners and flips."""

    def work(encoded: Pixels, height: int, width: int, top: int, left: int, flip: bool) -> Pixels:
        pixels = cropped(decoded(encoded), height, width, top, left, crop)
        return pixels[:, ::-1] if flip else pixels

    return _in_threads(work, samples, threads)


def _in_threads(
    work: Callable[..., Pixels], samples: Iterable[tuple[Any, ...]], threads: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield `work` of each image of each sample, stacked. The threads are one sample ahead of the caller."""
    pool = ThreadPoolExecutor(threads)
    waiting = deque[list[Future[list[Pixels]]]]()
    try:
        for encoded, *columns in samples:
            rows = [*zip(encoded, *(column.tolist() for column in columns), strict=True)]
            shares = [rows[first::threads] for first in range(min(threads, len(rows)))]
            waiting.append([pool.submit(lambda share: [work(*row) for row in share], share) for share in shares])
            if len(waiting) > 1:
                yield _stacked(waiting.popleft())
        while waiting:
            yield _stacked(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _stacked(shares: list[Future[list[Pixels]]]) -> Pixels:
    """Return the images (N, height, width, 3) of all threads: the first image is the first of the first thread."""
    done = [share.result() for share in shares]
    return np.stack([image for images in zip_longest(*done) for image in images if image is not None])
