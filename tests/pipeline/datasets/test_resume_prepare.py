"""Preparation shard by shard: the same bytes from any number of processes, after a stop, and after a death."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets import manifest
from pipeline.datasets import prepare as module
from pipeline.datasets.shards import part_name, read_part, shard_name
from pipeline.errors import Failure, Interrupted
from tests.support.fake_source import (
    Deadly,
    FakeSource,
    Item,
    Stopping,
    Workplace,
    deaths,
    files_in,
    hashes_in,
    small_items,
)

Random = np.random.Generator
TRAIN, VAL, SHARD = 20, 7, 4  # images: two shards of val come first, then five of train
SHARDS = {"shard_images": SHARD}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder to work in."""
    return Workplace(tmp_path, monkeypatch)


@pytest.fixture
def fake(rng: Random) -> FakeSource:
    """A source of small photographs, among them two of no use, and one of val in train."""
    train, val = small_items(rng, "train", TRAIN - 3), small_items(rng, "val", VAL)
    more = [("bad", b"no image"), ("away", None), ("shared", val[0].encoded)]
    for id, encoded in more:
        train.insert(int(rng.integers(len(train) + 1)), Item(id, 0, encoded))
    return FakeSource(train, val)


def shards_of(source: FakeSource) -> list[tuple[str, int, list[str]]]:
    """Every shard and its images' ids, in the order in which they are made."""
    return [
        (split, number, [item.id for item in source.given[split][first : first + SHARD]])
        for split in ("val", "train")
        for number, first in enumerate(range(0, len(source.given[split]), SHARD))
    ]


# Whatever the processes


def test_any_number_of_processes_and_any_order_make_the_same_bytes(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    single = workplace.prepare(fake, prepare=SHARDS)
    wanted = single.facts, hashes_in(single.folder), single.rows
    for processes in (2, 3):
        prepared = workplace.prepare(fake, prepare={**SHARDS, "processes": processes})
        assert (prepared.facts, hashes_in(prepared.folder), prepared.rows) == wanted, processes
        assert not active_children()

    def shuffled(work: Callable[[Any, bool], Any], tasks: list[Any], *_: object) -> Iterator[Any]:
        return (work(tasks[i], False) for i in rng.permutation(len(tasks)))

    workplace.patch.setattr(module, "run_tasks", shuffled)
    prepared = workplace.prepare(fake, prepare=SHARDS)
    assert (prepared.facts, hashes_in(prepared.folder), prepared.rows) == wanted


def test_there_are_as_many_processes_as_asked_for_or_one_a_core(workplace: Workplace, fake: FakeSource) -> None:
    asked: list[int] = []

    def watched(work: Callable[[Any, bool], Any], tasks: list[Any], processes: int, _: str) -> Iterator[Any]:
        asked.append(processes)
        return (work(task, False) for task in tasks)

    workplace.patch.setattr(module, "run_tasks", watched)
    workplace.patch.setattr(os, "sched_getaffinity", lambda _: set(range(17)), raising=False)
    for processes in (1, 5, None):
        workplace.prepare(fake, prepare={"processes": processes})
    assert asked == [1, 5, 17]


# Stopped in the middle


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("killed")], ids=repr)
def test_a_stopped_preparation_goes_on_from_its_whole_shards(
    error: BaseException, workplace: Workplace, fake: FakeSource, rng: Random, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    reads = int(rng.integers(1, TRAIN + VAL))
    expected = Interrupted if isinstance(error, KeyboardInterrupt) else RuntimeError
    with pytest.raises(expected, match=r"the same command resumes from the last complete shard|killed"):
        workplace.prepare(Stopping(fake, reads, error), prepare=SHARDS)
    shards = shards_of(fake)
    ends = np.cumsum([len(ids) for _, _, ids in shards])
    done = int((ends <= reads).sum())
    before = files_in(workplace.partial)
    names = {name(*shard[:2]) for shard in shards[:done] for name in (shard_name, part_name)}
    assert set(before) == names, "half a shard takes no room"
    capsys.readouterr()
    fake.reads.clear()
    prepared = workplace.prepare(fake, again=True, prepare=SHARDS)
    assert fake.reads == [id for _, _, ids in shards[done:] for id in ids], reads
    message = f"{ends[done - 1] if done else 0} of {TRAIN + VAL} images are already in complete shards"
    assert (message in capsys.readouterr().out) == (done > 0)
    after = files_in(prepared.folder)
    assert {name: after[name] for name in before if name in after} == {
        name: file for name, file in before.items() if name.endswith(".bin")
    }
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)
    assert (prepared.facts, prepared.rows) == (undisturbed.facts, undisturbed.rows)
    assert not list(prepared.folder.parent.glob("*.partial"))


def test_a_part_is_read_once_to_resume_and_then_as_often_as_without_a_stop(
    workplace: Workplace, fake: FakeSource
) -> None:
    calls = Counter[tuple[str, int]]()

    def counted(folder: Path, split: str, number: int) -> Any:
        calls[split, number] += 1
        return read_part(folder, split, number)

    for place in (module, manifest):
        workplace.patch.setattr(place, "read_part", counted)
    workplace.prepare(fake, prepare=SHARDS)
    undisturbed = calls.copy()
    calls.clear()
    with pytest.raises(Interrupted):
        workplace.prepare(Stopping(fake, 3 * SHARD, KeyboardInterrupt()), prepare=SHARDS)
    calls.clear()
    workplace.prepare(fake, again=True, prepare=SHARDS)
    assert calls == undisturbed
    assert max(calls.values()) == 3, "is it there; val's hashes, for what is in train too; join"


