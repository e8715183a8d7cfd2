"""Processes end with those that started them: otherwise DVC, started again, would find a stage still at work."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
ABOVE = 4  # generations: DVC, perhaps a shell, this process


def end_with_parent(number: signal.Signals) -> None:
    """From now on, have the kernel send this process a signal when the one that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_dvc() -> None:
    """From now on, send this process SIGTERM when the DVC above it is gone; nothing if there is none."""
    dvc = _dvc_above(os.getpid())
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


def _dvc_above(pid: int) -> int | None:
    """The nearest process above `pid` that runs DVC."""
    for _ in range(ABOVE):
        pid = _parent(pid)
        if pid <= 1:
            return None
        if _is_dvc(pid):
            return pid
    return None


def _parent(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])


def _is_dvc(pid: int) -> bool:
    """Whether a process is `dvc ...` or `python -m dvc ...`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name == "dvc" for word in words[:3])
