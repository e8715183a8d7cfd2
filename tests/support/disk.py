"""A disk of a given size: what is written under a folder fails once it is full."""

from __future__ import annotations

import errno
import io
import os
import platform
import re
import stat
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

FULL = os.strerror(errno.ENOSPC)


class Opened(NamedTuple):
    """A file opened for writing: the place it is meant for, and the bytes written, those written twice included."""

    name: str
    bytes: int


class Disk:
    """What is written under a folder, as it would be on a disk that is full from some byte or some sync on.

    `full` is the number of a file, in the order of opening, and how many of its bytes find room; `sync` the number of
    the sync that fails. Both count from 0.
    """

    def __init__(self, folder: Path, full: tuple[int, int] | None = None, sync: int | None = None) -> None:
        self.folder, self.full, self.sync = str(folder), full, sync
        self.opened: list[Opened] = []
        self.syncs = 0
        self.failed: int | None = None  # the number of the file in which it filled

    def __enter__(self) -> Disk:
        self.patch = pytest.MonkeyPatch()
        self.real_open, self.real_sync = io.open, os.fsync
        self.patch.setattr(io, "open", self._open)
        self.patch.setattr(os, "fsync", self._sync)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def name(self, path: str) -> str:
        """The place that a file beside it is meant for, relative to the folder."""
        beside = rf"\.([^/]+)\.{re.escape(platform.node())}\.\d+\.partial$"
        return re.sub(beside, r"\1", os.path.relpath(os.path.abspath(path), self.folder))

    def room(self, number: int, wanted: int) -> int:
        """How many bytes of those wanted the file may write. OSError if it is none."""
        if self.full and self.full[0] == number:
            wanted = min(wanted, self.full[1] - self.opened[number].bytes)
        if self.failed is not None or wanted <= 0:
            self.failed = number if self.failed is None else self.failed
            raise OSError(errno.ENOSPC, FULL)
        self.opened[number] = self.opened[number]._replace(bytes=self.opened[number].bytes + wanted)
        return wanted

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> IO[Any]:
        path = os.path.abspath(file) if not isinstance(file, int) else ""
        if not set(mode) & set("wax+") or not path.startswith(self.folder):
            return self.real_open(file, mode, buffering, *text, **more)
        self.opened.append(Opened(self.name(path), 0))
        raw = Raw(path, mode.replace("b", "").replace("t", ""), self, len(self.opened) - 1)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, "utf-8", newline="")

    def _sync(self, number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):  # of names, not of a file's bytes
            return
        self.syncs += 1
        if self.sync is not None and self.syncs > self.sync:
            if self.failed is None:
                name = self.name(os.readlink(f"/proc/self/fd/{number}"))
                self.failed = max(i for i, opened in enumerate(self.opened) if opened.name == name)
            raise OSError(errno.ENOSPC, FULL)
        self.real_sync(number)


class Raw(io.FileIO):
    """A file that asks its disk for room."""

    def __init__(self, path: str, mode: str, disk: Disk, number: int) -> None:
        super().__init__(path, mode)
        self.disk, self.number = disk, number

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        return super().write(view[: self.disk.room(self.number, len(view))]) if len(view) else 0
