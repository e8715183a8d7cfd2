"""Stages whose inputs are ready, run concurrently: DVC itself runs one after the other.

DVC's graph is loaded once. One DVC handles all stages that are up to date or cached; each stage with work to do is
brought up to date by its own `dvc repro --single-item`, so that the lock file, the caches and their meaning stay DVC's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import FileIO
from selectors import EVENT_READ, DefaultSelector
from types import FrameType
from typing import Any, NamedTuple

import psutil

from pipeline.errors import Failure, Interrupted
from pipeline.experiment.paper_tables import TITLES, number_of
from pipeline.experiment.params import Params
from pipeline.orchestration.dvc_graph import ALWAYS, IN_USE, Needs, forecasts, needs
from pipeline.orchestration.estimate import Estimate
from pipeline.orchestration.live_view import Foot, Lines, ViewRow
from pipeline.orchestration.own_dvc import IN_USE_BY, WAITS
from pipeline.orchestration.resources import ResourceShare
from pipeline.system.locks import in_turn
from pipeline.system.process_lifetime import OWN_DVC, end_with_parent, handled
from pipeline.system.progress import EVERY, QUIET, told

LOOK = 0.25  # seconds between checks of the clock and of requests to stop
STOPPED = "stopped; the same command resumes with the remaining stages"
AGAIN = 5.0  # seconds until a stage is retried whose files another DVC is using
RUNS = "Running stage '"  # the beginning of DVC's line when it runs a stage
SKIPPED = (
    "didn't change, skipping",
    "is cached - skipping run, checking out outputs",
)  # the end of DVC's line when it does not
PIPE = 1 << 16  # bytes that a pipe holds, the most that an ended process can have left in it
LAST = 8  # lines of a failed stage that are repeated at the end
ENDING = (  # a training stage writes its checkpoint at the first two; the seconds are the time to wait
    (signal.SIGINT, 600.0, "stopping; press Ctrl-C again to stop without waiting for checkpoints"),
    (signal.SIGTERM, 10.0, "stopping at once"),
    (signal.SIGKILL, 2.0, "killing the remaining processes"),
)
# The place in ENDING_JOBS of the signal at which a stage leaves its job running. SIGTERM to a walk means that.
LEAVE = 2
ENDING_JOBS = (
    (signal.SIGINT, 600.0, "stopping the jobs; press Ctrl-C again to cancel them without waiting for checkpoints"),
    (signal.SIGINT, 60.0, "cancelling the jobs"),
    (signal.SIGTERM, 10.0, "leaving the jobs as they are"),
    (signal.SIGKILL, 2.0, "killing the remaining processes"),
)
JOB = re.compile(r"job \d+ .*")  # what a stage prints about its job on a cluster


def longest_first(graph: Needs) -> list[str]:
    """Return the stages by the length of the longest chain that must follow them, longest first."""
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


def lone(graph: Needs) -> set[str]:
    """Return the stages next to which nothing can run, in any order: every other one is before or after them."""
    above: dict[str, set[str]] = {}
    for stage in longest_first(graph):  # the stages that it needs have been visited by then
        above[stage] = set(graph[stage]).union(*(above[up] for up in graph[stage]))
    related = {stage: len(above[stage]) + sum(stage in others for others in above.values()) for stage in graph}
    return {stage for stage in graph if related[stage] == len(graph) - 1}


class Foreseen(NamedTuple):
    """A graph before a walk through it."""

    graph: Needs
    cheap: list[str]  # the stages, in order, that cost DVC next to nothing
    to_run: list[tuple[str, str]]  # the stages that have work to do, each with the reason


def foreseen(targets: Sequence[str], params: Params) -> Foreseen:
    """Return the graph that `targets` resolve to, which of its stages cost next to nothing, and which will run.

    Cheap ones are done, cached, or run every time, and need only others of their kind. It is a forecast: DVC is still
    asked for each. Raise UsageError as `pipeline.orchestration.dvc_graph.needs`.
    """
    try:
        stage_forecasts = forecasts(targets, params)
    except OSError as reason:  # another process has removed a file while it was read
        print(f"could not check what is up to date ({reason}): DVC checks each stage separately", flush=True)
        return Foreseen(needs(targets), [], [])
    cheap: dict[str, None] = {}
    for forecast in stage_forecasts:
        if (forecast.what != "run" or forecast.why == ALWAYS) and all(up in cheap for up in forecast.needs):
            cheap[forecast.stage] = None
    graph = {forecast.stage: forecast.needs for forecast in stage_forecasts}
    to_run = [(forecast.stage, forecast.why) for forecast in stage_forecasts if forecast.what == "run"]
    return Foreseen(graph, list(cheap), [(stage, why) for stage, why in to_run if stage not in cheap])


def repro_command(stages: Sequence[str]) -> list[str]:
    """Return the command that has DVC bring stages up to date, one after the other, and nothing before them."""
    return [sys.executable, "-m", OWN_DVC, WAITS, "repro", "--single-item", *stages]


def mend_list_of_files() -> None:
    """Remove DVC's list of files in use if it is broken, because a DVC was killed while it wrote the list.

    DVC writes it in place, under a lock of its own, and does nothing while it is broken.
    """
    with suppress(FileNotFoundError), in_turn(IN_USE.with_suffix(".lock")):
        try:
            json.loads(IN_USE.read_text())
        except ValueError:
            IN_USE.unlink()


@dataclass
class Child:
    """A DVC process and its stages: one stage, or those that are expected to cost nothing."""

    stages: Sequence[str]
    taken: Sequence[ResourceShare]  # from the free shares
    share: ResourceShare  # what it may use, which is more if nothing can run next to it
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)
    rest: bytes = b""  # the beginning of a line whose end has not arrived yet
    said: str = ""  # the latest line of progress
    blocked_by: str = ""  # the stage, and the process, that uses files of its stage
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST))

    @property
    def name(self) -> str:
        """Return the name of the stage, or the number of stages if there are several."""
        return self.stages[0] if len(self.stages) == 1 else f"{len(self.stages)} stages"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to DVC and all its descendants, which form a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def has_left_work(self) -> bool:
        """Return whether a process that it started still runs, such as a stage that outlives its DVC."""
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False


@dataclass
class Walk:
    """One walk through a graph, with as many stages at a time as there are shares of the machine.

    Everything happens in one thread: the kernel ends a child when the thread that started it ends, and a process of
    several threads must not run Python between fork and exec.
    """

    graph: Needs
    shares: Sequence[ResourceShare]
    # for the stages next to which nothing can run; the graph alone decides on these, so that it is the same every time
    whole: ResourceShare
    view: Lines
    cheap: Sequence[str] = ()  # stages that a single DVC handles first, all at once
    command: Callable[[Sequence[str]], list[str]] = repro_command
    away: Container[str] = ()  # stages that are jobs of a cluster, which take none of this machine's shares
    done: set[str] = field(default_factory=set)
    failed: dict[str, Sequence[str]] = field(default_factory=dict)  # stage to its last lines
    running: list[Child] = field(default_factory=list)
    waiting: dict[str, float] = field(default_factory=dict)  # for another DVC: stage to the time of the next try
    free: list[ResourceShare] = field(init=False)
    estimate: Estimate = field(default_factory=Estimate)
    asked: int = 0  # number of requests to stop
    ended: int = 0  # number of signals of `ending` that were sent
    patience: float = 0.0  # time of the next signal

    def __post_init__(self) -> None:
        self.free = list(self.shares)

    @property
    def on_cluster(self) -> bool:
        """Return True if stages are jobs, which outlive this process unless Ctrl-C stops them."""
        return any(share.cluster for share in self.shares)

    def run(self) -> None:
        """Run all stages. Raise Failure with those that failed, after all stages that do not depend on them have run.

        Raise Interrupted after SIGINT or SIGTERM, when no child is left.
        """
        mend_list_of_files()
        signals = handled(self._ask, signal.SIGINT, signal.SIGTERM)
        with DefaultSelector() as self.events, self.view, signals, self._children_end():
            if self.cheap:
                self._begin(self.cheap, self.free, self.whole)
            while self._go_on():
                self.view.show([self._row(child) for child in self.running], self._foot())
                self._hear()
            self.view.say("", self._foot().text)
        if self.asked:
            raise Interrupted(STOPPED)
        if self.failed:
            raise Failure(self._story())

    def _go_on(self) -> bool:
        """Start what can start, or end what must end. Return whether there is anything to wait for."""
        if self.asked:
            self._end()
            return bool(self.running)
        while stage := next((stage for stage in self._ready() if self._free_for(stage)), None):
            alone = stage in self._lone and stage not in self.away
            self._begin([stage], self._free_for(stage), self.whole if alone else None)
        return bool(self.running or self.waiting)

    def _ready(self) -> Iterator[str]:
        now, running = time.monotonic(), {stage for child in self.running for stage in child.stages}
        for stage in self._order:
            begun = stage in self.done or stage in self.failed or stage in running
            if not begun and self.graph[stage] <= self.done and self.waiting.get(stage, now) <= now:
                yield stage

    @cached_property
    def _order(self) -> Sequence[str]:
        return longest_first(self.graph)

    @cached_property
    def _lone(self) -> set[str]:
        """Return the stages that run alone; first used when the cheap stages are done, so that these do not count."""
        return lone({stage: self.graph[stage] - self.done for stage in self.graph if stage not in self.done})

    def _free_for(self, stage: str) -> list[ResourceShare]:
        """Return the free shares that a stage may have: the cluster's if it is a job, or else this machine's."""
        return [share for share in self.free if bool(share.cluster) == (stage in self.away)]

    def _begin(self, stages: Sequence[str], free: Sequence[ResourceShare], whole: ResourceShare | None) -> None:
        """Have DVC bring stages up to date, with the next of these free shares, or with `whole` and all of them."""
        taken = free[:] if whole else free[:1]
        for one in taken:
            self.free.remove(one)
        share = whole or taken[0]

        def settle() -> None:
            end_with_parent(signal.SIGTERM)
            share.keep_to_cores()

        process = subprocess.Popen(
            self.command(stages), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **self._environment(share)}, start_new_session=True, preexec_fn=settle,
        )  # fmt: skip
        self.running.append(Child(stages, taken, share, process))
        self._listen(self.running[-1])

    def _listen(self, child: Child) -> None:
        """Wake the walk when a child prints or ends."""
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self.events.register(child.process.stdout, EVENT_READ, child)
        with suppress(OSError, AttributeError):  # on a kernel without pidfd_open, the next check finds the end
            self.events.register(FileIO(os.pidfd_open(child.process.pid)), EVENT_READ, child)

    def _environment(self, share: ResourceShare) -> Mapping[str, str]:
        return share.environment | {QUIET: "1"} | ({EVERY: self.view.every} if self.view.every else {})

    def _hear(self) -> None:
        """Pass on what the stages print, and finish those whose process has exited, even if another holds its pipe."""
        for key, _ in self.events.select(LOOK):
            if key.fileobj is key.data.process.stdout:
                self._read(key.data)
            else:
                self._deafen(key.fileobj)
        for child in [child for child in self.running if self._has_ended(child)]:
            self._finish(child)

    def _read(self, child: Child) -> None:
        """Pass on the whole lines that a child has printed by now."""
        assert child.process.stdout is not None
        try:
            data = os.read(child.process.stdout.fileno(), PIPE)
        except BlockingIOError:
            return
        if not data:  # every writer has closed the pipe
            self._deafen(child.process.stdout)
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            self._line(child, line)

    def _deafen(self, file: Any) -> None:
        self.events.unregister(file)
        file.close()

    def _has_ended(self, child: Child) -> bool:
        """Return whether a child has exited and, after a request to stop, also whether no stage outlives it."""
        return child.process.poll() is not None and not (self.asked and child.has_left_work())

    def _line(self, child: Child, printed: bytes) -> None:
        line = printed.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
        if not line.strip() or line.startswith(CHATTER) or (self.asked and line.startswith(STOPPED_STAGE)):
            return
        if line.startswith(IN_USE_BY):
            child.blocked_by = line.removeprefix(IN_USE_BY)
            return
        states = line.startswith(RUNS) or line.endswith(SKIPPED) or JOB.fullmatch(line)
        progress = told(line) or (line if states else None)
        child.said = progress or child.said
        if not progress:
            child.last.append(line)
        if not (progress and self.view.every) and not line.endswith(SKIPPED):
            self.view.say(child.name, line)

    def _finish(self, child: Child) -> None:
        """Pass on the rest of a child's output, which another holder of its pipe may extend, and judge its exit."""
        assert child.process.stdout is not None
        if not child.process.stdout.closed:
            self._read(child)
        self._line(child, child.rest)
        for key in [key for key in self.events.get_map().values() if key.data is child]:
            self._deafen(key.fileobj)
        self.running.remove(child)
        self.free += child.taken
        self._judge(child, child.process.returncode)

    def _judge(self, child: Child, code: int) -> None:
        """Record an exit as done, as failed, or as to be retried because another DVC is using the stage's files."""
        if code == 0:
            self.done |= set(child.stages)
            if child.stages is not self.cheap:
                self.estimate.learn(child.name, time.monotonic() - child.began)
                self.view.ended(child.name, f"{len(self.done)} of {len(self.graph)} stages done")
                if child.name in TITLES:
                    self.view.say("", f"{child.name} is ready; to show it: vgg-repro table {number_of(child.name)}")
        elif child.stages is self.cheap:  # they are started one by one now
            return
        elif child.blocked_by and not self.asked:
            if child.name not in self.waiting:
                self.view.say(child.name, f"waits for {child.blocked_by} of another command in this clone")
            self.waiting[child.name] = time.monotonic() + AGAIN
            return
        elif not self.asked:
            self.failed[child.name] = list(child.last)
        self.waiting.pop(child.name, None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if number == signal.SIGTERM and self.on_cluster:
            self.ended, self.asked = LEAVE, LEAVE + 1

    def _end(self) -> None:
        """Send the next signal if another stop was requested or the previous signal has not helped in time."""
        now, ending = time.monotonic(), ENDING_JOBS if self.on_cluster else ENDING
        if self.ended >= min(self.asked, len(ending)) and now < self.patience:
            return
        if self.ended == len(ending):  # not even SIGKILL has helped
            self.running.clear()
            return
        number, seconds, words = ending[self.ended]
        self.ended, self.patience = self.ended + 1, now + seconds
        if self.running:
            self.view.say("", words)
        for child in self.running:
            child.signal(number)

    @contextmanager
    def _children_end(self) -> Iterator[None]:
        """Leave no child behind if something unforeseen ends the walk, such as a closed output."""
        try:
            yield
        finally:
            for child in self.running:
                child.signal(signal.SIGTERM)

    def _row(self, child: Child) -> ViewRow:
        return ViewRow(child.name, str(child.share), time.monotonic() - child.began, child.said)

    def _foot(self) -> Foot:
        waiting = self.waiting.keys() - {child.name for child in self.running}
        counts = {
            "running": len(self.running),
            "waiting for another DVC process": len(waiting),
            "failed": len(self.failed),
        }
        words = [f"{count} {what}" for what, count in counts.items() if count]
        text = ", ".join([f"{len(self.done)} of {len(self.graph)} stages done", *words])
        if any(child.stages is self.cheap for child in self.running):
            return Foot(f"{text}; checking what has to run", 0, None)
        cheap = set(self.cheap)
        running = {child.name: time.monotonic() - child.began for child in self.running}
        left = [stage for stage in self.graph if stage not in self.done | self.failed.keys() | running.keys()]
        total = len(self.graph) - len(cheap & self.done)
        part = (total - len(left) - len(running)) / total if total else 1.0
        return Foot(text, part, self.estimate.left(left, running, len(self.shares)))

    def _story(self) -> str:
        left = [stage for stage in self._order if stage not in self.done and stage not in self.failed]
        needed = f"; {len(left)} stages that need them were not run: {', '.join(left)}" if left else ""
        endings = [
            f"{stage}, last output:\n    " + "\n    ".join(lines) for stage, lines in self.failed.items() if lines
        ]
        return "\n".join([f"failed: {', '.join(sorted(self.failed))}{needed}", *endings])


STOPPED_STAGE = "ERROR: failed to reproduce"  # DVC's line on a stage that was interrupted, which is no error
CHATTER = (
    "Updating lock file",
    "Generating lock file",
    "Use `dvc push`",
    "To track the changes",
    "To enable auto staging",
    "\tgit add ",
    "\tdvc config core.autostage",
    "Data and pipelines",
    "> ",
)
