"""Copies of the shards on a node's own disk: only what is needed, once, compared with the index."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cluster import node_local
from pipeline.cluster.node_local import FOLDER, copied_shards
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION
from tests.support.training import in_copy_of


@pytest.fixture
def local(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's own disk; the work is done in a copy of the prepared folder."""
    in_copy_of(prepared, tmp_path / "clone", monkeypatch)
    monkeypatch.setattr(node_local, "SPARE", 0)
    (tmp_path / "local").mkdir()
    yield tmp_path / "local"
    os.environ.pop("VGG_REPRO_SHARDS", None)


def test_the_copies_are_read_and_only_the_needed_split_is_copied(local: Path) -> None:
    shared = CLASSIFICATION.shards
    copied_shards(local, ["val"])
    assert CLASSIFICATION.shards == local / FOLDER / shared.name
    assert {path.name.partition("-")[0].partition(".")[0] for path in CLASSIFICATION.shards.iterdir()} == {
        "facts",
        "val",
    }
    here, there = (Shards(folder, "val") for folder in (CLASSIFICATION.shards, shared))
    assert all(here[number].tobytes() == there[number].tobytes() for number in range(len(there)))


def test_a_second_stage_copies_only_what_is_missing(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied_shards(local, ["val"])
    copied = {path: path.stat().st_ino for path in (local / FOLDER).glob("*/val*")}
    del os.environ["VGG_REPRO_SHARDS"]
    capsys.readouterr()
    copied_shards(local, ["val"])
    assert capsys.readouterr().out == ""
    del os.environ["VGG_REPRO_SHARDS"]
    copied_shards(local, ["train", "val"])
    assert {path: path.stat().st_ino for path in copied} == copied
    assert len(Shards(CLASSIFICATION.shards, "train")) == 64


def test_only_the_split_that_was_copied_is_compared(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_shards(local, ["val"])
    del os.environ["VGG_REPRO_SHARDS"]
    compared: list[str] = []
    monkeypatch.setattr(node_local, "Shards", lambda folder, split: compared.append(split) or Shards(folder, split))
    copied_shards(local, ["train", "val"])
    assert compared == ["train"]


def test_copies_that_are_there_are_read_from_a_disk_that_is_full_now(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_shards(local, ["val"])
    copies = CLASSIFICATION.shards
    del os.environ["VGG_REPRO_SHARDS"]
    monkeypatch.setattr(node_local.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr(node_local, "SPARE", 1)
    copied_shards(local, ["val"])
    assert CLASSIFICATION.shards == copies


def test_a_damaged_copy_is_a_failure_and_removed(local: Path) -> None:
    shard = next(CLASSIFICATION.shards.glob("val-*.bin"))
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(Failure, match="is damaged"):
        copied_shards(local, ["val"])
    assert not [*(local / FOLDER).glob("*/*.bin")] and "VGG_REPRO_SHARDS" not in os.environ


def test_a_full_disk_leaves_the_shared_shards(
    local: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(node_local.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    shared = CLASSIFICATION.shards
    copied_shards(local, ["val"])
    assert CLASSIFICATION.shards == shared and f"reading {shared}" in capsys.readouterr().out
