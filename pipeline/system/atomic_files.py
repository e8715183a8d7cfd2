"""Files written whole or not at all, and hashed."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from pipeline.errors import Failure

Result = TypeVar("Result")


class Target(io.BufferedWriter):
    """A file being written that remembers how that failed: what else fails meanwhile is no fault of its own."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write; the failure is kept."""
        return self._kept(super().write, data)

    def seek(self, *where: int) -> int:
        """Go to a place, for which what was written may have to leave the buffer."""
        return self._kept(super().seek, *where)

    def flush(self) -> None:
        """Empty the buffer; the failure is kept."""
        self._kept(super().flush)

    def _kept(self, act: Callable[..., Result], *words: Any) -> Result:
        try:
            return act(*words)
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path` that takes its place only when the block has ended well and the disk has it.

    Failure if it cannot be written; whatever stood at `path` then stands there still. What the block itself raises
    stays as it is.
    """
    partial = partial_of(path)
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path)
            file = Target(partial.open("wb", buffering=0))
        with _closed(file):
            try:
                yield file
            except Exception as error:
                if file.failure is None:
                    raise
                raise _not_written(path, file.failure) from error
            with _named(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
                partial.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def _closed(file: Target) -> Iterator[None]:
    """Close the file at the end, whatever becomes of what is still in its buffer."""
    try:
        yield
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have whatever the disk refuses meanwhile be a Failure that names `path`."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> Failure:
    return Failure(f"{path} could not be written: {error.strerror or error}")


def partial_of(path: Path) -> Path:
    """Return where this process writes what will be `path`."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")


def sweep(path: Path) -> None:
    """Remove what processes of this machine that were killed left beside `path`; others may share the folder."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}.*.partial"):
        import psutil  # only here: it takes a while, and as a rule nothing is left

        pid = left.name.split(".")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in `folder`; a disk that cannot be asked to keeps them all the same, a bit later."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def copy(here: Path, there: Path) -> None:
    """Copy a file whole. Failure names the one that could not be read or written."""
    try:
        with here.open("rb") as source, whole(there) as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise Failure(f"{here} could not be read: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, values: Any) -> None:
    """Write `values` to `path` as JSON for people: indented, a trailing newline."""
    write_text(path, json_text(values))


def json_text(values: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def whole_csv(path: Path) -> Iterator[Any]:
    """The same as `whole`, a writer of rows of CSV: UTF-8, lines that end in one character."""
    with whole(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield csv.writer(text, lineterminator="\n")
        text.detach()  # flushed, and left open for `whole`


def read_json(path: Path, make: str) -> Any:
    """The JSON at `path`; Failure says that it is missing or broken and that `make` makes it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise Failure(f"{path} is not there; make it with: {make}") from None
    except OSError as error:
        raise Failure(f"{path} could not be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # no JSON, or no text at all
        raise Failure(f"{path} is no JSON ({error}); make it again with: {make}") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(values: Any) -> str:
    """The SHA-256 of plain values, in hexadecimal, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
