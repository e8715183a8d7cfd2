"""Tests of DVC as our own commands run it: what it no longer says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.exceptions import DvcException, ReproductionError
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.rwlock import rwlock

from pipeline.orchestration.dvc_graph import IN_USE
from pipeline.orchestration.own_dvc import _is_news


def logged(error: DvcException, cause: Exception | None) -> logging.LogRecord:
    """What DVC logs when a command ends with this error."""
    error.__cause__ = cause
    return logging.LogRecord("dvc.cli", logging.ERROR, __file__, 1, "", None, (type(error), error, None))


def test_a_lock_that_another_dvc_holds_is_left_to_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    IN_USE.parent.mkdir(parents=True)
    locks, path = str(IN_USE.parent), str(tmp_path / "weights")
    failed = ReproductionError("failed to reproduce 'prepare'")
    with rwlock(locks, localfs, "dvc repro", [], [path], hardlink=False):
        with (
            pytest.raises(LockError) as busy,
            rwlock(locks, localfs, "second", [], [path], hardlink=False),
        ):
            pass
        assert not _is_news(logged(failed, busy.value)) and not _is_news(logged(busy.value, None))
        assert _is_news(logged(failed, ValueError("exited with 1")))
        assert _is_news(logging.LogRecord("dvc.cli", logging.ERROR, __file__, 1, "words", None, None))
    assert _is_news(logged(failed, busy.value))  # nobody is at work who could be named


def test_a_process_that_was_killed_while_it_held_a_file_is_not_spoken_of(tmp_path: Path) -> None:
    """DVC warns once for each of its files, and removes it from its list by itself."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    held = {"write": {str(tmp_path / "weights"): {"pid": 2**22 + 1, "cmd": "dvc repro"}}}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(held))
    call = (
        "from pipeline.orchestration import own_dvc; import dvc.cli, os\n"
        "from dvc.rwlock import rwlock; from dvc.fs import localfs\n"
        "def main():\n"
        " with rwlock('.dvc/tmp', localfs, 'dvc', [], [os.path.abspath('weights')], hardlink=False): print('held')\n"
        " return 0\n"
        "dvc.cli.main = main; own_dvc.main()"
    )
    done = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "held\n" and "killed" not in done.stderr
