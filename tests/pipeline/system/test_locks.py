"""A lock keeps all others off, lets go with its process, and can be looked at by anybody at any time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pipeline.errors import Failure
from pipeline.system import locks
from pipeline.system.locks import alone, flock_held, holder

STARTS = 300
LOOK = (
    "import sys; from pathlib import Path; from pipeline.system.locks import holder; print(holder(Path(sys.argv[1])))"
)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another system than Linux, which has flock(2) alone."""
    monkeypatch.setattr(locks, "OF_OPEN_FILES", False)


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_too_one_at_a_time_holds_a_lock_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    with alone(path, "training"):
        assert f"process {os.getpid()}" in (holder(path) or "")
        with pytest.raises(Failure, match="another process is already training"), alone(path, "training"):
            pass
    assert holder(path) is None
    with alone(path, "training"):
        pass


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock that nobody holds, and that somebody has held."""
    path = tmp_path / "lock"
    with alone(path, "training"):
        pass
    return path


def test_who_starts_in_the_midst_of_a_look_is_not_refused(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def and_then_start(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            result = real(*words)
            monkeypatch.undo()
            with alone(lock, "training"):
                started.append(True)
            return result

        return call

    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, and_then_start(getattr(fcntl, name)))
    holder(lock)
    assert started == [True]


def test_who_starts_beside_a_loop_of_looks_is_not_refused(lock: Path) -> None:
    end = Event()

    def look() -> int:
        looks = 0
        while not end.is_set():
            holder(lock)
            looks += 1
        return looks

    with ThreadPoolExecutor(2) as pool, ExitStack() as last:
        last.callback(end.set)
        loops = [pool.submit(look) for _ in range(2)]
        for _ in range(STARTS):
            with alone(lock, "training"):
                pass
        end.set()
        assert all(loop.result() for loop in loops)


def test_a_look_from_anywhere_names_the_holder(lock: Path) -> None:
    def look() -> str:
        return subprocess.run([sys.executable, "-c", LOOK, lock], capture_output=True, text=True, check=True).stdout

    assert holder(lock) is None and look() == "None\n"
    with alone(lock, "training"):
        assert f"process {os.getpid()} on " in (holder(lock) or "")
        assert f"process {os.getpid()} on " in look()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(holder, lock).result() == holder(lock)
    assert holder(lock) is None and look() == "None\n"


def test_without_a_list_of_locks_dvcs_kind_is_seen_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS", tmp_path / "no list")
    path = tmp_path / "lock"
    assert not flock_held(path)
    with path.open("w") as file:
        assert not flock_held(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert flock_held(path)
    assert not flock_held(path)


def test_a_look_makes_no_file(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") is None
    assert not list(tmp_path.iterdir())


def test_a_thread_keeps_another_off(lock: Path) -> None:
    def start() -> None:
        with alone(lock, "training"):
            pass

    with ThreadPoolExecutor(1) as pool, alone(lock, "training"), pytest.raises(Failure, match="already training"):
        pool.submit(start).result()


def test_a_disk_without_locks_is_a_failure_that_names_the_file(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(Failure, match=r"lock could not be locked: No locks available"), alone(lock, "training"):
        pytest.fail("it is not held")
    assert holder(lock) is None


def test_dvcs_kind_of_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not flock_held(path)
    path.touch()
    assert not flock_held(path)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "another").touch()
        assert flock_held(path) and not flock_held(tmp_path / "another")
    assert not flock_held(path)
    with alone(path, "training"):
        assert not flock_held(path)
