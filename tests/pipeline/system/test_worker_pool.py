"""Shared work: every result once, whoever dies; nobody is left behind or waited for; who dies is heard to the last."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing import active_children, spawn
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

import pytest

from pipeline.errors import Failure, NoMemory
from pipeline.system.worker_pool import run_tasks

TASKS = 60
LARGE = bytes(5_000_000)  # more than a pipe holds
DEADLINE = 600  # seconds, for what takes a few


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A failure of what would otherwise wait for ever."""

    def fail(*_: object) -> NoReturn:
        raise TimeoutError("it takes too long")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def some_die(task: int, again: bool) -> int:
    """Ends its process at every seventh task, unless it is done again."""
    if task % 7 == 0 and not again:
        os._exit(3)
    return task * task


def all_die(task: int, again: bool) -> int:
    """Ends its process."""
    os._exit(3)


def all_are_killed(task: int, again: bool) -> int:
    """Is killed as by the kernel."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def the_first_is_killed(flag: str, task: int, again: bool) -> bool:
    """Is killed if nobody has been; says whether it is done otherwise again."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return again
    return bool(all_are_killed(task, again))


def all_die_with_words(task: int, again: bool) -> int:
    """Says something, as C and Python do, and ends its process."""
    for number in range(20):
        print("line", number, file=sys.stderr)
    os.write(2, b"free(): invalid pointer \xff\n")
    os._exit(3)


def fails(task: int, again: bool) -> int:
    """Raises something unexpected."""
    raise KeyError("no such key")


class DiesOnArrival:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def carry(load: object, size: int, task: int, again: bool) -> int:
    """Needs a load."""
    return task


def test_every_result_comes_once_though_processes_die() -> None:
    for processes in (2, 3):
        results = list(run_tasks(some_die, list(range(TASKS)), processes, "working"))
        assert sorted(results) == [task * task for task in range(TASKS)]
        assert not active_children()


def test_where_all_die_at_once_it_fails_and_nobody_is_left() -> None:
    with pytest.raises(Failure, match="a process that was working died twice: exit code 3"):
        list(run_tasks(all_die, list(range(TASKS)), 3, "working"))
    assert not active_children()


def test_what_somebody_kills_is_done_again_as_it_was(tmp_path: Any) -> None:
    """The kernel kills at random where memory runs out, so that it says nothing of the task."""
    work = functools.partial(the_first_is_killed, str(tmp_path / "flag"))
    assert list(run_tasks(work, list(range(TASKS)), 2, "working")) == [False] * TASKS


def test_what_is_killed_each_time_lacks_memory() -> None:
    with pytest.raises(NoMemory, match=r"working died twice: ended by SIGKILL.*memory.*prepare\.processes"):
        list(run_tasks(all_are_killed, list(range(TASKS)), 2, "working"))
    assert not active_children()


def test_the_last_words_of_a_process_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failure, match="working died twice: exit code 3") as raised:
        list(run_tasks(all_die_with_words, [1, 2], 2, "working"))
    assert str(raised.value).endswith("line 19\n  free(): invalid pointer �") and "line 3\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


def test_an_unexpected_error_brings_its_place_along() -> None:
    with pytest.raises(KeyError) as raised:
        list(run_tasks(fails, [1, 2], 2, "working"))
    assert "in fails" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("load", [LARGE, DiesOnArrival()], ids=["before it reads", "as it reads"])
def test_a_process_that_dies_at_its_start_is_not_waited_for(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if load is LARGE:
        monkeypatch.setattr(spawn, "_python_exe", b"/bin/false")
    with pytest.raises(Failure, match=r"died twice(: exit code| at its start)"):  # the latter from Python 3.14 on
        list(run_tasks(functools.partial(carry, load, LARGE), list(range(TASKS)), 2, "working"))
    assert not active_children()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_process_that_python_sees_die_at_its_start_is_started_again(
    deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = BaseProcess.start, [BrokenPipeError()] * deaths

    def dies(process: BaseProcess) -> None:
        if left:
            raise left.pop()
        start(process)

    monkeypatch.setattr(BaseProcess, "start", dies)
    with pytest.raises(Failure, match="twice at its start") if deaths == 2 else nullcontext():
        assert sorted(run_tasks(some_die, [3, 4], 2, "working")) == [9, 16]
    assert not active_children()


def test_a_caller_that_has_had_enough_leaves_nobody_behind() -> None:
    results = run_tasks(some_die, [1, 2, 3, 4, 5, 6] * 20, 2, "working")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not active_children()
