"""Shared work: every result once, whoever dies; nobody is left behind, even of those that die while others start."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children

import pytest

from pipeline.errors import Failure
from pipeline.workers import share

TASKS = 60


def some_die(task: int, again: bool) -> int:
    """Kills its process at every seventh task, unless it is done again."""
    if task % 7 == 0 and not again:
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def all_die(task: int, again: bool) -> int:
    """Kills its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_every_result_comes_once_though_processes_die() -> None:
    for processes in (2, 3):
        found = list(share(some_die, list(range(TASKS)), processes, "working"))
        assert sorted(found) == [task * task for task in range(TASKS)]
        assert not active_children()


def test_where_all_die_at_once_it_fails_and_nobody_is_left() -> None:
    with pytest.raises(Failure, match="a process that was working died, twice"):
        list(share(all_die, list(range(TASKS)), 3, "working"))
    assert not active_children()


def test_a_caller_that_has_had_enough_leaves_nobody_behind() -> None:
    results = share(some_die, [1, 2, 3, 4, 5, 6] * 20, 2, "working")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not active_children()
