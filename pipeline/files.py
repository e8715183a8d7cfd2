"""Files written whole or not at all, and hashed."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.errors import Failure


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path` that takes its place only when the block has ended well and the disk has it.

    Failure if it cannot be written; whatever stood at `path` then stands there still.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _sweep(path: Path) -> None:
    """Remove what processes that were killed left beside `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        pid = left.name.split(".")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            left.unlink(missing_ok=True)


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
    except ValueError as error:  # no JSON, or no text at all
        raise Failure(f"{path} is no JSON ({error}); make it again with: {make}") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(values: Any) -> str:
    """The SHA-256 of plain values, in hexadecimal, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
