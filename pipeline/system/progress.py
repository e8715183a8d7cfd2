"""Progress display: a bar with rate and time left on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

INTERVAL = 15.0  # seconds between plain lines
QUIET = "VGG_REPRO_QUIET"  # set if the program that starts DVC shows the tables itself
EVERY = "VGG_REPRO_EVERY"  # another interval, for programs that show the lines as they arrive
NARROW = 90  # columns of a terminal below which the bar, the rate and the time left are not shown
LINE = re.compile(r".*?: (\d+(?:/\d+)? \w+, \d+/s(?:, .*)?)")


class Progress:
    """A display of how many units of work are done, of `total` if it is known; `note` is a short text next to it."""

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self.note = ""
        self.first, self.started, self.shown = done, time.monotonic(), time.monotonic()
        self.every = _interval()
        self.bar = _bar(unit) if sys.stdout.isatty() else None

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total, note="", **self._fields())
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.bar is not None:
            with suppress(OSError):  # the terminal has gone
                self.bar.stop()
        elif kind is None:
            self._say()

    def advance(self, units: int = 1, note: str | None = None) -> None:
        """Count `units` more units as done."""
        self.done += units
        self.note = self.note if note is None else note
        if self.bar is not None:
            self.bar.update(self.task, total=self.total, note=self.note, **self._fields())
        elif time.monotonic() - self.shown > self.every:
            self._say()

    def say(self, text: str) -> None:
        """Print a permanent line of its own."""
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        else:
            print(text, flush=True)

    def count(self) -> str:
        """Return the units done, of all if their number is known: 16/20, or 16."""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    def rate(self) -> float:
        """Return the units per second since the start."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)

    def _fields(self) -> dict[str, Any]:
        """Return what the bar shows of the units done."""
        return {"completed": self.done, "count": self.count(), "rate": f"{self.rate():.0f} {self.unit}/s"}

    def _say(self) -> None:
        self.shown = time.monotonic()
        rate = self.rate()
        remaining = 0 if self.total is None else self.total - self.done
        left = f", {duration(remaining / rate)} left" if rate > 0 and remaining > 0 else ""
        note = f", {self.note}" if self.note else ""
        print(f"{self.what}: {self.count()} {self.unit}, {rate:.0f}/s{left}{note}", flush=True)


def told(line: str) -> str | None:
    """Return the text of a plain progress line after the name of its work, or None for any other line."""
    match = LINE.fullmatch(line)
    return match[1] if match else None


def duration(seconds: float) -> str:
    """Return seconds as readable text: 42 s, 3 min 05 s, 2 h 10 min, 5 d 3 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def gigabytes(size: int) -> str:
    """Return a number of bytes as readable text: 1.1 GB, 3.5 MB, 12 kB."""
    if size < 1e5:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _interval() -> float:
    try:
        return float(os.environ[EVERY])
    except (KeyError, ValueError):
        return INTERVAL


def _bar(unit: str):  # type: ignore[no-untyped-def]  # rich is imported only for a terminal
    from rich import progress
    from rich.console import Console

    name = progress.TextColumn("{task.description}")
    count = progress.TextColumn("{task.fields[count]} " + unit)
    note = progress.TextColumn("{task.fields[note]}")
    if Console().width < NARROW:  # numbers and notes are worth more than the bar
        return progress.Progress(progress.TextColumn("{task.description} {task.fields[count]}"), note)
    rate = progress.TextColumn("{task.fields[rate]}")
    return progress.Progress(name, progress.BarColumn(), count, rate, progress.TimeRemainingColumn(), note)
