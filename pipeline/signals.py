"""Signals that mean something else for a while, and then what they meant before."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Have `handler` called on these signals meanwhile."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def restored(*numbers: signal.Signals) -> Iterator[None]:
    """Give these signals, at the end, the handlers that they have now, whatever others set meanwhile."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, usual in before.items():
            if signal.getsignal(number) is not usual:
                signal.signal(number, usual)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that end work in order; a terminal's end is one, unless nohup has it ignored."""
    lost = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else []
    return [signal.SIGINT, signal.SIGTERM, *lost]


def stopped_by_sigterm() -> AbstractContextManager[None]:
    """SIGTERM is KeyboardInterrupt meanwhile, so that processes are ended in order."""
    return handled(_interrupt, signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
