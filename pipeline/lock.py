"""One process at a time on a piece of work."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import Failure


@contextmanager
def alone(lock: Path, work: str) -> Iterator[None]:
    """Hold the file `lock` meanwhile; Failure, naming the `work` and who does it, if another process holds it.

    A process that ends, however it ends, lets it go.
    """
    while True:
        with _open(lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "it"
                raise Failure(f"another process is {work} already: {who} holds {lock}") from None
            if not _is_there(file, lock):
                continue
            with suppress(OSError):  # on a full disk nobody learns who it is
                file.truncate(0)
                os.write(file.fileno(), _who().encode())
            yield
            return


def holder(lock: Path) -> str | None:
    """Who holds the file `lock`, as they say it of themselves; none if nobody does."""
    try:
        with lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "somebody"
    except OSError:
        return None
    return None


def _who() -> str:
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')},\n"


def _open(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+")
    except OSError as error:
        raise Failure(f"{lock} could not be written: {error.strerror or error}") from error


def _is_there(file: IO[str], lock: Path) -> bool:
    """Whether the open `file` is still the one at its place: whoever held it may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
