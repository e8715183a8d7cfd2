"""Files are written whole or not at all, read with advice, and hashed by content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import resource
import stat
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import Failure
from pipeline.system import atomic_files
from pipeline.system.atomic_files import copy, digest, read_json, sha256, whole, write_json
from tests.support import on_linux


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there already."""
    file = tmp_path / "values.json"
    file.write_bytes(b"old")
    return file


def only(path: Path) -> bool:
    """Whether nothing but `path` lies in its folder."""
    return list(path.parent.iterdir()) == [path]


def test_the_new_file_takes_the_place_of_the_old_one_only_at_the_end(path: Path) -> None:
    content = os.urandom(10_000)
    with path.open("rb") as reader:
        with whole(path) as file:
            file.write(content)
            file.flush()
            assert path.read_bytes() == b"old"
        assert reader.read() == b"old", "who has begun to read the old file reads it to its end"
    assert path.read_bytes() == content
    assert only(path)


def write_half(path: Path, error: BaseException) -> None:
    """Begin to write and raise."""
    with whole(path) as file:
        file.write(b"half of the new")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_file_stays_when_the_block_raises(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_half(path, error("midway"))
    assert path.read_bytes() == b"old"
    assert only(path)


def test_nothing_is_left_when_there_was_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="midway"):
        write_half(tmp_path / "new", ValueError("midway"))
    assert list(tmp_path.iterdir()) == []


def test_the_disk_has_the_file_before_it_takes_its_place_and_the_name_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []
    sync = os.fsync

    def watched(number: int) -> None:
        sync(number)
        what = "folder" if os.path.samestat(os.fstat(number), path.parent.stat()) else "file"
        synced.append((what, path.read_bytes()))
        assert what == "folder" or os.fstat(number).st_size == len(b"new"), "flushed before it is synced"

    monkeypatch.setattr(atomic_files.os, "fsync", watched)
    with whole(path) as file:
        file.write(b"new")
    assert synced == [("file", b"old"), ("folder", b"new")]


def test_a_disk_that_syncs_no_folders_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_files(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(atomic_files.os, "fsync", only_files)
    write_json(path, 1)
    assert read_json(path, "nothing") == 1


UNREADABLE = Path("/proc/self/mem")  # opens, and its first byte is an input/output error


@on_linux
def test_a_file_that_cannot_be_read_meanwhile_is_not_taken_for_the_one_that_is_written(path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), whole(path) as file:
        file.write(UNREADABLE.open("rb").read())
    assert path.read_bytes() == b"old" and only(path)
    with pytest.raises(Failure, match="mem could not be read: Input/output error"):
        copy(UNREADABLE, path)
    with pytest.raises(Failure, match="mem could not be read: Input/output error"):
        read_json(UNREADABLE, "nothing")
    assert path.read_bytes() == b"old" and only(path)


@pytest.mark.parametrize("buffered", [False, True])
def test_what_is_made_of_a_failed_write_names_the_file_all_the_same(
    buffered: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries turn it into errors of their own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_too_much() -> None:
        with whole(path) as file:
            try:
                file.write(bytes(10 if buffered else 10**6))
                file.seek(0)
            except OSError:
                raise RuntimeError("the writer is broken") from None

    resource.setrlimit(resource.RLIMIT_FSIZE, (5, before[1]))
    try:
        with pytest.raises(Failure, match=r"values\.json could not be written: File too large"):
            write_too_much()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old" and only(path)


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    zombie = subprocess.Popen(["true"])  # it has ended, and nobody has waited for it
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    names = [(platform.node(), ended.pid), (platform.node(), zombie.pid), (platform.node(), os.getppid()),
             ("another", ended.pid)]  # fmt: skip
    *left, beside, elsewhere = (path.with_name(f".{path.name}.{host}.{pid}.partial") for host, pid in names)
    for partial in (*left, beside, elsewhere):
        partial.touch()
    write_json(path, 1)
    zombie.wait()
    assert sorted(path.parent.iterdir()) == sorted([path, beside, elsewhere])


def test_two_machines_with_one_folder_write_beside_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their processes may have one and the same number."""
    with whole(path) as file:
        file.write(b"of this machine")
        with monkeypatch.context() as patch:
            patch.setattr(platform, "node", lambda: "another.machine")
            write_json(path, 1)
        assert read_json(path, "nothing") == 1
    assert path.read_bytes() == b"of this machine" and only(path)


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]


def test_a_full_disk_is_a_failure_that_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(Failure, match=r"values\.json could not be written: No space left on device"):
        write_json(path, {"a": 1})
    assert path.read_bytes() == b"old"
    assert only(path)


def test_a_folder_in_the_files_place_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(Failure, match="taken could not be written"):
        write_json(path, 1)
    assert only(path)


def test_a_file_in_a_folders_place_is_a_failure(path: Path) -> None:
    with pytest.raises(Failure, match="could not be written"):
        write_json(path / "inside.json", 1)
    assert path.read_bytes() == b"old"


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    values = {"text": "Å – ß", "numbers": [1, 2.5, None], "nested": {"b": True, "a": []}}
    write_json(tmp_path / "values.json", values)
    assert read_json(tmp_path / "values.json", "nothing") == values
    assert (tmp_path / "values.json").read_text().endswith("}\n")


def test_a_missing_and_a_broken_file_say_what_makes_them(path: Path) -> None:
    with pytest.raises(Failure, match=r"nowhere\.json does not exist; make it with: vgg-repro prepare"):
        read_json(path.with_name("nowhere.json"), "vgg-repro prepare")
    with pytest.raises(Failure, match=r"values\.json is not valid JSON .*make it again with: vgg-repro prepare"):
        read_json(path, "vgg-repro prepare")


def test_a_file_that_is_no_text_is_a_failure_too(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\xd8 not UTF-8")
    with pytest.raises(Failure, match="make it again with: vgg-repro prepare"):
        read_json(path, "vgg-repro prepare")


def test_sha256_is_of_the_bytes(path: Path) -> None:
    content = os.urandom(300_000)
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    others = ({"a": 1, "b": 3}, {"a": 1, "b": "2"}, {"a": 1}, {"a": 1, "c": 2}, [["a", 1], ["b", 2]])
    assert len({digest({"a": 1, "b": 2}), *map(digest, others)}) == 6
    assert digest([1, 2]) != digest([2, 1])
