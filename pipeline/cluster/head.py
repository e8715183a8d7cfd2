"""A stage's job seen from the machine of DVC: submitted or joined, followed to its end, stopped when asked."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple, NoReturn

from pipeline.cluster import slurm
from pipeline.cluster.batch_script import batch_script
from pipeline.cluster.job_folder import Asked, JobFolder, job_folder
from pipeline.cluster.settings import FILE, JobRequest, Kind
from pipeline.cluster.slurm import ControllerAway, JobState
from pipeline.errors import Failure, Interrupted
from pipeline.system.atomic_files import digest, write_text
from pipeline.system.locks import alone
from pipeline.system.process_lifetime import handled, stop_signals

LOOK = 1.0  # seconds between looks at the job's log and exit code
PENDING = 10.0  # at most, between questions about the state of a job that waits
UNSEEN = 3  # answers without the job until it counts as lost
SETTLE = 60.0  # seconds for the exit code of a job that has ended to become visible on a network file system
STOPPED = (130, 143)  # exit codes of work that was told to stop
ADVICE = {
    "TIMEOUT": "it reached its time limit{before}: raise `time` of {kind} in {file}, or `notice`",
    "CANCELLED": "it was cancelled",
    "OUT_OF_MEMORY": "it ran out of memory: raise `memory` of {kind} in {file}",
    "NODE_FAIL": "its node failed",
}


class StageWork(NamedTuple):
    """The work of a stage that can be a job."""

    stage: str  # DVC's name of it
    kind: Kind
    command: Sequence[str]
    key: str  # hash of everything that shapes its results
    outputs: Sequence[Path]
    parameters: Mapping[str, Any] = MappingProxyType({})  # by their keys in params.yaml, to name those that change

    @property
    def resumes(self) -> bool:
        """Return True if the work goes on from where it was stopped."""
        return self.kind != "score"


def run_as_job(work: StageWork, request: JobRequest, poll: float, check: Callable[[], object]) -> None:
    """Have a job do the work of a stage; join the one that does it already, or take over what it has finished.

    `check` raises Failure if the results must not be recorded now; they are kept. Raise Failure also if the job fails
    or is lost, and Interrupted if it is stopped or left.
    """
    folder = job_folder(work.stage)
    follower = _Follower(work, request, folder, poll)
    with alone(folder.lock, f"following the job of {work.stage}"), follower.listening():
        if follower.has_job():
            follower.follow()
        else:
            folder.put_back()
            print(f"job {folder.number} has finished meanwhile: its results are taken over", flush=True)
        check()
        folder.wait_for_results()


def submitted(work: StageWork, request: JobRequest, folder: JobFolder) -> str:
    """Submit a new job and return its number. Raise ControllerAway, or Failure with Slurm's reason."""
    settings = request.model_dump(mode="json")
    folder.begin(Asked(work.key, list(map(str, work.outputs)), dict(work.parameters), settings))
    write_text(folder.script, batch_script(work.stage, folder, work.command, request, work.resumes))
    number = slurm.submit(folder.script, request, name_of(work.stage), comment_of(work), folder.log)
    folder.record(number)
    return number


def comment_of(work: StageWork) -> str:
    """Return the comment by which a job is known: a hash of what it makes, and of the clone in which it does."""
    return digest([work.key, str(Path.cwd())])[:16]


def name_of(stage: str) -> str:
    """Return the name of a stage's job."""
    return f"vgg:{stage}"


