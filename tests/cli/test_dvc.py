"""Tests of DVC as our own commands run it: what it no longer says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from dvc.exceptions import DvcException, ReproductionError
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.rwlock import rwlock

from cli.dvc import _is_news
from pipeline.orchestration.dvc_graph import IN_USE


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
