"""A process of its own for what may be slow or end its process: importing torch, decoding with DALI."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from pipeline.orphan import end_with_parent

PATIENCE = 180.0  # seconds; an environment on a network disk is slow at first


class DiedError(Exception):
    """The process has ended without an answer, and why."""


class Child:
    """A process that is at work from now on; its answer is the JSON on the last line that it prints."""

    def __init__(self, command: list[str]) -> None:
        self.answer: dict[str, Any] | DiedError | None = None
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        """The answer, waited for; DiedError says why there is none."""
        if self.answer is None:
            self.answer = self._wait()
        if isinstance(self.answer, DiedError):
            raise self.answer
        return self.answer

    def _wait(self) -> dict[str, Any] | DiedError:
        try:
            out, said = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            return DiedError(f"no answer within {PATIENCE:.0f} s")
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        if self.process.returncode < 0:
            return DiedError(f"it was ended by {_signal(-self.process.returncode)}: {last}")
        try:
            answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            return DiedError(last)
        return answer

    def end(self) -> None:
        """End the process if it is still at work."""
        self.process.kill()
        self.process.communicate()


def probe(*words: str) -> Child:
    """One of pipeline.health.probes, begun."""
    return Child([sys.executable, "-m", "pipeline.health.probes", *words])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
