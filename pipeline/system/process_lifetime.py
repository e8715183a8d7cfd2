"""Processes end with those that started them, and signals mean something else for a while."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

PR_SET_PDEATHSIG = 1
ABOVE = 4  # generations: DVC, perhaps a shell, this process


def end_with_parent(number: signal.Signals) -> None:
    """From now on, have the kernel send this process a signal when the one that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_dvc() -> None:
    """From now on, send this process SIGTERM when the DVC above it is gone; nothing if there is none."""
    dvc = _dvc_above()
    if dvc is None:
        return
    try:
        handle = os.pidfd_open(dvc)
    except (OSError, AttributeError):  # gone already, or an old kernel
        return
    threading.Thread(target=_wait, args=(handle,), daemon=True).start()


def _wait(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()  # until that process ends
    os.kill(os.getpid(), signal.SIGTERM)


def _dvc_above() -> int | None:
    """Return the nearest process above this one that is `dvc ...` or `python -m dvc ...`; None if there is none."""
    with suppress(psutil.Error):  # one has gone meanwhile
        for process in psutil.Process().parents()[:ABOVE]:
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                return int(process.pid)
    return None


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
