"""The output of a walk: a live table of the running stages on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple

from pipeline.system.progress import duration


class ViewRow(NamedTuple):
    """A running stage, as a row of the live table."""

    stage: str
    where: str  # its GPUs or cores
    seconds: float  # since its start
    said: str  # its latest line of progress


class Foot(NamedTuple):
    """The state of the whole walk."""

    text: str
    part: float  # of the stages that had to run, done: 0 to 1
    left: float | None  # seconds; None if unknown


class Lines:
    """Plain lines, each prefixed with its stage's name if several stages may be running."""

    every: str | None = None  # seconds between a stage's lines of progress; None: the default

    def __init__(self, named: bool) -> None:
        self.named = named

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        pass

    def say(self, stage: str, text: str) -> None:
        """Print a line that stays; without a stage's name it is the walk's own."""
        self._print(f"{stage} | {text}" if self.named and stage else text)

    def show(self, rows: Sequence[ViewRow], foot: Foot) -> None:
        """Show what is running now."""

    def ended(self, stage: str, text: str) -> None:
        """Print that a stage has been done, with the time of day, where no table shows it."""
        if self.named:
            self.say(stage, f"done at {datetime.now():%H:%M}; {text}")

    def _print(self, line: str) -> None:
        print(line, flush=True)


class LiveTable(Lines):
    """A table below the lines that is redrawn when something changes and removed at the end."""

    every = "1"
    between = 0.1  # minimum seconds from one drawing to the next

    def __init__(self, named: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(named)
        self.console, self.drawn = Console(), 0.0
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Lines:
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.live.stop()

    def show(self, rows: Sequence[ViewRow], foot: Foot) -> None:
        """Show what is running now."""
        if time.monotonic() - self.drawn > self.between:
            self.live.update(drawing(rows, foot), refresh=True)
            self.drawn = time.monotonic()

    def ended(self, stage: str, text: str) -> None:
        """Say nothing: the table shows it."""

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def drawing(rows: Sequence[ViewRow], foot: Foot) -> Any:
    """Return one bar for all, then one line per stage, cut at the terminal's edge, as rich draws them."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 2), expand=True)
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    for row in rows:
        grid.add_row(Text(row.stage, "bold"), Text(row.where), Text(duration(row.seconds)), Text(row.said))
    left = "" if foot.left is None else f", about {duration(foot.left)} left"
    whole = Grid.grid(expand=True)
    whole.add_row(ProgressBar(1.0, foot.part))
    return Group(whole, Text(f"{foot.text}{left}"), grid)


def view(named: bool) -> Lines:
    """Return a table on a terminal that can move its cursor, else lines."""
    moves = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return LiveTable(named) if moves else Lines(named)
