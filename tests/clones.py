"""Clones of the repository as it stands, for tests of the whole through DVC: tiny nets, an epoch a run, no results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml
from pictures import ROOT


def call(folder: Path, *words: str) -> str:
    """What a command prints; its failure is the test's."""
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on by itself."""
    return subprocess.Popen(words, cwd=folder, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def executed(output: str) -> set[str]:
    """The stages that DVC ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def at_work(folder: Path) -> list[int]:
    """The processes whose current folder is `folder`."""
    return [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder.resolve())]


def wait_for(found: Callable[[], object], seconds: float) -> None:
    """Until `found` is true; a failure if that takes too long."""
    end = time.monotonic() + patience(seconds)
    while not found():
        assert time.monotonic() < end, "it takes too long; a slow machine may need TEST_PATIENCE=10"
        time.sleep(0.02)


def patience(seconds: float) -> float:
    """Return a time limit of so many seconds for this machine: TEST_PATIENCE=10 makes all of them ten times as long."""
    return float(os.environ.get("TEST_PATIENCE", 1)) * seconds


def tiny_clone(folder: Path) -> Path:
    """A clone with what is not committed yet, no results, 40 images a split and an epoch a run."""
    call(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    for path in call(ROOT, "git", "diff", "--name-only", "HEAD").split():
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    call(folder, "git", "rm", "-r", "--quiet", "--cached", "reports/mini", "dvc.lock")
    call(folder, "rm", "-rf", "reports/mini", "dvc.lock")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    mini = params["profiles"]["mini"]
    mini["data"]["limit"] = 40
    mini["train"]["batch"] = 8
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/32", "fc": 16}
    for recipe in mini["recipes"].values():
        recipe |= {"epochs": 1, "first_drop": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder
