"""Killed outright at random moments and started again, the long commands end in the bytes of an undisturbed run."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from clones import tiny_clone
from pictures import ROOT, fresh_seed
from test_full_disk import tree, whole_shards

import stages.train
from pipeline.errors import Failure
from pipeline.files import sha256
from pipeline.lock import alone
from pipeline.params import load

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
MARK = "VGG_REPRO_TEST_MARK"  # in the environment of what a test starts, and of all that comes from it
LIMIT, SHARD, EPOCHS, BATCH = 120, 16, 3, 8
STEPS = LIMIT // BATCH * EPOCHS
COMMANDS = {
    "prepare": ("vgg-repro", "prepare", "--direct"),
    "train": ("vgg-repro", "train", "A-256", "--direct"),
    "score": ("vgg-repro", "score", "dense", "A-256", "--direct"),
}
KILLS = int(os.environ.get("KILLS", "4"))
SHARES = {command: len(range(first, KILLS, len(COMMANDS))) for first, command in enumerate(COMMANDS)}
WEIGHTS = "weights/trained/A-256.pt"
PATIENCE = 120.0  # seconds for anything that takes a few


# Processes


class Run:
    """A command in a process group of its own; all that comes from it bears a mark. Its words are in `said`."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.log = folder.parent / f"{self.mark}.log"
        inherited = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}
        path = f"{BIN}{os.pathsep}{inherited['PATH']}"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**inherited, "PATH": path, MARK: self.mark, **environment},
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All that it and its children have printed."""
        return self.log.read_text(errors="replace")

    def ends(self, seconds: float) -> bool:
        """Whether it ends within so many seconds; returns as soon as it does."""
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> str:
        """Wait for a good end; what it said."""
        assert self.ends(PATIENCE), f"still running after {PATIENCE:.0f} s:\n{self.said}"
        assert self.child.returncode == 0, self.said
        return self.said

    def kill(self, group: bool) -> bool:
        """SIGKILL to the process or to its whole group; whether that came before its end."""
        (os.killpg if group else os.kill)(self.child.pid, signal.SIGKILL)
        return self.child.wait() == -signal.SIGKILL

    def relatives(self) -> list[int]:
        """Every living process that bears its mark."""
        return [pid for pid in processes() if f"{MARK}={self.mark}".encode() in read(pid, "environ").split(b"\0")]

    def leaves_nothing(self) -> None:
        """Killed, it takes all that came from it along, within moments."""
        until("all that came from a killed process to end", lambda: not self.relatives(), 3)

    def clear(self) -> None:
        """Leave nothing running, whatever became of the test."""
        for pid in self.relatives():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts commands; none outlives the test."""
    runs: list[Run] = []

    def begin(folder: Path, *words: str, **environment: str) -> Run:
        runs.append(Run(folder, *words, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.clear()


def processes() -> list[int]:
    """All processes there are."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def read(pid: int, what: str) -> bytes:
    """A file of /proc/PID; empty if the process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def until(what: str, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `found` returns, as soon as it is true; the test fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.01)
    return value


def holders(folder: Path) -> set[int]:
    """The processes that hold a lock of a checkpoint of `folder`, also one that is deleted meanwhile."""
    found = set()
    for pid in processes():
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor).startswith(f"{folder}/checkpoints/"):
                        info = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                        if re.search(r"^lock:.*OFDLCK.*WRITE", info, re.M):
                            found.add(pid)
    return found


# The undisturbed run


@dataclass
class Undisturbed:
    """By command, when nobody disturbs it: the folder before it, the tree after it, and the seconds it takes."""

    before: dict[str, Path]
    after: dict[str, dict[str, str]]
    seconds: dict[str, float]
    weights: str
    shards: Path

    def copy(self, command: str, folder: Path) -> Path:
        """A folder in which all but that command is done."""
        return shutil.copytree(self.before[command], folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Every command run and measured."""
    root = tmp_path_factory.mktemp("undisturbed")
    folder = root / "folder"
    folder.mkdir()
    write_params(folder / "params.yaml", fresh_seed())
    before, after, seconds = {}, {}, {}
    for command, words in COMMANDS.items():
        if command == "train":
            Run(folder, "vgg-repro", "weights", "random", "A", "--direct").finish()
        before[command] = shutil.copytree(folder, root / f"before-{command}")
        started = time.monotonic()
        Run(folder, *words).finish()
        after[command], seconds[command] = tree(folder), time.monotonic() - started
    return Undisturbed(before, after, seconds, sha256(folder / WEIGHTS), folder / "data/shards")


def write_params(path: Path, seed: int) -> None:
    """A tiny experiment."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    mini["data"] |= {"source": "digits", "limit": LIMIT}
    mini["prepare"] |= {"shard_images": SHARD, "processes": 2}
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/32", "fc": 16}
    mini["train"] |= {"batch": BATCH, "seed": seed}
    for recipe in mini["recipes"].values():
        recipe |= {"epochs": EPOCHS, "first_drop": 0}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


# Killed and started again


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    command: str, undisturbed: Undisturbed, start: Callable[..., Run], tmp_path: Path, rng: np.random.Generator
) -> None:
    if not SHARES[command]:
        pytest.skip(f"KILLS={KILLS} leaves none for {command}")
    killed, group = list[str](), bool(rng.integers(2))
    for attempt in range(10 * SHARES[command]):  # as a rule each hits; one that misses counts for nothing
        folder = undisturbed.copy(command, tmp_path / str(attempt))
        before: list[Run] = []
        while True:
            shards, run = whole_shards(folder), start(folder, *COMMANDS[command])
            for one in before:
                one.leaves_nothing()
            last, moment = len(killed) == SHARES[command], float(rng.uniform(0, undisturbed.seconds[command]))
            if last or run.ends(moment) or not run.kill(group):
                said = run.finish()
                break
            killed.append(f"{'group' if group else 'process'} after {moment:.2f} s")
            group = not group
            check_between(folder, undisturbed, shards)
            before = [run]
        assert differences(tree(folder), undisturbed.after[command]) == {}, (killed, said)
        check_between(folder, undisturbed, shards)
        if last:
            return
    pytest.fail(f"only {killed}")


def check_between(folder: Path, undisturbed: Undisturbed, shards: dict[str, int]) -> None:
    """Shards that were whole before the last start are not written again; no finished weights are half there."""
    now = {path.name: path.stat().st_mtime_ns for path in folder.glob("data/shards/*/*.bin")}
    assert now | shards == now, "whole shards were written again"
    assert {sha256(path) for path in [folder / WEIGHTS] if path.exists()} <= {undisturbed.weights}


def differences(found: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """The files that are missing, too many, or not the same."""
    kind = {(False, True): "too many", (True, False): "missing", (True, True): "another"}
    return {
        name: kind[name in wanted, name in found]
        for name in sorted(found | wanted)
        if found.get(name) != wanted.get(name)
    }


@pytest.mark.parametrize("group", [False, True], ids=["the process", "its group"])
def test_a_killed_prepare_goes_on_from_its_whole_shards_and_leaves_no_process(
    group: bool, undisturbed: Undisturbed, start: Callable[..., Run], tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = undisturbed.copy("prepare", tmp_path / "copy")
    wanted = int(rng.integers(1, 11))  # of 16
    run = start(folder, *COMMANDS["prepare"])
    until("whole shards", lambda: len(whole_shards(folder)) >= wanted)
    assert len(run.relatives()) > 2, "the work is shared"
    run.kill(group)
    run.leaves_nothing()
    shards = whole_shards(folder)
    images = sum(LIMIT % SHARD if name.endswith("-00007.bin") else SHARD for name in shards)
    again = start(folder, *COMMANDS["prepare"])
    assert f"{images} images of {2 * LIMIT} are in whole shards already" in again.finish()
    kept = whole_shards(folder)
    assert len(shards) >= wanted and kept | shards == kept
    assert differences(tree(folder), undisturbed.after["prepare"]) == {}


def test_a_train_killed_while_it_writes_leaves_whole_weights_or_none(
    undisturbed: Undisturbed, start: Callable[..., Run], tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = undisturbed.copy("train", tmp_path / "copy")
    run = start(folder, *COMMANDS["train"])
    last = int(rng.integers(1, EPOCHS + 1))  # checkpoints, of which the last is followed by the weights at once
    seen = set()

    def saved() -> bool:
        for path in folder.glob("checkpoints/*/last.pt"):
            with suppress(FileNotFoundError):
                seen.add(path.stat().st_mtime_ns)
        return len(seen) >= last or run.child.poll() is not None

    until("a checkpoint", saved)
    assert not run.ends(float(rng.uniform(0, 0.02))), "it ended before the kill"
    run.kill(False)
    check_between(folder, undisturbed, {})
    start(folder, *COMMANDS["train"]).finish()
    assert differences(tree(folder), undisturbed.after["train"]) == {}


# Two at once


@pytest.mark.parametrize(
    ("command", "lock", "work"),
    [
        ("prepare", "data/shards/*.lock", "preparing this data set"),
        ("train", "checkpoints/*/lock", "training A-256"),
    ],
)
def test_of_two_at_once_the_second_says_who_is_at_work(
    command: str, lock: str, work: str, undisturbed: Undisturbed, start: Callable[..., Run], tmp_path: Path
) -> None:
    folder = undisturbed.copy(command, tmp_path / "copy")
    first = start(folder, *COMMANDS[command])
    until("the lock", lambda: any(path.read_text() for path in folder.glob(lock)))
    os.kill(first.child.pid, signal.SIGSTOP)  # so that it does not end before the second has begun
    second = start(folder, *COMMANDS[command])
    assert second.ends(PATIENCE), second.said
    assert second.child.returncode == 1
    assert f"another process is {work} already: process {first.child.pid} on " in second.said
    assert "Traceback" not in second.said
    os.kill(first.child.pid, signal.SIGCONT)
    first.finish()
    assert differences(tree(folder), undisturbed.after[command]) == {}


def test_a_trainer_that_begins_while_another_ends_is_alone_or_refused(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = undisturbed.copy("train", tmp_path / "copy")
    monkeypatch.chdir(folder)
    real, together = shutil.rmtree, []

    def remove(path: Path, **options: Any) -> None:
        """The second begins just before the first removes the folder, the third just after."""
        with ExitStack() as both:
            for between in (lambda: real(path, **options), lambda: None):
                with suppress(Failure):
                    both.enter_context(alone(path / "lock", "training A-256"))
                    together.append("trainer")
                between()
            assert len(together) < 2, "two train the same run at once"

    monkeypatch.setattr(shutil, "rmtree", remove)
    stages.train.main(load(), "A-256")
    assert not list(folder.glob("checkpoints/*/last.pt"))


def test_a_lock_that_is_removed_while_it_is_taken_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    real = fcntl.fcntl

    def removed_first(*words: Any) -> Any:
        """Whoever held it removes it after this process has opened it."""
        monkeypatch.setattr(fcntl, "fcntl", real)
        lock.unlink()
        return real(*words)

    monkeypatch.setattr(fcntl, "fcntl", removed_first)
    with suppress(Failure), alone(lock, "training"), pytest.raises(Failure, match="already"), alone(lock, "training"):
        pytest.fail("two at once")


# DVC killed


@pytest.fixture(scope="module")
def clone(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it stands, tiny and without results, where all but the training of A is done."""
    folder = tiny_clone(tmp_path_factory.mktemp("clones") / "clone")
    shutil.copyfile(undisturbed.before["train"] / "params.yaml", folder / "params.yaml")
    Run(folder, *repro("random@A"), VGG_REPRO_SHARDS=str(undisturbed.shards)).finish()
    return folder


def repro(stage: str) -> tuple[str, ...]:
    """DVC as a person starts it, in one process."""
    return (sys.executable, "-m", "dvc", "repro", stage)


@pytest.mark.parametrize("held", [False, True], ids=["its trainer runs", "its trainer is held up"])
def test_dvc_killed_while_it_trains_and_started_again_at_once(
    held: bool, clone: Path, undisturbed: Undisturbed, start: Callable[..., Run], tmp_path: Path
) -> None:
    folder = shutil.copytree(clone, tmp_path / "clone", symlinks=True)
    shards = {"VGG_REPRO_SHARDS": str(undisturbed.shards)}
    first = start(folder, *repro("train@A-256"), **shards)
    until("a checkpoint", lambda: list(folder.glob("checkpoints/*/last.pt")) or first.child.poll() is not None)
    trainers = holders(folder) & holders(folder)
    assert len(trainers) == 1, first.said
    (orphan,) = trainers
    if held:  # so that the second finds it at work
        os.kill(orphan, signal.SIGSTOP)
    assert first.kill(group=False), first.said
    died = time.monotonic()
    second = start(folder, *repro("train@A-256"), **shards)
    with watched(folder) as most:
        until("the second DVC", lambda: most() and second.child.poll() is not None)
        if held:
            assert second.child.returncode != 0
            assert f"another process is training A-256 already: process {orphan} on " in second.said
            os.kill(orphan, signal.SIGCONT)
            died = time.monotonic()
        until("the orphan to end", lambda: most() and not first.relatives(), died + 60 - time.monotonic())
        if second.child.returncode:
            assert "another process is training A-256 already" in second.said
            last = start(folder, *repro("train@A-256"), **shards)
            until("the last DVC", lambda: most() and last.child.poll() is not None)
            last.finish()
        else:
            last = second
    found = re.search(r"resumed at step (\d+) of at most (\d+)", last.said)
    assert found, f"the orphan trained to its end:\n{last.said}"
    assert 0 < int(found[1]) < int(found[2]) == STEPS
    assert sha256(folder / WEIGHTS) == undisturbed.weights
    assert json.loads((folder / "reports/mini/runs/A-256.json").read_text())["steps"] == STEPS
    assert not list(folder.glob("checkpoints/*/last.pt"))


@contextmanager
def watched(folder: Path) -> Iterator[Callable[[], bool]]:
    """A look at who trains in `folder`, to be repeated: true, and never more than one."""

    def look() -> bool:
        if len(found := holders(folder)) > 1:  # one may have handed over, or been about to start git
            found &= holders(folder)
        assert len(found) < 2, f"the processes {found} train the same run at once"
        return True

    yield look
