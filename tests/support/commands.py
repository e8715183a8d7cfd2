"""Commands in process groups of their own, whose processes are found by a mark and can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.clones import patience

BIN = Path(sys.executable).parent
MARK = "VGG_REPRO_TEST_MARK"  # in the environment of what a test starts, and of all that comes from it
PATIENCE = patience(120)  # seconds for anything that takes a few


def hang_up_as_usual() -> None:
    """Let SIGHUP do what it does, even if these tests themselves run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class MarkedCommand:
    """A command in a process group of its own; all that comes from it bears a mark. Its words are in `said`."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.log = folder.parent / f"{self.mark}.log"
        inherited = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}
        path = f"{BIN}{os.pathsep}{inherited['PATH']}"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=hang_up_as_usual, env={**inherited, "PATH": path, MARK: self.mark, **environment},
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All that it and its children have printed."""
        return self.log.read_text(errors="replace")

    def ends(self, seconds: float) -> bool:
        """Whether it ends within so many seconds; returns as soon as it does."""
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> str:
        """Wait for a good end; what it said."""
        assert self.ends(PATIENCE), f"still running after {PATIENCE:.0f} s:\n{self.said}"
        assert self.child.returncode == 0, self.said
        return self.said

    def kill(self, group: bool) -> bool:
        """SIGKILL to the process or to its whole group; whether that came before its end."""
        (os.killpg if group else os.kill)(self.child.pid, signal.SIGKILL)
        return self.child.wait() == -signal.SIGKILL

    def relatives(self) -> list[int]:
        """Every living process that bears its mark."""
        return [pid for pid in processes() if f"{MARK}={self.mark}".encode() in proc_file(pid, "environ").split(b"\0")]

    def leaves_nothing(self) -> None:
        """Killed, it takes all that came from it along."""
        until("all that came from a killed process to end", lambda: not self.relatives())

    def clear(self) -> None:
        """End all that still runs, and wait for it: DVC takes a process that is ending for one at work."""
        killed = []
        for pid in self.relatives():
            with suppress(psutil.NoSuchProcess):
                killed.append(psutil.Process(pid))
                killed[-1].kill()
        self.child.wait()
        psutil.wait_procs(killed, patience(600))
        until("the killed processes to be reaped", lambda: not self._unreaped())

    def _unreaped(self) -> list[int]:
        """Every process of its session, also one that has ended and waits for its parent, as DVC counts it."""
        unreaped = []
        for pid in processes():
            with suppress(ProcessLookupError):
                unreaped += [pid] * (os.getsid(pid) == self.child.pid)
        return unreaped


def processes() -> list[int]:
    """All processes there are."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def proc_file(pid: int, what: str) -> bytes:
    """A file of /proc/PID; empty if the process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def until(what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `condition` returns, as soon as it is true; the test fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return value
