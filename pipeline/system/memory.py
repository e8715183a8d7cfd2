"""Memory that has run out while images are read: told from images that are broken, whatever a library makes of it."""

from __future__ import annotations

import errno
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import Failure, NoMemory

WORDS = re.compile(
    r"out of memory|insufficient memory|not enough memory|memory ?allocation|bad_alloc|(can ?not|unable to) allocate"
    r"|allocat\w+ fail|fail\w* to allocate",
    re.IGNORECASE,
)  # DALI's, CUDA's, libjpeg's, Pillow's and the codecs'
ROOM = 2**29  # bytes; where not even so many can be had, nothing is said of an image
A_PIXEL = 10  # bytes more for each of its pixels: as many as a progressive JPEG and its RGB take


def ran_out(error: BaseException, pixels: int = 0) -> bool:
    """Return whether an error that came of an image of so many pixels may be one of memory.

    Libraries lose that: of a progressive JPEG Pillow says "broken data stream" then, DALI "failed to decode", and a
    WebP is not even one. So an error is only believed where there is room for the image.
    """
    if isinstance(error, MemoryError | NoMemory):
        return True
    if isinstance(error, Failure) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOMEM)):
        return False
    return bool(WORDS.search(str(error))) or not _has_room(ROOM + A_PIXEL * pixels)


def check(error: BaseException, pixels: int = 0) -> None:
    """Raise MemoryError if an error that came of an image of so many pixels may be one of memory."""
    if ran_out(error, pixels):
        raise MemoryError(f"{error}") from error


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Have memory that runs out meanwhile be NoMemory, naming `what` was done."""
    try:
        yield
    except Exception as error:
        if isinstance(error, NoMemory) or not ran_out(error):
            raise
        said = f" ({' '.join(str(error).split()):.200})" if str(error) else ""
        raise NoMemory(f"memory ran out while {what}{said}: {ADVICE}") from error


ADVICE = (
    "make prepare.processes in params.yaml smaller, or make room. The same command goes on from the last whole shard"
)


def _has_room(size: int) -> bool:
    """Return whether the system would give this process so many bytes."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True
