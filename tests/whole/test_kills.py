"""Killed outright at random moments and started again, the long commands end in the bytes of an undisturbed run."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import stages.train
from pipeline.errors import Failure
from pipeline.experiment.validation import load
from pipeline.system.atomic_files import sha256
from pipeline.system.locks import alone
from tests.support import ROOT
from tests.support.clones import call, held, tiny_clone
from tests.support.commands import BIN, MarkedCommand, processes, until
from tests.support.images import run_seed
from tests.support.trees import tree, whole_shards

pytestmark = pytest.mark.slow
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


# Processes


@pytest.fixture
def start() -> Iterator[Callable[..., MarkedCommand]]:
    """Starts commands; none outlives the test."""
    runs: list[MarkedCommand] = []

    def begin(folder: Path, *words: str, **environment: str) -> MarkedCommand:
        runs.append(MarkedCommand(folder, *words, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.clear()


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
    """By command, when nobody disturbs it: the folder before it, and the tree after it."""

    before: dict[str, Path]
    after: dict[str, dict[str, str]]
    weights: str
    shards: Path

    def copy(self, command: str, folder: Path) -> Path:
        """A folder in which all but that command is done."""
        return shutil.copytree(self.before[command], folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Every command run."""
    root = tmp_path_factory.mktemp("undisturbed")
    folder = root / "folder"
    folder.mkdir()
    write_params(folder / "params.yaml", run_seed())
    before, after = {}, {}
    for command, words in COMMANDS.items():
        if command == "train":
            call(folder, "vgg-repro", "weights", "random", "A", "--direct")
        before[command] = shutil.copytree(folder, root / f"before-{command}")
        call(folder, *words)
        after[command] = tree(folder)
    return Undisturbed(before, after, sha256(folder / WEIGHTS), folder / "data/shards")


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


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    command: str,
    undisturbed: Undisturbed,
    start: Callable[..., MarkedCommand],
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    if not SHARES[command]:
        pytest.skip(f"KILLS={KILLS} leaves none for {command}")
    killed, group = list[str](), bool(rng.integers(2))
    started = time.monotonic()
    start(undisturbed.copy(command, tmp_path / "measured"), *COMMANDS[command]).finish()
    seconds = time.monotonic() - started
    for attempt in range(10 * SHARES[command]):  # as a rule each hits; one that misses counts for nothing
        folder = undisturbed.copy(command, tmp_path / str(attempt))
        before: list[MarkedCommand] = []
        while True:
            shards, run = whole_shards(folder), start(folder, *COMMANDS[command])
            for one in before:
                one.leaves_nothing()
            last, moment = len(killed) == SHARES[command], float(rng.uniform(0, seconds))
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