@dataclass
class _Follower:
    """The wait for a job's end, during which its log is printed and signals are answered.

    Ctrl-C stops the job, a second one cancels it. The end of the terminal or of DVC leaves it running.
    """

    work: StageWork
    request: JobRequest
    folder: JobFolder
    poll: float
    number: str = ""  # of the job
    state: JobState | None = None
    asked: int = 0  # to stop, by Ctrl-C
    answered: int = 0
    left: bool = False  # asked to leave the job alone
    read: int = 0  # bytes of the log that have been printed
    unseen: int = 0
    ended: float = 0.0  # when the job was first seen to have ended
    next_look: float = 0.0
    said: str = ""

    def has_job(self) -> bool:
        """Join the job that does the work already, or submit one. Return False if one has finished unseen.

        Raise Failure if a job does other work of the stage, and Interrupted if asked to stop while Slurm is away.
        """
        while not (self.asked or self.left):
            try:
                if self._joins():
                    print(f"job {self.number} does this already: following it", flush=True)
                elif self.folder.has_kept(self.work.key):
                    return False
                else:
                    self.number = self._submitted()
                    print(f"job {self.number} submitted", flush=True)
                return True
            except ControllerAway as reason:  # it may have accepted a job before it went away
                self._say(f"{reason}; trying again")
                time.sleep(LOOK)
        raise Interrupted(f"no job does {self.work.stage} yet; the same command submits one")

    def _submitted(self) -> str:
        """Return the number of a new job. Raise ControllerAway, or Failure with Slurm's reason and the next step."""
        try:
            return submitted(self.work, self.request, self.folder)
        except ControllerAway:
            raise
        except Failure as reason:
            raise Failure(f"{reason}. Edit {self.work.kind} in {FILE}; to check it: vgg-repro doctor") from None

    def _joins(self) -> bool:
        """Return True if a job that has not ended does this work. Raise Failure if it does other work of the stage."""
        if self.folder.code is not None:
            return False
        name, comment = name_of(self.work.stage), comment_of(self.work)
        self.number = self.folder.number or slurm.find(name, comment) or ""
        state = slurm.look([self.number]).get(self.number) if self.number else None
        if state is None or state.has_ended or state.job != name:
            return False
        if state.key != comment:
            raise Failure(
                f"job {self.number} ({state}) does {self.work.stage} with other parameters or inputs than those of "
                f"now. To end it: scancel {self.number}"
            )
        self.folder.record(self.number)
        if state.waits and (others := self._other_settings()):
            print(
                f"job {self.number} was submitted with other settings ({', '.join(others)}) than {FILE} has now; "
                f"to submit it again: scancel {self.number}, then the same command",
                flush=True,
            )
        return True

    def _other_settings(self) -> list[str]:
        """Return the settings that have another value than when the job was submitted."""
        now = self.request.model_dump(mode="json")
        before = self.folder.asked.settings
        return [name for name, value in now.items() if name in before and before[name] != value]

    def follow(self) -> None:
        """Return when the job has finished. Raise as `run_as_job` does."""
        while self.folder.code is None and not self._is_over():
            self._print_log()
            self._answer()
            if time.monotonic() >= self.next_look:
                self._look()
            time.sleep(LOOK)
        self._print_log()
        code = self.folder.code
        if code != 0 and not self.folder.has_kept(self.work.key):  # it may be stopped after its work
            self._fail(code)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals during the block. They end nothing by themselves."""
        leaving = [number for number in stop_signals() if number != signal.SIGINT]
        with handled(self._stop, signal.SIGINT), handled(self._leave, *leaving):
            yield

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.left = True

    def _answer(self) -> None:
        """Do what a signal has asked for since the last time. Raise Interrupted if it is to leave the job."""
        if self.left:
            raise Interrupted(
                f"job {self.number} goes on without this process. The same command joins it; to end it: "
                f"scancel {self.number}"
            )
        if self.answered >= min(self.asked, 2):
            return
        try:
            self._end_job()
        except ControllerAway as reason:
            self._say(f"job {self.number}: {reason}; trying again")
            return
        self.answered = min(self.asked, 2)
        self._say(f"job {self.number} was {'asked to stop' if self.answered == 1 else 'cancelled'}")
        self.next_look = time.monotonic() + LOOK

    def _end_job(self) -> None:
        """Tell a running job's work to save and stop; remove a job that waits; kill a job at the second request."""
        self.folder.ask_to_stop()
        self._look()
        running = self.state and not self.state.waits
        try:
            (slurm.ask_to_stop if running and self.asked == 1 else slurm.cancel)(self.number)
        except ControllerAway:
            raise
        except Failure as reason:  # it has ended meanwhile
            self._say(f"job {self.number}: {reason}")

    def _look(self) -> None:
        """Ask Slurm for the job's state, and print it if it has changed."""
        try:
            self.state = slurm.look([self.number]).get(self.number)
        except ControllerAway as reason:
            self._say(f"job {self.number}: {reason}; still following it")
            self.next_look = time.monotonic() + min(self.poll, PENDING)
            return
        soon = self.asked or self.state is None or self.state.waits or self.state.has_ended
        self.next_look = time.monotonic() + min(self.poll, PENDING if soon else self.poll)
        self.unseen = 0 if self.state else self.unseen + 1
        if self.state:
            self._say(f"job {self.number} {self.state}")

    def _is_over(self) -> bool:
        """Return True if the job has ended and its script can have left no exit code, or none comes any more."""
        if self.unseen >= UNSEEN:
            return True
        if self.state is None or not self.state.has_ended:
            self.ended = 0.0
            return False
        self.ended = self.ended or time.monotonic()
        return self.state.is_gone or time.monotonic() > self.ended + SETTLE

    def _fail(self, code: int | None) -> NoReturn:
        """Raise what the end of the job means."""
        if self.asked or (code == STOPPED[0] and self.folder.is_stopped):
            raise Interrupted(f"job {self.number} has stopped; the same command resumes the stage")
        if code is not None and code not in STOPPED:
            sys.exit(code)  # the log says why
        again = "resumes the stage" if self.work.resumes else "begins the stage again"
        raise Failure(f"job {self.number} has failed: {self._why(code)}. The same command {again}")

    def _why(self, code: int | None) -> str:
        """Return why the job has ended, by its state, and what helps."""
        self._look()
        if self.state is None:
            return "Slurm no longer knows it, and it left no result"
        before = " before it could save" if self.work.resumes else ""
        advice = ADVICE.get(self.state.name, f"it ended as {self.state}, exit code {code}")
        return advice.format(kind=self.work.kind, file=FILE, before=before)

    def _print_log(self) -> None:
        """Print what the job has printed since the last time. If nobody reads it any more, leave the job."""
        try:
            with self.folder.log.open("rb") as log:
                log.seek(self.read)
                text = log.read()
        except FileNotFoundError:
            return
        self.read += len(text)
        try:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        except OSError:  # the terminal is closed
            self.left = True

    def _say(self, text: str) -> None:
        """Print a line about the job, once."""
        if text != self.said:
            self.said = text
            print(text, flush=True)
