"""A folder in which jobs count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.counting_clone import CountingClone
from tests.support.slurm import Slurm


@pytest.fixture
def clone(slurm: Slurm, tmp_path: Path) -> Iterator[CountingClone]:
    """A folder in which jobs count."""
    folder = tmp_path / "clone"
    folder.mkdir()
    made = CountingClone(folder, slurm)
    yield made
    made.clear()
