"""A disk that fills, at any byte of any file: one message, what stood there before whole, and the next run goes on."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import platform
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml

import stages.tools.data
from cli.main import main
from pipeline.datasets.shards import read_part
from pipeline.errors import Failure
from pipeline.system.atomic_files import sha256
from stages.common import save_tensors
from tests.support import ROOT
from tests.support.cases import case
from tests.support.images import run_seed

PROGRAM = str(Path(sys.executable).parent / "vgg-repro")
FULL, LARGE = os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG)
LIMIT, SHARD, EPOCHS, STEPS = 64, 16, 2, 8
SPEEDS = {"images_per_second", "waited"}
COMMANDS = {  # in the order in which each finds what it needs
    "prepare": ("prepare", "--direct"),
    "weights": ("weights", "random", "A", "--direct"),
    "train": ("train", "A-256", "--direct"),
    "score": ("score", "dense", "A-256", "--direct"),
    "table": ("table", "3", "--direct"),
    "data": ("data",),
    "report": ("report",),
}
FILES = {  # what each command opens for writing, locks aside
    "prepare": ["data/shards/*/*.bin", "data/shards/*/*.part.npz", "data/shards/*/*.index.npz",
                "data/shards/*/manifest.csv", "data/shards/*/facts.json",
                *(f"data/classification/{name}" for name in ("manifest.csv", "shards.txt", "statistics.json")),
                "reports/mini/data/classification.json"],
    "weights": ["weights/trained/random-A.pt"],
    "train": ["checkpoints/*/last.pt", "weights/trained/A-256.pt", "reports/mini/runs/A-256.csv",
              "reports/mini/runs/A-256.json"],
    "score": ["scores/dense-A-256.npz", "reports/mini/scores/dense-A-256.json"],
    "table": ["reports/mini/table3.json"],
    "data": ["reports/mini/data.md", "reports/mini/crops.png"],
    "report": ["reports/mini/*.md", "reports/mini/*.png"],
}  # fmt: skip


# A disk of a given size


class Opened(NamedTuple):
    """A file opened for writing: the place it is meant for, and the bytes written, those written twice included."""

    name: str
    bytes: int


class Disk:
    """What is written under a folder, as it would be on a disk that is full from some byte or some sync on.

    `full` is the number of a file, in the order of opening, and how many of its bytes find room; `sync` the number of
    the sync that fails. Both count from 0.
    """

    def __init__(self, folder: Path, full: tuple[int, int] | None = None, sync: int | None = None) -> None:
        self.folder, self.full, self.sync = str(folder), full, sync
        self.opened: list[Opened] = []
        self.syncs = 0
        self.failed: int | None = None  # the number of the file in which it filled

    def __enter__(self) -> Disk:
        self.patch = pytest.MonkeyPatch()
        self.real_open, self.real_sync = io.open, os.fsync
        self.patch.setattr(io, "open", self._open)
        self.patch.setattr(os, "fsync", self._sync)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def name(self, path: str) -> str:
        """The place that a file beside it is meant for, relative to the folder."""
        beside = rf"\.([^/]+)\.{re.escape(platform.node())}\.\d+\.partial$"
        return re.sub(beside, r"\1", os.path.relpath(os.path.abspath(path), self.folder))

    def room(self, number: int, wanted: int) -> int:
        """How many bytes of those wanted the file may write. OSError if it is none."""
        if self.full and self.full[0] == number:
            wanted = min(wanted, self.full[1] - self.opened[number].bytes)
        if self.failed is not None or wanted <= 0:
            self.failed = number if self.failed is None else self.failed
            raise OSError(errno.ENOSPC, FULL)
        self.opened[number] = self.opened[number]._replace(bytes=self.opened[number].bytes + wanted)
        return wanted

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> IO[Any]:
        path = os.path.abspath(file) if not isinstance(file, int) else ""
        if not set(mode) & set("wax+") or not path.startswith(self.folder):
            return self.real_open(file, mode, buffering, *text, **more)
        self.opened.append(Opened(self.name(path), 0))
        raw = Raw(path, mode.replace("b", "").replace("t", ""), self, len(self.opened) - 1)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, "utf-8", newline="")

    def _sync(self, number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):  # of names, not of a file's bytes
            return
        self.syncs += 1
        if self.sync is not None and self.syncs > self.sync:
            if self.failed is None:
                name = self.name(os.readlink(f"/proc/self/fd/{number}"))
                self.failed = max(i for i, one in enumerate(self.opened) if one.name == name)
            raise OSError(errno.ENOSPC, FULL)
        self.real_sync(number)


class Raw(io.FileIO):
    """A file that asks its disk for room."""

    def __init__(self, path: str, mode: str, disk: Disk, number: int) -> None:
        super().__init__(path, mode)
        self.disk, self.number = disk, number

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        return super().write(view[: self.disk.room(self.number, len(view))]) if len(view) else 0


# The program, and what it leaves


class Said(NamedTuple):
    """How the program ended."""

    code: int
    out: str
    error: str


def program(folder: Path, *words: str) -> Said:
    """The program in this process, in `folder`."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["vgg-repro", *words])
        for name in ("DVC_STAGE", "VGG_REPRO_SHARDS"):
            patch.delenv(name, raising=False)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), error.getvalue())


