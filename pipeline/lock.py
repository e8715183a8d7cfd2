"""One process at a time on a piece of work."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import Failure


@contextmanager
def alone(lock: Path, work: str) -> Iterator[None]:
    """Hold the file `lock` meanwhile; Failure, naming the `work`, if another process holds it. A kill lets it go."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another process is {work} already (it holds {lock})") from None
        yield
