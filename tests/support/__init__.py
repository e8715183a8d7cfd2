"""What tests share; the repository's root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
on_linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux (see tests/elsewhere)")
