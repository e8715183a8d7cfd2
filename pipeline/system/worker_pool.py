"""Processes that share work, end with the one that started them, and may die without taking the rest along.

Python's own pool does not do: where a process dies at its start, or while another one is started, it waits for ever or
fails in ways of its own, and it does not say whose task was in whose hands.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pipeline.errors import Failure, NoMemory
from pipeline.system.process_lifetime import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")
Kind = Literal["ready", "done", "failed", "died"]  # of what is heard of a process
PATIENCE = 10.0  # seconds for a process to end that has nothing more to do
LAST_WORDS = 5  # lines of what a process that dies has written


def run_tasks(
    work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, what: str
) -> Iterator[Result]:
    """The results of `work(task, False)`, as they come, from so many processes; one process is this one.

    Where a process dies, its task is done again: as `work(task, True)` if it died of itself, and as it was if it was
    killed. Failure, naming `what` they do, if one dies of a task twice; NoMemory if it is killed twice, as the kernel
    does where memory runs out.
    """
    if processes == 1:
        yield from (work(task, False) for task in tasks)
        return
    with tempfile.TemporaryDirectory(prefix="vgg-repro-") as words:
        yield from _shared(work, tasks, processes, what, Path(words))


def _shared(
    work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, what: str, words: Path
) -> Iterator[Result]:
    """As `share`; the processes keep their standard errors in the folder `words`."""
    left = deque(_Job(task) for task in tasks)
    crew: list[_Worker] = []
    try:
        while left and len(crew) < processes:
            crew.append(_Worker(words, left.popleft()))
        while crew:
            for worker in _heard_of(crew):
                kind, value = worker.answer()
                if kind == "failed":
                    raise value
                if kind == "ready":
                    worker.tell(work)
                    worker.begin(worker.job)
                    continue
                if kind == "done" and left:
                    worker.begin(left.popleft())
                else:
                    crew.remove(worker)
                    worker.end()
                if kind == "died":
                    crew.append(_Worker(words, _again(worker, words, what)))
                else:
                    yield value
    finally:  # also after Ctrl-C, and where the caller has had enough
        for worker in crew:
            worker.process.kill()
            worker.end()


@dataclass
class _Job:
    """A task, and what has happened to the processes that had it."""

    task: Any
    crashed: bool = False
    killed: bool = False


class _Worker:
    """A process that is being started, and then does one job after another."""

    def __init__(self, words: Path, job: _Job) -> None:
        context = get_context("spawn")
        self.job = job
        self.line, theirs = context.Pipe()
        with theirs, _one_thread_each():
            self.process = context.Process(target=_serve, args=(theirs, os.getpid(), words), daemon=True)
            self.process.start()

    def begin(self, job: _Job) -> None:
        """Have it do a job."""
        self.job = job
        self.tell((job.task, job.crashed))

    def tell(self, message: object) -> None:
        """Send it something of any size, now that it listens; if it dies meanwhile, that is heard next."""
        with suppress(OSError):  # nobody else holds the other end
            self.line.send(message)

    def answer(self) -> tuple[Kind, Any]:
        """Return what it says, and a result or an error with that."""
        try:
            kind, value = self.line.recv()
        except (EOFError, OSError):
            return "died", None
        return kind, value

    def end(self) -> None:
        """Wait for its end."""
        self.line.close()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


def _heard_of(crew: Sequence[_Worker]) -> list[_Worker]:
    """Return the workers that have something to say, or have died, as soon as there is one."""
    lines = wait([worker.line for worker in crew])
    return [worker for worker in crew if worker.line in lines]


def _again(worker: _Worker, words: Path, what: str) -> _Job:
    """Return the job that a dead worker had, to be done again. Failure where that makes no sense."""
    job, code = worker.job, worker.process.exitcode or 0
    killed = code in (-signal.SIGKILL, -signal.SIGTERM)
    end = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = _last_words(words / str(worker.process.pid))
    if killed and job.killed:
        raise NoMemory(f"a process that was {what} died, twice: {end}. {_KILLED}{last}")
    if not killed and job.crashed:
        raise Failure(f"a process that was {what} died, twice: {end}{last}")
    job.killed, job.crashed = job.killed or killed, job.crashed or not killed
    return job


_KILLED = (
    "The kernel does that where memory runs out, and `dmesg` says so: make room, or use fewer processes "
    "(prepare.processes)"
)


def _last_words(file: Path) -> str:
    """Return what a process wrote last, for a message; nothing if it wrote nothing."""
    lines = file.read_text(errors="replace").strip().splitlines()[-LAST_WORDS:] if file.exists() else []
    return "".join(f"\n  {line}" for line in ["Its last words:", *lines]) if lines else ""


_WORDS: list[Path] = []  # in a worker, the file of what it writes to the standard error


def _serve(line: Connection, parent: int, words: Path) -> None:
    """What a worker does: it dies with its parent, leaves Ctrl-C to it, and ends when nobody listens any more."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _WORDS.append(words / str(os.getpid()))
    with stderr_file() as file:
        os.dup2(file.fileno(), 2)
    with suppress(EOFError, BrokenPipeError):
        line.send(("ready", None))
        work = line.recv()
        while True:
            line.send(_done(work, *line.recv()))


def _done(work: Callable[[Any, bool], Any], task: Any, again: bool) -> tuple[Kind, Any]:
    """Return what comes of a task: its result, or an error with the place where it was raised."""
    try:
        return "done", work(task, again)
    except Exception as error:
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        return "failed", _that_travels(error)


def _that_travels(error: Exception) -> Exception:
    """Return an error that another process can raise: the same one, or its words."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.add_note(error.__notes__[-1])
        return plain
    return error


def stderr_file() -> IO[bytes]:
    """Return a file to keep the standard error in; in a worker one whose last lines are told if it dies."""
    return _WORDS[0].open("ab") if _WORDS else tempfile.TemporaryFile()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile use one thread for linear algebra: they share the cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
