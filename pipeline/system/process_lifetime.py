"""Processes that end with the process that started them, and temporary signal handlers."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

PR_SET_PDEATHSIG = 1
ABOVE = 4  # generations to search: DVC may have started this process through a shell


def end_with_parent(number: signal.Signals) -> None:
    """Make the kernel send this process a signal when its parent process ends. Only Linux can; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_dvc() -> None:
    """Send this process SIGTERM when the DVC process above it ends. Do nothing if there is none."""
    dvc = _dvc_above()
    if dvc is None:
        return
    try:
        handle = os.pidfd_open(dvc)
    except (OSError, AttributeError):  # the process has ended already, or the kernel is old
        return
    threading.Thread(target=_terminate_after, args=(handle,), daemon=True).start()


def _terminate_after(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()  # returns when that process ends
    os.kill(os.getpid(), signal.SIGTERM)


def _dvc_above() -> int | None:
    """Return the nearest ancestor process that is `dvc ...` or `python -m dvc ...` (or `cli.dvc`), or None."""
    with suppress(psutil.Error):  # an ancestor may have ended
        for process in psutil.Process().parents()[:ABOVE]:
            if any(Path(word).name in ("dvc", "cli.dvc") for word in process.cmdline()[:3]):
                return int(process.pid)
    return None


Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Call `handler` on these signals during the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def restored(*numbers: signal.Signals) -> Iterator[None]:
    """Restore the current handlers of these signals after the block, even if others were set in it."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            if signal.getsignal(number) is not previous:
                signal.signal(number, previous)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop work in an orderly way. SIGHUP is one unless nohup ignores it."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def stopped_by_sigterm() -> AbstractContextManager[None]:
    """Raise KeyboardInterrupt on SIGTERM during the block, so that processes are stopped in an orderly way."""
    return handled(_interrupt, signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