def test_what_one_process_began_several_end(workplace: Workplace, fake: FakeSource, rng: Random) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    with pytest.raises(Interrupted):
        workplace.prepare(Stopping(fake, int(rng.integers(4, TRAIN)), KeyboardInterrupt()), prepare=SHARDS)
    before = files_in(workplace.partial)
    prepared = workplace.prepare(fake, again=True, prepare={**SHARDS, "processes": 2, "max_unreadable": 0.5})
    after = files_in(prepared.folder)
    assert all(after[name] == before[name] for name in before if name.endswith(".bin"))
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)


def compression_unknown(data: bytes) -> bytes:
    """A zip file whose directory names a way of packing that there is not."""
    place = data.index(b"PK\x01\x02") + 10
    return data[:place] + b"\x63\x00" + data[place + 2 :]


HARMS: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {
    "shard gone": ("bin", None),
    "shard cut": ("bin", lambda data: data[:-1]),
    "shard empty": ("bin", lambda _: b""),
    "shard longer": ("bin", lambda data: data + b"more"),
    "part gone": ("part.npz", None),
    "part cut": ("part.npz", lambda data: data[: len(data) // 2]),
    "part empty": ("part.npz", lambda _: b""),
    "part rubbish": ("part.npz", lambda _: b"rubbish" * 99),
    "part zeros": ("part.npz", lambda data: bytes(len(data))),
    "part's zeros inside": ("part.npz", lambda data: data[:300] + bytes(200) + data[500:]),
    "part's directory": ("part.npz", compression_unknown),
    "part of an array": ("part.npz", lambda data: data.replace(b"skipped", b"skopped")),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_shard_of_a_stopped_preparation_is_made_again(
    harm: str, workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    last = TRAIN + VAL - 2
    with pytest.raises(Interrupted):
        workplace.prepare(Stopping(fake, last, KeyboardInterrupt()), prepare=SHARDS)
    shards = shards_of(fake)
    split, number, ids = shards[int(rng.integers(len(shards) - 1))]
    ending, change = HARMS[harm]
    path = workplace.partial / f"{split}-{number:05d}.{ending}"
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(data))
    fake.reads.clear()
    prepared = workplace.prepare(fake, again=True, prepare=SHARDS)
    assert fake.reads == [*ids, *shards[-1][2]], path.name
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)
    assert prepared.rows == undisturbed.rows


def test_what_was_stopped_while_it_was_joined_is_joined_again(workplace: Workplace, fake: FakeSource) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with workplace.patch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(RuntimeError, match="killed"):
            workplace.prepare(fake, prepare=SHARDS)
    assert (workplace.partial / "train.index.npz").exists()
    fake.reads.clear()
    prepared = workplace.prepare(fake, again=True, prepare=SHARDS)
    assert fake.reads == []
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)
    assert prepared.rows == undisturbed.rows


def test_a_damaged_folder_gives_way_to_the_shards_that_are_left_beside_it(
    workplace: Workplace, fake: FakeSource
) -> None:
    """Who deleted a file of a data set and was stopped as it was made again finds both folders there."""
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    wanted = hashes_in(undisturbed.folder)
    (undisturbed.folder / "facts.json").unlink()
    with pytest.raises(Interrupted):
        workplace.prepare(Stopping(fake, 2 * SHARD, KeyboardInterrupt()), again=True, prepare=SHARDS)
    undisturbed.folder.mkdir(exist_ok=True)
    shutil.copy(workplace.partial / shard_name("val", 0), undisturbed.folder)
    prepared = workplace.prepare(fake, again=True, prepare=SHARDS)
    assert hashes_in(prepared.folder) == wanted


# Deaths


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_that_dies_once_is_survived(
    killed: bool, workplace: Workplace, fake: FakeSource, rng: Random, tmp_path: Path
) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    victim = str(rng.choice([item.id for items in fake.given.values() for item in items]))
    flag = tmp_path / "died"
    prepared = workplace.prepare(Deadly(fake, victim, flag, 1, killed), prepare={**SHARDS, "processes": 2})
    assert deaths(flag) == 1
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)
    assert (prepared.facts, prepared.rows) == (undisturbed.facts, undisturbed.rows)
    assert not active_children()


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_that_dies_each_time_is_a_failure_that_says_so_and_keeps_whole_shards(
    killed: bool, workplace: Workplace, fake: FakeSource, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    undisturbed = workplace.prepare(fake, prepare=SHARDS)
    victim = fake.given["train"][-1].id  # in the last shard, which is begun when others are whole
    flag = tmp_path / "died"
    why = r"SIGKILL\. .*memory.*dmesg.*prepare\.processes" if killed else r"exit code 134\n.*\n  free\(\): invalid size"
    with pytest.raises(Failure, match=rf"a process that was preparing images died twice: .*{why}"):
        workplace.prepare(Deadly(fake, victim, flag, 99, killed), prepare={**SHARDS, "processes": 2})
    assert deaths(flag) == 2
    assert not active_children()
    output = capfd.readouterr()
    assert "Traceback" not in output.err + output.out, output
    before = files_in(workplace.partial)
    made = [shard_name(*shard[:2]) for shard in shards_of(fake) if read_part(workplace.partial, *shard[:2])]
    assert made, before
    prepared = workplace.prepare(fake, again=True, prepare=SHARDS)
    after = files_in(prepared.folder)
    assert [after[name] for name in made] == [before[name] for name in made]
    assert hashes_in(prepared.folder) == hashes_in(undisturbed.folder)