def limited(folder: Path, limit: int, *words: str) -> Said:
    """The program in a process of its own, and its children, that can write no file beyond `limit` bytes."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}

    def hold() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([PROGRAM, *words], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False, preexec_fn=hold)  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def no_more_than(limit: int) -> Iterator[None]:
    """Meanwhile this process can write no file beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder: Path) -> dict[str, str]:
    """What lies in `folder`, a hash a file; without locks, and without times, rates and where results come from."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not fnmatch(path.name, "*lock"))
    return {str(path.relative_to(folder)): content(path) for path in files}


def content(path: Path) -> str:
    """A hash of what is in a file, times, rates and where results come from aside."""
    if path.parent.name == "runs" and path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and all(row.keys() > SPEEDS for row in rows), path
        text = json.dumps([{key: value for key, value in row.items() if key not in SPEEDS} for row in rows])
    elif "reports" in path.parts and path.suffix == ".json":
        values = json.loads(path.read_text())
        values.pop("provenance", None)
        text = json.dumps(values)
    else:
        return sha256(path)
    return hashlib.sha256(text.encode()).hexdigest()


def whole_shards(folder: Path) -> dict[str, int]:
    """The shards under `folder` that are whole, in a data set or on the way to one: each one's time of writing."""
    found = {}
    for path in sorted(folder.glob("data/shards/*/*.bin")):
        split, number = path.stem.split("-")
        if path.parent.suffix != ".partial" or read_part(path.parent, split, int(number)) is not None:
            found[path.name] = path.stat().st_mtime_ns
    return found


