"""One process at a time on a piece of work.

Locks are Linux's of an open file (F_OFD_SETLK): they can be asked about without being taken, NFS knows them, threads
keep each other off as processes do, and the kernel lets a lock go when the process that holds it ends.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import Failure

STRUCT = struct.Struct("hhqqi4x")  # C's flock: type, whence, start, length, process


@contextmanager
def alone(lock: Path, work: str) -> Iterator[None]:
    """Hold the file `lock` meanwhile; Failure, naming the `work` and who does it, if another process holds it.

    A process that ends, however it ends, lets it go.
    """
    while True:
        with _open(lock) as file:
            if not _taken(file, lock):
                raise Failure(f"another process is {work} already: {_named(file) or 'it'} holds {lock}")
            if not _is_there(file, lock):
                continue
            with suppress(OSError):  # on a full disk nobody learns who it is
                file.truncate(0)
                os.write(file.fileno(), _who().encode())
            yield
            return


def holder(lock: Path) -> str | None:
    """Return who holds the file `lock`, as they say it of themselves; none if nobody does. The lock is not taken."""
    try:
        with lock.open(errors="replace") as file:
            asked = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _whole(fcntl.F_RDLCK))
            if STRUCT.unpack(asked)[0] == fcntl.F_UNLCK:
                return None
            return _named(file) or "somebody"
    except OSError:
        return None


def take(file: int) -> bool:
    """Hold the open `file` until it is closed; false if another holds it. OSError where there are no locks."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _whole(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError):  # POSIX allows both
        return False
    return True


def _taken(file: IO[str], lock: Path) -> bool:
    try:
        return take(file.fileno())
    except OSError as error:
        raise Failure(f"{lock} could not be locked: {error.strerror or error}") from error


def _whole(kind: int) -> bytes:
    """Return the lock of a whole file, as the kernel reads it."""
    return STRUCT.pack(kind, os.SEEK_SET, 0, 0, 0)


def _named(file: IO[str]) -> str:
    """Return who the holder says that it is; empty if it has not said so yet."""
    file.seek(0)
    return file.read().strip()


def _who() -> str:
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},\n"


def _open(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+", errors="replace")
    except OSError as error:
        raise Failure(f"{lock} could not be written: {error.strerror or error}") from error


def _is_there(file: IO[str], lock: Path) -> bool:
    """Whether the open `file` is still the one at its place: whoever held it may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