@pytest.mark.parametrize(
    "group",
    [pytest.param(False, id="the process"), pytest.param(True, id="its group", marks=pytest.mark.exhaustive)],
)
def test_a_killed_prepare_goes_on_from_its_whole_shards_and_leaves_no_process(
    group: bool, undisturbed: Undisturbed, start: Callable[..., MarkedCommand], tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = undisturbed.copy("prepare", tmp_path / "copy")
    wanted = int(rng.integers(1, 11))  # of 16
    there = f"len(list(Path().glob('data/shards/*/*.part.npz'))) >= {wanted}"
    run = start(folder, str(held(tmp_path, there)), *COMMANDS["prepare"][1:])
    until("whole shards", (folder / "held").exists)
    assert len(run.relatives()) > 2, "the work is shared"
    assert run.kill(group)
    run.leaves_nothing()
    (folder / "held").unlink()
    shards = whole_shards(folder)
    images = sum(LIMIT % SHARD if name.endswith("-00007.bin") else SHARD for name in shards)
    said = call(folder, *COMMANDS["prepare"])
    assert f"{images} of {2 * LIMIT} images are already in complete shards" in said
    kept = whole_shards(folder)
    assert len(shards) >= wanted and kept | shards == kept
    assert differences(tree(folder), undisturbed.after["prepare"]) == {}


def test_a_train_killed_while_it_writes_leaves_whole_weights_or_none(
    undisturbed: Undisturbed, start: Callable[..., MarkedCommand], tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = undisturbed.copy("train", tmp_path / "copy")
    moment = int(rng.integers(1, EPOCHS + 2))  # a checkpoint, or after the last one the weights
    there = f"names[-1] in ('last.pt', 'A-256.pt') and sum(map(('last.pt', 'A-256.pt').count, names)) == {moment}"
    run = start(folder, str(held(tmp_path, there)), *COMMANDS["train"][1:])
    until("a file to be whole", (folder / "held").exists)
    assert run.kill(False)
    (folder / "held").unlink()
    check_between(folder, undisturbed, {})
    call(folder, *COMMANDS["train"])
    assert differences(tree(folder), undisturbed.after["train"]) == {}


# Two at once


@pytest.mark.parametrize(
    ("command", "file", "work"),
    [
        ("prepare", "facts.json", "preparing this data set"),
        pytest.param("train", "last.pt", "training A-256", marks=pytest.mark.exhaustive),  # as DVC's orphan below
    ],
)
def test_of_two_at_once_the_second_says_who_is_at_work(
    command: str, file: str, work: str, undisturbed: Undisturbed, start: Callable[..., MarkedCommand], tmp_path: Path
) -> None:
    folder = undisturbed.copy(command, tmp_path / "copy")
    first = start(folder, str(held(tmp_path, f"names.count({file!r}) == 1 and names[-1] == {file!r}")),
                  *COMMANDS[command][1:])  # fmt: skip
    until("the first to be at work", (folder / "held").exists)
    with pytest.raises(AssertionError) as refused:
        call(folder, *COMMANDS[command])
    said = str(refused.value)
    assert f"another process is already {work}: process {first.child.pid} on " in said
    assert "Traceback" not in said
    (folder / "held").unlink()
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
    call(folder, "dvc", "repro", "random@A", VGG_REPRO_SHARDS=str(undisturbed.shards))
    return folder


@pytest.mark.parametrize("waits", [False, True], ids=["its trainer runs", "its trainer is held up"])
def test_dvc_killed_while_it_trains_and_started_again_at_once(
    waits: bool, clone: Path, undisturbed: Undisturbed, start: Callable[..., MarkedCommand], tmp_path: Path
) -> None:
    folder = shutil.copytree(clone, tmp_path / "clone", symlinks=True)
    shards = {"VGG_REPRO_SHARDS": str(undisturbed.shards)}
    program = held(tmp_path, "names[-1] == 'last.pt' and names.count('last.pt') == 2")
    path = os.pathsep.join([str(program.parent), str(BIN), os.environ["PATH"]])
    dvc = (sys.executable, "-m", "dvc", "repro", "train@A-256")  # in one process
    first = start(folder, *dvc, **shards, PATH=path)
    until("a second checkpoint", lambda: (folder / "held").exists() or first.child.poll() is not None)
    trainers = holders(folder) & holders(folder)
    assert len(trainers) == 1, first.said
    (orphan,) = trainers
    assert first.kill(group=False), first.said
    if not waits:
        (folder / "held").unlink()
    second = start(folder, *dvc, **shards)
    with watched(folder) as most:
        until("the second DVC", lambda: most() and second.child.poll() is not None)
        if waits:
            assert second.child.returncode != 0
            assert f"another process is already training A-256: process {orphan} on " in second.said
            (folder / "held").unlink()
        until("the orphan to end", lambda: most() and not first.relatives())
        if second.child.returncode:
            assert "another process is already training A-256" in second.said
            said = call(folder, "dvc", "repro", "train@A-256", **shards)
        else:
            said = second.said
    found = re.search(r"resumed at step (\d+) of at most (\d+)", said)
    assert found, f"the orphan trained to its end:\n{said}"
    assert 0 < int(found[1]) < int(found[2]) == STEPS
    assert sha256(folder / WEIGHTS) == undisturbed.weights
    assert json.loads((folder / "weights/trained/A-256.json").read_text())["steps"] == STEPS
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
