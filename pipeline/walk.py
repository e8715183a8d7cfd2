"""Stages whose inputs are ready, run side by side: DVC itself runs one after the other.

DVC's graph is loaded once; each stage is brought up to date by a `dvc repro --single-item` of its own, so that the
lock file, the caches and the meaning stay DVC's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from pipeline.errors import Failure
from pipeline.graph import Needs
from pipeline.orphan import end_with_parent


def longest_first(graph: Needs) -> list[str]:
    """The stages by how many others must follow them one after the other, most first."""
    followers: dict[str, list[str]] = {stage: [] for stage in graph}
    for stage, upstream in graph.items():
        for up in upstream:
            followers[up].append(stage)
    heights: dict[str, int] = {}

    def height(stage: str) -> int:
        if stage not in heights:
            heights[stage] = 1 + max(map(height, followers[stage]), default=0)
        return heights[stage]

    return sorted(graph, key=height, reverse=True)


@dataclass
class Walk:
    """One walk through a graph with `jobs` stages at a time."""

    graph: Needs
    jobs: int
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    children: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    printing: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Run all stages; Failure names those that failed. What does not depend on a failed stage is still run."""
        order, running = longest_first(self.graph), dict[Future[bool], str]()
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while True:
                    for stage in self._ready(order, set(running.values()))[: self.jobs - len(running)]:
                        running[pool.submit(self._stage, stage)] = stage
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        (self.done if future.result() else self.failed).add(running.pop(future))
            except BaseException:
                self._end(signal.SIGINT)  # a training stage writes its checkpoint first
                raise
        if self.failed:
            skipped = len(self.graph) - len(self.done) - len(self.failed)
            raise Failure(f"failed: {', '.join(sorted(self.failed))}; {skipped} stages that need them were not run")

    def _ready(self, order: Sequence[str], running: set[str]) -> list[str]:
        left = (stage for stage in order if stage not in self.done | self.failed | running)
        return [stage for stage in left if self.graph[stage] <= self.done]

    def _stage(self, stage: str) -> bool:
        """Bring one stage up to date, its output passed on line by line; whether it went well."""
        child = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            preexec_fn=lambda: end_with_parent(signal.SIGTERM),
        )  # fmt: skip
        self.children[stage] = child
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith(CHATTER):
                with self.printing:
                    print(line, end="", flush=True)
        return child.wait() == 0

    def _end(self, number: signal.Signals) -> None:
        for child in self.children.values():
            if child.poll() is None:
                os.killpg(child.pid, number)


CHATTER = (
    "Updating lock file",
    "Generating lock file",
    "Use `dvc push`",
    "To track the changes",
    "To enable auto staging",
    "\tgit add ",
    "\tdvc config core.autostage",
    "\n",
    "Data and pipelines",
    "> ",
)
