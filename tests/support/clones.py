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
from typing import NamedTuple

import psutil
import yaml

from tests.support import ROOT, forks


def call(folder: Path, *words: str, **variables: str) -> str:
    """Run a command, with more environment variables, and return what it prints; its failure is the test's."""
    surroundings = {**environment(), **variables}
    if words[0] in ("dvc", "vgg-repro"):
        code, output = forks.call(folder, words, surroundings)
    else:
        done = subprocess.run(words, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
        code, output = done.returncode, done.stdout + done.stderr
    assert code == 0, output
    return output


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on by itself."""
    return subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """Return the environment of a command in a clone."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def executed(output: str) -> set[str]:
    """The stages that DVC ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def at_work(folder: Path) -> list[int]:
    """The processes whose current folder is `folder`."""
    return [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder.resolve())]


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Until `condition` is true; a failure if that takes too long."""
    end = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < end, "it takes too long; a slow machine may need TEST_PATIENCE=10"
        time.sleep(0.02)


def patience(seconds: float) -> float:
    """Return a time limit of so many seconds for this machine: TEST_PATIENCE=10 makes all of them ten times as long."""
    return float(os.environ.get("TEST_PATIENCE", 1)) * seconds


HELD = """#!{python}
import os, time
from pathlib import Path
from cli.main import main
rename, names = os.replace, []

def replace(source, target):
    names.append(Path(target).name)
    if {moment}:
        Path("held").touch()
        while Path("held").exists():
            time.sleep(0.01)
    rename(source, target)

os.replace = replace
if __name__ == "__main__":
    main()
"""


def held(folder: Path, moment: str) -> Path:
    """Write a `vgg-repro` that waits before it puts a file in its place, as long as there is a file `held`.

    `moment` says when: an expression of the `names` of such files so far, this one's the last.
    """
    program = folder / "vgg-repro"
    program.write_text(HELD.format(python=sys.executable, moment=moment))
    program.chmod(0o755)
    return program


TABLES = (*(f"table{number}" for number in range(1, 8)), "shallow")


def copied(folder: Path, path: Path) -> Path:
    """Copy a clone, with DVC's cache and its hard links; return the copy."""
    call(folder, "cp", "--archive", "--reflink=auto", str(folder), str(path))
    return path


class Reproduction(NamedTuple):
    """A finished reproduction: a clone, and what DVC said as it made all tables in one go."""

    folder: Path
    said: str

    def copy(self, path: Path) -> Path:
        """Copy the clone; return the copy."""
        return copied(self.folder, path)


def reproduce(folder: Path) -> Reproduction:
    """Make all tables in a tiny clone, or return what an earlier call has made."""
    log = folder.with_suffix(".log")
    if not log.exists():
        shutil.rmtree(folder, ignore_errors=True)
        log.write_text(call(tiny_clone(folder), "dvc", "repro", *TABLES))
    return Reproduction(folder, log.read_text())


def tiny_clone(folder: Path, *others: str) -> Path:
    """Make a clone with what is not committed yet, no results, 40 images a split and an epoch a run.

    Its params.yaml, which DVC reads many times, has the profile mini and the `others`.
    """
    call(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    for path in call(ROOT, "git", "diff", "--name-only", "HEAD").split():
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)
    call(folder, "git", "rm", "-r", "--quiet", "--cached", "reports/mini", "dvc.lock")
    call(folder, "rm", "-rf", "reports/mini", "dvc.lock")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["profiles"] = {name: params["profiles"][name] for name in ("mini", *others)}
    mini = params["profiles"]["mini"]
    mini["data"]["limit"] = 40
    mini["train"]["batch"] = 8
    mini["prepare"]["processes"] = 1
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/32", "fc": 16}
    for recipe in mini["recipes"].values():
        recipe |= {"epochs": 1, "first_drop": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder
