"""Where a number comes from: commit, versions and machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "nvidia-dali-cuda130", "numpy", "dvc")
TABLES = (":(glob)reports/*.py", "reports/printed")  # not reports/PROFILE, where results are written
CODE = ("vgg", "pipeline", "stages", *TABLES, "params.yaml")  # what numbers depend on


def provenance(device: str, threads: int, seconds: float, processes: int = 1) -> dict[str, Any]:
    """Commit, versions, machine and the time taken, as plain values."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{_processor()}, {platform.system()} {platform.machine()}",
        "device": device,
        "threads": threads,
        "processes": processes,
        "seconds": round(seconds, 1),
    }


def commit() -> str:
    """The commit of the code, with a plus behind it where what numbers depend on has since been changed."""
    found = _git("rev-parse", "--short=12", "HEAD")
    if not found:
        return "unknown"
    return found + ("+" if _git("status", "--porcelain", "--", *CODE) else "")


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
