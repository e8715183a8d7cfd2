"""File locks, which let one process at a time do a piece of work.

They are Linux's locks of an open file (F_OFD_SETLK). They can be queried without being taken, NFS supports them, they
exclude threads as well as processes, and the kernel releases a lock when the process that holds it ends. Other systems
have flock(2) instead, which can only be queried by taking it for a moment.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import Failure

OF_OPEN_FILES = sys.platform == "linux"
LOCKS = Path("/proc/locks")
STRUCT = struct.Struct("hhqqi4x")  # struct flock in C: type, whence, start, length, process


@contextmanager
def alone(lock: Path, work: str) -> Iterator[None]:
    """Hold the file `lock` during the block.

    Raise Failure, naming the `work` and the holder, if another process holds it. The lock is released when the process
    ends, for whatever reason.
    """
    while True:
        with _open(lock) as file:
            if not _taken(file, lock):
                raise Failure(f"another process is already {work}: {_holder_name(file) or 'it'} holds {lock}")
            if not _is_current(file, lock):
                continue
            with suppress(OSError):  # on a full disk the holder stays anonymous
                file.truncate(0)
                os.write(file.fileno(), _own_name().encode())
            yield
            return


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold a flock(2) lock of an existing file or folder during the block, after waiting for it.

    Raise FileNotFoundError if it does not exist.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def holder(lock: Path) -> str | None:
    """Return how the holder of the file `lock` describes itself, or None without a holder. Do not take the lock."""
    try:
        with lock.open(errors="replace") as file:
            if _is_free(file.fileno()):
                return None
            return _holder_name(file) or "somebody"
    except OSError:
        return None


def flock_held(lock: Path) -> bool:
    """Return whether a process holds a flock(2) lock, which is DVC's kind, on the file `lock`. Do not take it.

    The kernel's list of locks is asked, because flock itself cannot be queried. It has this machine's locks alone.
    Where there is no such list, a shared lock is taken for a moment.
    """
    if not LOCKS.exists():
        return lock.exists() and not _takes_flock(lock)
    try:
        inode, locks = str(lock.stat().st_ino), LOCKS.read_text()
    except OSError:
        return False
    entries = (line.split() for line in locks.splitlines())  # 1: FLOCK ADVISORY WRITE 4711 fe:00:131 0 EOF
    return any(entry[1] == "FLOCK" and entry[5].rpartition(":")[2] == inode for entry in entries)


def _takes_flock(lock: Path) -> bool:
    """Take a shared flock(2) lock of the file `lock` for a moment. Return False if another process excludes it."""
    with suppress(OSError), lock.open() as file:  # it has been removed, or flock is not supported
        return _shares_flock(file.fileno())
    return True


def take(file: int) -> bool:
    """Lock the open `file` until it is closed. Return False if it is locked. Raise OSError if locks are unsupported."""
    try:
        if OF_OPEN_FILES:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _whole_file_lock(fcntl.F_WRLCK))
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows both
        return False
    return True


def _is_free(file: int) -> bool:
    """Return True if nobody holds a lock of the open `file`."""
    if OF_OPEN_FILES:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _whole_file_lock(fcntl.F_RDLCK))
        return bool(STRUCT.unpack(answer)[0] == fcntl.F_UNLCK)
    return _shares_flock(file)


def _shares_flock(file: int) -> bool:
    """Take a shared flock(2) lock of the open `file` until it is closed. Return False if another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken(file: IO[str], lock: Path) -> bool:
    try:
        return take(file.fileno())
    except OSError as error:
        raise Failure(f"{lock} could not be locked: {error.strerror or error}") from error


def _whole_file_lock(kind: int) -> bytes:
    """Return the kernel's structure for a lock of a whole file."""
    return STRUCT.pack(kind, os.SEEK_SET, 0, 0, 0)


def _holder_name(file: IO[str]) -> str:
    """Return how the holder describes itself, or an empty string if it has not done so yet."""
    file.seek(0)
    return file.read().strip()


def _own_name() -> str:
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},\n"


def _open(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+", errors="replace")
    except OSError as error:
        raise Failure(f"{lock} could not be written: {error.strerror or error}") from error


def _is_current(file: IO[str], lock: Path) -> bool:
    """Return True if the open `file` is still the one at its path. The last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
