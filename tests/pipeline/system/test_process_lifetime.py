"""A stage finds the DVC above it, whoever stands between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system.process_lifetime import end_with_parent
from tests.support import ROOT

ASK = "from pipeline.system.process_lifetime import _dvc_above; print(_dvc_above())"


@pytest.mark.parametrize(("name", "is_dvc"), [("dvc", True), ("dvc-like", False)])
def test_the_dvc_above_is_found(tmp_path: Path, name: str, is_dvc: bool) -> None:
    program = tmp_path / name  # as DVC: a Python program that starts a shell
    program.write_text(
        f"import os, subprocess\nprint(os.getpid(), flush=True)\n"
        f"subprocess.run(['sh', '-c', '{sys.executable} -c \"{ASK}\"; true'], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    own, found = done.stdout.split()
    assert found == (own if is_dvc else "None")


def test_where_the_kernel_cannot_end_it_with_its_parent_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("there is no prctl"))
    end_with_parent(signal.SIGTERM)
