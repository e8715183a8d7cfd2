"""An unexpected error's traceback is never lost: it is in a file that the message names, or in the message."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cli.main
from pipeline.system.error_log import KEPT, LOGS, unexpected
from tests.support import ROOT
from tests.support.fake_source import FakeSource, Stopping, Workplace, small_items


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def some_command() -> None:
    """Something goes wrong in it that nobody expects."""
    raise KeyError("a key \udcff")


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the program says on the standard error as it ends with 1."""
    monkeypatch.setattr(cli.main, "app", some_command)
    monkeypatch.setattr(sys, "argv", ["vgg-repro", *words])
    with pytest.raises(SystemExit) as end:
        cli.main.main()
    assert end.value.code == 1
    return capsys.readouterr().err


def test_the_message_names_the_file_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = ended(monkeypatch, capsys, "train", "A 256")
    (log,) = LOGS.iterdir()
    assert message == f"vgg-repro: unexpected KeyError: 'a key \\udcff' (traceback: {log})\n"
    assert log.name.startswith(f"error-{time.strftime('%Y')}") and log.name.endswith(f"-{os.getpid()}.log")
    text = log.read_text()
    assert "in some_command" in text and "vgg-repro train 'A 256'" in text and f"process {os.getpid()}" in text


def test_debug_shows_it_and_keeps_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.main, "app", some_command)
    monkeypatch.setattr(sys, "argv", ["vgg-repro", "--debug", "train"])
    with pytest.raises(KeyError):
        cli.main.main()
    assert len(list(LOGS.iterdir())) == 1


def test_where_no_file_can_be_written_it_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LOGS.write_text("a file in the folder's place")
    assert "in some_command" in ended(monkeypatch, capsys)
    assert list(folder.iterdir()) == [folder / LOGS]


def test_the_newest_are_kept_and_other_files_are_nobodys() -> None:
    LOGS.mkdir()
    for second in range(KEPT + 9):
        (LOGS / f"error-20200101-0000{second:02d}-1.log").touch()
    (LOGS / "a.log").touch()
    unexpected(KeyError("a key"))
    kept = sorted(path.name for path in LOGS.glob("error-*"))
    assert len(kept) == KEPT and kept[0] == "error-20200101-000010-1.log" and (LOGS / "a.log").exists()


def test_a_failing_process_of_prepare_brings_its_traceback_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    workplace = Workplace(tmp_path, monkeypatch)
    source = FakeSource(small_items(rng, "train", 6), small_items(rng, "val", 4))
    with pytest.raises(KeyError) as raised:
        workplace.prepare(Stopping(source, 2, KeyError("a key")), prepare={"processes": 2})
    unexpected(raised.value)
    (log,) = LOGS.iterdir()
    assert "In another process" in log.read_text() and "in make_shard" in log.read_text()


def test_git_and_dvc_do_not_see_them() -> None:
    done = subprocess.run(["git", "check-ignore", "logs/error-1.log"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert "logs" in (ROOT / ".dvcignore").read_text().split()
