"""Work that somebody starts by hand and that outlives the terminal: logging out ends DVC, and not this."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import BinaryIO

LOG = "VGG_REPRO_LOG"  # for the processes that share the work


def outlive_terminal(log: Path) -> None:
    """When the terminal goes (SIGHUP), go on, and print at the end of `log` from then on."""

    def turn(number: int, frame: FrameType | None) -> None:
        with _opened(log) as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup has seen to it
        os.environ[LOG] = str(log.absolute())
        signal.signal(signal.SIGHUP, turn)


def _opened(log: Path) -> BinaryIO:
    """The log's end; nowhere, where that cannot be written: the work is worth more than its words."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError:
        return open(os.devnull, "ab")


def outlive_as_told() -> None:
    """As the process that started this one does, if it does."""
    if LOG in os.environ:
        outlive_terminal(Path(os.environ[LOG]))
