"""Processes end with those that started them: otherwise DVC, started again, would find a stage still at work."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path

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
