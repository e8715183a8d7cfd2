"""Reading a file by a library that a damaged file can crash: in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.errors import Failure
from pipeline.system.worker_pool import run_apart


class FileContents(Protocol):
    """What is read from a file."""

    @property
    def wrong(self) -> str:
        """The reason if there is no net; it follows the file's name."""


Read = TypeVar("Read", bound=FileContents)


def contents_of(file: Path, read: Callable[[Path, bool], Read]) -> Read:
    """Return `read(file, False)`. Raise Failure if the process dies, or with the reason if there is no net."""
    try:
        contents = run_apart(read, file, f"reading {file}")
    except Failure:
        raise Failure(
            f"{file} is damaged or too large for this machine's memory: the process that read it died"
        ) from None
    if contents.wrong:
        raise Failure(f"{file} {contents.wrong}")
    return contents
