"""Atomic file writes, which leave a complete file or none, and file hashes."""

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
    """A file being written that remembers its own first write error, so that other errors are not blamed on it."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write `data`. Keep the error if that fails."""
        return self._remembering_errors(super().write, data)

    def seek(self, *where: int) -> int:
        """Seek, which may flush the buffer. Keep the error if that fails."""
        return self._remembering_errors(super().seek, *where)

    def flush(self) -> None:
        """Flush the buffer. Keep the error if that fails."""
        self._remembering_errors(super().flush)

    def _remembering_errors(self, operation: Callable[..., Result], *arguments: Any) -> Result:
        try:
            return operation(*arguments)
        except OSError as error:
            self.failure = self.failure or error
            raise


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file next to `path` that replaces it only after the block succeeds and the data is on disk.

    Raise Failure if the file cannot be written; the old content of `path` is then unchanged. Exceptions raised by the
    block itself propagate unchanged.
    """
    partial = partial_of(path)
    try:
        with _failures_named(path):
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
            with _failures_named(path):
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
    """Close the file at the end, even if its buffer cannot be flushed."""
    try:
        yield
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    """Turn every OSError in the block into a Failure that names `path`."""
    try:
        yield
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> Failure:
    return Failure(f"{path} could not be written: {error.strerror or error}")


def partial_of(path: Path) -> Path:
    """Return the temporary path at which this process writes the content of `path`."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")


def sweep(path: Path) -> None:
    """Remove partial files that killed processes of this machine left next to `path`. Other machines may share it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}.*.partial"):
        pid = leftover.name.split(".")[-2]
        if pid.isdecimal() and not _runs(int(pid)):
            leftover.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Return whether a process still runs. A zombie does not: where nobody collects orphans, one stays for ever."""
    import psutil  # here because the import is slow and leftovers are rare

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def sync_folder(folder: Path) -> None:
    """Sync the names in `folder` to disk. A disk that does not support this writes them a little later."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy(origin: Path, destination: Path) -> None:
    """Copy a file atomically. Raise Failure, naming the file, if one cannot be read or written."""
    try:
        with origin.open("rb") as source, whole(destination) as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise Failure(f"{origin} could not be read: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, values: Any) -> None:
    """Write `values` to `path` as readable JSON: indented, with a trailing newline."""
    write_text(path, json_text(values))


def json_text(values: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def whole_csv(path: Path) -> Iterator[Any]:
    """Open a CSV writer over `whole`: UTF-8, with "\\n" as line end."""
    with whole(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield csv.writer(text, lineterminator="\n")
        text.detach()  # this flushes, and `whole` still needs the file open


def read_json(path: Path, make: str) -> Any:
    """Return the JSON at `path`. Raise Failure, naming the command `make`, if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise Failure(f"{path} does not exist; make it with: {make}") from None
    except OSError as error:
        raise Failure(f"{path} could not be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise Failure(f"{path} is not valid JSON ({error}); make it again with: {make}") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(values: Any) -> str:
    """Return the SHA-256 of plain values, in hexadecimal. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
