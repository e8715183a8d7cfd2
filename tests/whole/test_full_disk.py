"""A disk that fills, at any byte of any file: one message, what stood there before whole, and the next run goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import stages.tools.data
from pipeline.errors import Failure
from pipeline.system.atomic_files import sha256
from stages.common import save_tensors
from tests.support import ROOT
from tests.support.cases import case
from tests.support.disk import FULL, Disk, Opened
from tests.support.images import run_seed
from tests.support.program import Outcome, program
from tests.support.trees import tree, whole_shards

PROGRAM = str(Path(sys.executable).parent / "vgg-repro")
LIMIT, SHARD, EPOCHS, STEPS = 64, 16, 2, 8
LARGE = os.strerror(errno.EFBIG)
COMMANDS = {  # in the order in which each finds what it needs
    "prepare": ("prepare", "--direct"),
    "weights": ("weights", "random", "A", "--direct"),
    "train": ("train", "A-256", "--direct"),
    "score": ("score", "dense", "A-256", "--direct"),
    "table": ("stage", "table", "table3"),
    "data": ("data",),
    "report": ("report",),
}
FILES = {  # what each command opens for writing, locks aside
    "prepare": ["data/shards/*/*.bin", "data/shards/*/*.part.npz", "data/shards/*/*.index.npz",
                "data/shards/*/manifest.csv", "data/shards/*/odd_boxes.csv", "data/shards/*/facts.json",
                *(f"data/classification/{name}" for name in ("manifest.csv", "shards.txt", "statistics.json")),
                "data/classification/facts-mini.json"],
    "weights": ["weights/trained/random-A.pt"],
    "train": ["checkpoints/*/last.pt", "weights/trained/A-256.pt", "weights/trained/A-256.csv",
              "weights/trained/A-256.json", "provenance/train@A-256.json"],
    "score": ["scores/dense-A-256.npz", "scores/dense-A-256.json", "provenance/dense@A-256.json"],
    "table": ["reports/mini/table3.json", "reports/mini/ranks/table3.npz", "reports/mini/metrics.json",
              "provenance/table3.json"],
    "data": ["reports/mini/data.md", "reports/mini/crops.jpg"],
    "report": ["reports/mini/*.md", "reports/mini/*.png", "reports/mini/*/*.json", "reports/mini/*/*.csv",
               "reports/mini/*.csv", "reports/mini/filters.npz", "reports/mini/provenance.json"],
}  # fmt: skip


# A disk of a given size


# The program, and what it leaves


def limited(folder: Path, limit: int, *words: str) -> Outcome:
    """The program in a process of its own, and its children, that can write no file beyond `limit` bytes."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}

    def hold() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([PROGRAM, *words], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False, preexec_fn=hold)  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def no_more_than(limit: int) -> Iterator[None]:
    """Meanwhile this process can write no file beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def check_message(said: Outcome, name: str, reason: str) -> None:
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
        if name.startswith("provenance/"):  # which no two runs have alike
            continue
        if name in finished:
            assert sha256(folder / name) == made.tree[name], name
        else:
            assert (folder / name).read_bytes() == before, name
    parts = {Path(name).name.replace(".part.npz", ".bin") for name in finished if name.endswith(".part.npz")}
    if command == "prepare":
        assert set(whole_shards(folder)) == parts


def check_goes_on(folder: Path, made: Made, command: str) -> Outcome:
    """With room, the same command ends where an undisturbed one ends; whole shards are not written again."""
    shards, partial = whole_shards(folder), list(folder.glob("data/shards/*.partial"))
    said = program(folder, *COMMANDS[command])
    assert said.code == 0, said
    found = tree(folder)
    assert {name for name in found | made.tree if found.get(name) != made.tree.get(name)} == set()
    assert whole_shards(folder) | shards == whole_shards(folder), "whole shards were written again"
    if shards and partial:
        assert f"{len(shards) * SHARD} of {2 * LIMIT} images are already in complete shards" in said.out
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
    for name in ("cats", "dogs"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "one.jpg").write_bytes(b"no image, but a file that is listed")
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