@dataclass
class Made:
    """A folder in which every command has been run undisturbed."""

    folder: Path
    tree: dict[str, str]
    opened: dict[str, list[Opened]]  # by command, in the order of opening
    syncs: dict[str, int]

    def before(self, command: str, folder: Path, random: np.random.Generator) -> dict[str, bytes]:
        """A copy as it was before `command`; the files that it makes anew have old bytes, which are returned."""
        shutil.copytree(self.folder, folder)
        if command == "prepare":
            shutil.rmtree(folder / "data/shards")
        old = {}
        for name in {one.name for one in self.opened[command]}:
            if (folder / name).is_file() and not fnmatch(name, "*lock"):
                old[name] = random.bytes(int(random.integers(1, 5000)))
                (folder / name).write_bytes(old[name])
        return old


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Every command run undisturbed, and watched."""
    patch = pytest.MonkeyPatch()
    patch.setattr(stages.tools.data, "CROPS", 8)  # drawing more takes a second
    folder = tmp_path_factory.mktemp("made")
    write_params(folder, run_seed())
    opened, syncs = {}, {}
    for name, words in COMMANDS.items():
        with Disk(folder) as disk:
            said = program(folder, *words)
        assert said.code == 0, said
        opened[name], syncs[name] = disk.opened, disk.syncs
    yield Made(folder, tree(folder), opened, syncs)
    patch.undo()


def write_params(folder: Path, seed: int, **prepare: object) -> None:
    """A tiny experiment's params.yaml."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    mini["data"] |= {"source": "digits", "limit": LIMIT}
    mini["prepare"] |= {"shard_images": SHARD, "processes": 1, "device": "cpu", **prepare}
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/32", "fc": 16}
    mini["train"] |= {"seed": seed, "batch": LIMIT // STEPS, "device": "cpu"}
    mini["score"] |= {"device": "cpu"}
    mini["recipes"]["scratch"] |= {"epochs": EPOCHS, "first_drop": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def check_message(said: Said, name: str, reason: str) -> None:
    """The program ended with 1 and one line that names the file, or its folder, and the reason."""
    assert said.code == 1, said
    assert "Traceback" not in said.error + said.out
    (line,) = said.error.splitlines()
    assert line.startswith("vgg-repro: ") and "unexpected" not in line, line
    assert reason in line, line
    parent = str(Path(name).parent)
    if name.endswith("lock"):
        assert parent in line, line
    elif parent.endswith(".partial"):  # of a shard, its part, an index, ... the folder is enough
        assert parent.removesuffix(".partial") in line, line
    else:
        assert name in line, line


def check_left(folder: Path, made: Made, command: str, failed: int, old: dict[str, bytes]) -> None:
    """What was finished before the file number `failed` is whole, what was not is as it was, and nothing is half."""
    assert [path for path in folder.rglob("*.partial") if path.is_file()] == []
    finished = {one.name for one in made.opened[command][:failed]} - {made.opened[command][failed].name}
    for name, before in old.items():
        if name in finished:
            assert content(folder / name) == made.tree[name], name
        else:
            assert (folder / name).read_bytes() == before, name
    parts = {Path(name).name.replace(".part.npz", ".bin") for name in finished if name.endswith(".part.npz")}
    if command == "prepare":
        assert set(whole_shards(folder)) == parts


def check_goes_on(folder: Path, made: Made, command: str) -> Said:
    """With room, the same command ends where an undisturbed one ends; whole shards are not written again."""
    shards, partial = whole_shards(folder), list(folder.glob("data/shards/*.partial"))
    said = program(folder, *COMMANDS[command])
    assert said.code == 0, said
    found = tree(folder)
    assert {name for name in found | made.tree if found.get(name) != made.tree.get(name)} == set()
    assert whole_shards(folder) | shards == whole_shards(folder), "whole shards were written again"
    if shards and partial:
        assert f"{len(shards) * SHARD} images of {2 * LIMIT} are in whole shards already" in said.out
    return said


# The tests


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills_within_a_file_is_said_and_harms_nothing(
    command: str, made: Made, tmp_path: Path, rng: np.random.Generator
) -> None:
    for place, pattern in enumerate(FILES[command]):
        opened = made.opened[command]
        number = int(rng.choice([n for n, one in enumerate(opened) if fnmatch(one.name, pattern) and one.bytes]))
        room = int(rng.integers(opened[number].bytes))
        folder = tmp_path / f"copy {place}"
        old = made.before(command, folder, rng)
        with case(f"{opened[number]}, room for {room} bytes"):
            with Disk(folder, (number, room)) as disk:
                said = program(folder, *COMMANDS[command])
            assert disk.failed == number
            check_message(said, opened[number].name, FULL)
            check_left(folder, made, command, number, old)
            if command == "prepare" and 2 < place < len(FILES[command]) - 1:
                continue  # all shards are whole, as behind the last
            again = check_goes_on(folder, made, command)
            if command == "train" and (saved := checkpoints(made, number)):
                assert f"resumed at step {saved * STEPS} " in again.out


def checkpoints(made: Made, number: int) -> int:
    """How many checkpoints a training run has written before it opens the file of that number."""
    return sum(one.name.endswith("last.pt") for one in made.opened["train"][:number])


@pytest.mark.parametrize("command", ["prepare", "train", "report"])
def test_a_disk_that_fails_at_a_sync_is_said_and_harms_nothing(
    command: str, made: Made, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = tmp_path / "copy"
    old = made.before(command, folder, rng)
    with Disk(folder, sync=int(rng.integers(made.syncs[command]))) as disk:
        said = program(folder, *COMMANDS[command])
    assert disk.failed is not None
    check_message(said, made.opened[command][disk.failed].name, FULL)
    check_left(folder, made, command, disk.failed, old)
    check_goes_on(folder, made, command)


def test_every_file_that_is_written_is_among_those_tested(made: Made) -> None:
    for command, opened in made.opened.items():
        for name in {one.name for one in opened}:
            tested = any(fnmatch(name, pattern) for pattern in FILES[command])
            harmless = name.endswith(("lock", "progress.json"))  # who holds a lock; how far a run is
            assert tested or harmless, (command, name)


def test_tensors_that_find_no_room_say_so_wherever_it_ends(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "last.pt"
    values = {str(number): torch.tensor(rng.random(int(rng.integers(1, 3000)))) for number in range(20)}
    save_tensors(path, values)
    whole = path.read_bytes()
    for limit in rng.integers(0, len(whole), 15).tolist():
        with no_more_than(limit), pytest.raises(Failure, match=rf"last\.pt could not be written: {LARGE}$"):
            save_tensors(path, values)
        assert path.read_bytes() == whole, limit
        assert list(tmp_path.iterdir()) == [path], limit


def test_no_room_for_a_lock_s_few_bytes_is_said_too(made: Made, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "copy"
    old = made.before("train", folder, rng)
    with no_more_than(int(rng.integers(40))):
        said = program(folder, *COMMANDS["train"])
    lock = next(one.name for one in made.opened["train"] if one.name.endswith("lock"))
    check_message(said, lock, LARGE)
    check_left(folder, made, "train", 0, old)


@pytest.mark.parametrize("command", ["train", "score", "report"])  # by the writers of torch, NumPy and Matplotlib
def test_a_limit_of_the_system_is_said_and_harms_nothing(
    command: str, made: Made, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = tmp_path / "copy"
    old = made.before(command, folder, rng)
    largest = max((made.folder / name).stat().st_size for name in old)
    limit = int(rng.integers(100, largest))  # a lock has room
    with no_more_than(limit):
        said = program(folder, *COMMANDS[command])
    too_large = [n for n, one in enumerate(made.opened[command]) if not one.name.endswith("lock") and one.bytes > limit]
    named = [n for n in too_large if made.opened[command][n].name in said.error]
    assert named, (limit, said)
    check_message(said, made.opened[command][named[0]].name, LARGE)
    check_left(folder, made, command, named[0], old)
    check_goes_on(folder, made, command)


def test_a_disk_that_is_full_in_a_worker_process_is_said_and_whole_shards_stay(
    made: Made, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = tmp_path / "copy"
    old = made.before("prepare", folder, rng)
    params = (folder / "params.yaml").read_text()
    write_params(folder, 0, processes=2)
    sizes = sorted(path.stat().st_size for path in made.folder.glob("data/shards/*/*.bin"))
    limit = int(rng.choice([rng.integers(100, sizes[0]), rng.integers(sizes[len(sizes) // 2], sizes[-1])]))
    said = limited(folder, limit, *COMMANDS["prepare"])
    number = next(n for n, one in enumerate(made.opened["prepare"]) if one.name.endswith(".bin"))
    name = made.opened["prepare"][number].name
    if ".part.npz" in said.error:
        name = "part.npz"
    check_message(said, name, LARGE)
    assert all((folder / name).read_bytes() == before for name, before in old.items())
    assert max((path.stat().st_size for path in folder.rglob("*.bin")), default=0) <= limit
    (folder / "params.yaml").write_text(params)
    check_goes_on(folder, made, "prepare")


def test_params_yaml_stays_as_it_is_when_the_disk_fills(made: Made, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "copy"
    made.before("table", folder, rng)
    before, size = (folder / "params.yaml").read_bytes(), (folder / "params.yaml").stat().st_size
    (tmp_path / "train").mkdir()
    words = ("prepare", "--source", "imagefolder", "--path", str(tmp_path), "--direct")
    with Disk(folder, (0, int(rng.integers(size)))) as disk:
        said = program(folder, *words)
    assert disk.failed == 0 and "params.yaml" in disk.opened[0].name
    assert (folder / "params.yaml").read_bytes() == before
    assert [path.name for path in folder.glob("*params.yaml*")] == ["params.yaml"]
    check_message(said, "params.yaml", FULL)
    program(folder, *words)  # finds no images there, but has written what it was told to
    assert yaml.safe_load((folder / "params.yaml").read_text())["profiles"]["mini"]["data"]["path"] == str(tmp_path)


def test_shards_and_facts_of_two_preparations_are_not_trained_on_together(
    made: Made, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["profiles"]["mini"]["data"]["digits"]["texture"] = float(rng.integers(11, 30))
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    number = next(
        n for n, one in enumerate(made.opened["prepare"]) if one.name == "data/classification/statistics.json"
    )
    with Disk(folder, (number, 0)):
        assert program(folder, *COMMANDS["prepare"]).code == 1
    said = program(folder, *COMMANDS["train"])
    assert said.code == 1 and "vgg-repro prepare" in said.error, said
    assert program(folder, *COMMANDS["prepare"]).code == 0
    assert program(folder, *COMMANDS["train"]).code == 0
