"""Processes that share work, end with the one that started them, and may die without taking the rest along."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from pipeline.errors import Failure
from pipeline.orphan import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")
PATIENCE = 5.0  # seconds between looks at whether all processes are alive


def share(work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, what: str) -> Iterator[Result]:
    """The results of `work(task, False)`, as they come, from so many processes; one process is this one.

    Where a process dies, the tasks that are not done are done again as `work(task, True)`. Failure, naming `what` they
    do, if one dies of that too.
    """
    if processes == 1:
        yield from (work(task, False) for task in tasks)
        return
    left = list(tasks)
    for again in (False, True):
        try:
            for task, result in _attempt(work, left, processes, again):
                left.remove(task)
                yield result
            return
        except BrokenProcessPool:
            continue
    raise Failure(f"a process that was {what} died, twice: of too little memory, or of an image; see `dmesg`")


def _attempt(
    work: Callable[[Task, bool], Result], tasks: Sequence[Task], processes: int, again: bool
) -> Iterator[tuple[Task, Result]]:
    begin = (os.getpid(), work)  # once a process: what a source holds may be large
    pool = ProcessPoolExecutor(min(processes, len(tasks)) or 1, get_context("spawn"), _begin, begin)
    try:
        with _one_thread_each():  # the processes are started as tasks are handed in; one may die meanwhile
            futures: dict[Future[Result], Task] = {pool.submit(_do, task, again): task for task in tasks}
        while futures:
            done = wait(futures, PATIENCE, FIRST_COMPLETED).done
            if not done and pool._broken:  # a task handed in at that very moment is never done
                raise BrokenProcessPool("a process died")
            for future in done:
                yield futures.pop(future), future.result()
    except BaseException:  # also Ctrl-C, and a caller that has had enough
        for process in list((pool._processes or {}).values()):  # from Python 3.14 on there is a method for this
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_WORK: list[Callable[[Any, bool], Any]] = []  # in a worker, what it does


def _do(task: Any, again: bool) -> Any:
    return _WORK[0](task, again)


def _begin(parent: int, work: Callable[[Any, bool], Any]) -> None:
    """A worker dies with its parent, and leaves Ctrl-C to it."""
    _WORK.append(work)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
