"""A stage finds the DVC above it, whoever stands between them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
