"""What benchmarks of whole commands share: their time, CPU time and memory, and parameters for a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = str(Path(sys.executable).parent / "vgg-repro")
PREPARE = [PROGRAM, "prepare", "--direct"]


def measured(command: list[str]) -> tuple[float, int, float]:
    """The seconds that a command takes, the bytes of the largest of its processes, and the CPU seconds of all."""
    started = time.perf_counter()
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def own_params(path: str, processes: int) -> None:
    """The repository's profile `paper` for a copy of the images at `path`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["profile"] = "paper"
    values["profiles"]["paper"]["data"]["path"] = path
    values["profiles"]["paper"]["prepare"]["processes"] = processes
    Path("params.yaml").write_text(yaml.safe_dump(values))
