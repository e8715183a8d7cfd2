"""What several tests of reports share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reports.charts import Chart
from tests.support import ROOT
from tests.support.drawn_charts import DRAW


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing but the committed JSON, CSV and arrays of the mini profile."""
    shutil.copytree(ROOT / "reports/mini", tmp_path / "reports/mini", ignore=shutil.ignore_patterns("*.md", "*.png"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw every chart of this test, also those that the run of tests has drawn already."""
    monkeypatch.setattr(Chart, "draw", DRAW)
