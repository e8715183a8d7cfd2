"""Memory: what is left of it, its exhaustion while images are read, and its reuse by this process."""

from __future__ import annotations

import ctypes
import errno
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pipeline.errors import Failure, NoMemory

OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # of cgroup version 2
WORDS = re.compile(
    r"out of memory|insufficient memory|not enough memory|memory ?allocation|bad_alloc|(can ?not|unable to) allocate"
    r"|allocat\w+ fail|fail\w* to allocate",
    re.IGNORECASE,
)  # messages of DALI, CUDA, libjpeg, Pillow and the codecs
ROOM = 2**29  # bytes; if these are not available, an error says nothing about the image
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt
A_PIXEL = 10  # bytes more for each pixel: a progressive JPEG and its RGB pixels need as many


def usable() -> float:
    """Return the memory that this machine and the limits of this process's control groups leave, in bytes."""
    available: float = psutil.virtual_memory().available
    return min(available, left_in_group())


def left_in_group() -> float:
    """Return the memory left under the tightest limit of this process's control groups, in bytes."""
    own = OWN_GROUP.read_text().rpartition("::/")[2].strip() if OWN_GROUP.exists() else ""
    folders = [folder for folder in (GROUPS / own, *(GROUPS / own).parents) if folder.is_relative_to(GROUPS)]
    return min(map(_left, folders))


def _left(group: Path) -> float:
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # neither the root group nor cgroup version 1 has these files
        return float("inf")
    return float("inf" if most == "max" else int(most) - used + int(statistics.get("inactive_file", 0)))


def ran_out(error: BaseException, pixels: int = 0) -> bool:
    """Return True if an error from an image with `pixels` pixels may be a memory error.

    Libraries hide the reason: for a progressive JPEG, Pillow then says "broken data stream" and DALI "failed to
    decode", and a WebP is not even recognised. So an error is blamed on the image only if there is memory for it.
    """
    if isinstance(error, MemoryError | NoMemory):
        return True
    if isinstance(error, Failure) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOMEM)):
        return False
    return bool(WORDS.search(str(error))) or not _has_room(ROOM + A_PIXEL * pixels)


def check(error: BaseException, pixels: int = 0) -> None:
    """Raise MemoryError if an error from an image with `pixels` pixels may be a memory error."""
    if ran_out(error, pixels):
        raise MemoryError(f"{error}") from error


@contextmanager
def noticed(what: str) -> Iterator[None]:
    """Raise NoMemory, naming `what` was being done, if memory runs out in the block."""
    try:
        yield
    except Exception as error:
        if isinstance(error, NoMemory) or not ran_out(error):
            raise
        detail = f" ({' '.join(str(error).split()):.200})" if str(error) else ""
        raise NoMemory(f"memory ran out while {what}{detail}: {ADVICE}") from error


ADVICE = (
    "reduce prepare.processes in params.yaml, or free memory. The same command resumes from the last complete shard"
)


def _has_room(size: int) -> bool:
    """Return True if this process can allocate `size` bytes."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


def keep_freed_memory() -> None:
    """Let glibc keep the memory that this process frees, instead of returning it to the kernel.

    Each step of a net on a CPU allocates the same large tensors again. The kernel would clear their pages each time,
    which takes a quarter of a training step. Other C libraries have no such setting.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)  # also large blocks come from the heap
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
