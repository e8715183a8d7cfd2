"""What tests share: the repository's root, a variable, and a mark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DRAWN_CHARTS = "TEST_DRAWN_CHARTS"  # the environment variable that names the folder of charts that are drawn once
ROOT = Path(__file__).resolve().parents[2]
on_linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux (see tests/elsewhere)")
