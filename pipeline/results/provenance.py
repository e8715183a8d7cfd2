"""The provenance of a number: commit, versions and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.system.devices import CPUINFO

PACKAGES = ("torch", "nvidia-dali-cuda130", "numpy", "dvc")
TABLES = (":(glob)reports/*.py", "pipeline/experiment/printed")  # not reports/PROFILE, which holds results
CODE = ("vgg", "pipeline", "stages", *TABLES, "params.yaml")  # the files that numbers depend on


def provenance(device: str, threads: int, seconds: float, processes: int = 1) -> dict[str, Any]:
    """Return the commit, the versions, the machine and the time taken, as plain values."""
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
    """Return the commit of the code, followed by a plus if files that numbers depend on have been changed since."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain", "--", *CODE) else "")


def _git(*words: str) -> str:
    return _output("git", *words)


def _output(*words: str) -> str:
    """Return the English output of a program, or an empty string if it fails or does not exist."""
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
    """Return the CPU's name from the kernel. If the kernel has none (ARM), ask lscpu, then use ARM's part numbers."""
    kernel = _fields(CPUINFO.read_text() if CPUINFO.exists() else "")
    if "model name" in kernel:
        return kernel["model name"]
    lscpu = _fields(_output("lscpu"))
    if lscpu.get("Model name", "-") != "-":
        return f"{lscpu.get('Vendor ID', '')} {lscpu['Model name']}".strip()
    if "CPU part" in kernel:
        return f"ARM implementer {kernel.get('CPU implementer', '?')} part {kernel['CPU part']}"
    return platform.processor() or platform.machine()


def _fields(text: str) -> dict[str, str]:
    """Return the values of lines "key: value". The first line of each key counts."""
    pairs = [line.partition(":") for line in text.splitlines()]
    return {key.strip(): value.strip() for key, _, value in reversed(pairs)}
