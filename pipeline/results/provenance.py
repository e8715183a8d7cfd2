"""Where a number comes from: commit, versions and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.system.devices import CPUINFO

PACKAGES = ("torch", "nvidia-dali-cuda130", "numpy", "dvc")
TABLES = (":(glob)reports/*.py", "pipeline/experiment/printed")  # not reports/PROFILE, where results are written
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
    return _said("git", *words)


def _said(*words: str) -> str:
    """Return what a program prints, in English; nothing if it fails or is not there."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=20, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Return the CPU's name: the kernel's; where it has none, as on ARM, lscpu's; else ARM's numbers of it."""
    kernel = _fields(CPUINFO.read_text() if CPUINFO.exists() else "")
    if "model name" in kernel:
        return kernel["model name"]
    known = _fields(_said("lscpu"))
    if known.get("Model name", "-") != "-":
        return f"{known.get('Vendor ID', '')} {known['Model name']}".strip()
    if "CPU part" in kernel:
        return f"ARM implementer {kernel.get('CPU implementer', '?')} part {kernel['CPU part']}"
    return platform.processor() or platform.machine()


def _fields(text: str) -> dict[str, str]:
    """Return the values of lines "key: value", the first of each key."""
    pairs = [line.partition(":") for line in text.splitlines()]
    return {key.strip(): value.strip() for key, _, value in reversed(pairs)}
