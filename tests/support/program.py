"""The program in the process of the tests, and how it ended."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import main


class Outcome(NamedTuple):
    """How the program ended."""

    code: int
    out: str
    error: str


def program(folder: Path, *words: str) -> Outcome:
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
    return Outcome(code, out.getvalue(), error.getvalue())
