"""The log of unexpected errors: one file per error, with its traceback, for debugging."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

LOGS = Path("logs")
KEPT = 50  # files; older files are removed


def unexpected(error: BaseException) -> str:
    """Write the traceback of an error to a file. Return a message that names the error and the file."""
    return with_log(f"unexpected {type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def with_log(message: str, text: str) -> str:
    """Write the traceback `text` to a file. Return `message` with the file, or with `text` if writing fails."""
    path = LOGS / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}, process {os.getpid()}, Python {sys.version}"
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{head}\n{shlex.join(sys.argv)}\n{message}\n\n{text}\n")
    except OSError:
        return f"{message}\n{text}"
    _prune(path.parent)
    return f"{message} (traceback: {path})"


def _prune(folder: Path) -> None:
    """Remove all but the newest logs. Other processes may do so at the same time."""
    for old in sorted(folder.glob("error-*.log"))[:-KEPT]:
        with suppress(OSError):
            old.unlink()
