"""A pool of processes that end with the process that started them and may die without ending the others.

Python's own pools are not enough: if a process dies at its start, or while another one starts, they wait for ever or
fail in various ways, and they do not say which process had which task.
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
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pipeline.errors import Failure, NoMemory
from pipeline.system.process_lifetime import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")
Kind = Literal["ready", "done", "failed", "died"]  # of a message from a process
PATIENCE = 10.0  # seconds for a process without further tasks to end
LAST_WORDS = 5  # lines of a dead process's output that are shown


def run_tasks(
    work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, what: str
) -> Iterator[Result]:
    """Yield the results of `work(task, False)` as they arrive from `processes` processes; 1 means this process.

    The task of a process that dies is repeated: as `work(task, True)` if the process crashed, and unchanged if it was
    killed. Raise Failure, naming `what` they do, if a task crashes two processes. Raise NoMemory if two are killed, as
    the kernel does when memory runs out.
    """
    if processes == 1:
        yield from (work(task, False) for task in tasks)
        return
    with tempfile.TemporaryDirectory(prefix="vgg-repro-") as folder:
        yield from _run_in_workers(work, tasks, processes, what, Path(folder))


def run_apart(work: Callable[[Task, bool], Result], task: Task, what: str) -> Result:
    """Return the result of `work(task, False)` in a process of its own, which may die. Raise as `run_tasks` does."""
    with tempfile.TemporaryDirectory(prefix="vgg-repro-") as folder:
        (result,) = _run_in_workers(work, [task], 1, what, Path(folder))
    return result


def _run_in_workers(
    work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, what: str, stderr_folder: Path
) -> Iterator[Result]:
    """Do as `run_tasks`. The processes write their standard errors to files in `stderr_folder`."""
    waiting = deque(_Job(task) for task in tasks)
    workers: list[_Worker] = []
    try:
        while waiting and len(workers) < processes:
            workers.append(_Worker(stderr_folder, waiting.popleft()))
        while workers:
            for worker in _with_messages(workers):
                kind, value = worker.answer()
                if kind == "failed":
                    raise value
                if kind == "ready":
                    worker.tell(work)
                    worker.begin(worker.job)
                    continue
                if kind == "done" and waiting:
                    worker.begin(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.end()
                if kind == "died":
                    workers.append(_Worker(stderr_folder, _job_to_repeat(worker, stderr_folder, what)))
                else:
                    yield value
    finally:  # also after Ctrl-C, and if the caller stops early
        for worker in workers:
            worker.process.kill()
            worker.end()


@dataclass
class _Job:
    """A task, and how the processes that had it died."""

    task: Any
    crashed: bool = False
    killed: bool = False


class _Worker:
    """A process that starts and then does one job after another."""

    def __init__(self, stderr_folder: Path, job: _Job) -> None:
        context = get_context("spawn")
        self.job = job
        self.connection, remote = context.Pipe()
        with remote, _one_thread_each():
            self.process = context.Process(target=_serve, args=(remote, os.getpid(), stderr_folder), daemon=True)
            _start(self.process)

    def begin(self, job: _Job) -> None:
        """Make the process do a job."""
        self.job = job
        self.tell((job.task, job.crashed))

    def tell(self, message: object) -> None:
        """Send a message of any size to the process, which is listening. If it dies, `answer` says so next."""
        with suppress(OSError):  # the process is dead, as nobody else holds the other end
            self.connection.send(message)

    def answer(self) -> tuple[Kind, Any]:
        """Return the kind of the next message from the process, and its result or error."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            return "died", None
        return kind, value

    def end(self) -> None:
        """Wait for the process to end; kill it after PATIENCE seconds."""
        self.connection.close()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


def _start(process: BaseProcess) -> None:
    """Start a process. From Python 3.14 on, `start` raises if the process dies before it has read what it is to do.

    Start it again then; raise Failure if it dies again.
    """
    with suppress(BrokenPipeError):
        return process.start()
    try:
        process.start()
    except BrokenPipeError:
        raise Failure("a process died twice at its start, before it ran any code of this program") from None


def _with_messages(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait for a message or a death. Return the workers that have sent a message or died."""
    connections = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in connections]


def _job_to_repeat(worker: _Worker, stderr_folder: Path, what: str) -> _Job:
    """Return the job of a dead worker, to be repeated. Raise Failure or NoMemory if it died in the same way before."""
    job, code = worker.job, worker.process.exitcode or 0
    killed = code in (-signal.SIGKILL, -signal.SIGTERM)
    end = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = _last_words(stderr_folder / str(worker.process.pid))
    if killed and job.killed:
        raise NoMemory(f"a process that was {what} died twice: {end}. {_KILLED}{last}")
    if not killed and job.crashed:
        raise Failure(f"a process that was {what} died twice: {end}{last}")
    job.killed, job.crashed = job.killed or killed, job.crashed or not killed
    return job


_KILLED = (
    "The kernel does this when memory runs out (see `dmesg`): free memory, or, to read images, use fewer "
    "processes (prepare.processes)"
)


def _last_words(file: Path) -> str:
    """Return the last lines that a process wrote, for a message; an empty string if it wrote nothing."""
    lines = file.read_text(errors="replace").strip().splitlines()[-LAST_WORDS:] if file.exists() else []
    return "".join(f"\n  {line}" for line in ["Its last output:", *lines]) if lines else ""


_STDERR: list[Path] = []  # in a worker, the file of its standard error


def _serve(connection: Connection, parent: int, stderr_folder: Path) -> None:
    """Run a worker. It dies with its parent, ignores Ctrl-C, and ends when the parent closes the connection."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STDERR.append(stderr_folder / str(os.getpid()))
    with stderr_file() as file:
        os.dup2(file.fileno(), 2)
    with suppress(EOFError, BrokenPipeError):
        connection.send(("ready", None))
        work = connection.recv()
        while True:
            connection.send(_outcome(work, *connection.recv()))


def _outcome(work: Callable[[Any, bool], Any], task: Any, crashed: bool) -> tuple[Kind, Any]:
    """Do a task. Return its result, or its error with the traceback as a note."""
    try:
        return "done", work(task, crashed)
    except Exception as error:
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        return "failed", _picklable(error)


def _picklable(error: Exception) -> Exception:
    """Return an error that another process can raise: the same error, or a RuntimeError with its text."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.add_note(error.__notes__[-1])
        return plain
    return error


def stderr_file() -> IO[bytes]:
    """Return a file for the standard error. In a worker, its last lines are shown if the worker dies."""
    return _STDERR[0].open("ab") if _STDERR else tempfile.TemporaryFile()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Make processes that start in the block use one thread for linear algebra, because they share the cores."""
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
