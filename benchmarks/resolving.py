"""Checks that the pinned versions exist for each platform, Python and CUDA, by `uv pip compile`; installs nothing.

Needs uv and a package index. A wheel must exist for every package, except for those that are published only as source.
That a package can be installed does not say that the program runs there. Prints Markdown for docs/install.md; the exit
code is 1 if a combination that docs/install.md promises does not resolve. Minutes, by the speed of the index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PATIENCE = 120  # seconds for a combination
SOURCE_ONLY = "antlr4-python3-runtime"  # of DVC's; pure Python


class Platform(NamedTuple):
    """A system by its name for people and for uv, and the values of make's CUDA that are promised for it."""

    name: str
    target: str
    cudas: tuple[str, ...]
    promised: bool = True


PLATFORMS = (
    Platform("Linux x86_64", "x86_64-manylinux_2_28", ("13", "12", "none")),
    Platform("Linux aarch64", "aarch64-manylinux_2_28", ("13", "12", "none")),
    Platform("macOS arm64", "aarch64-apple-darwin", ("none",)),
    Platform("macOS x86_64", "x86_64-apple-darwin", ("none",), promised=False),
    Platform("Windows x86_64", "x86_64-pc-windows-msvc", ("none",), promised=False),
)


def main() -> int:
    """Print a row per platform and CUDA, and return 1 if a promised combination does not resolve."""
    broken = False
    print(f"| platform | CUDA | {' | '.join(f'Python {python}' for python in PYTHONS)} |")
    print(f"|:--|:--|{':--|' * len(PYTHONS)}")
    for platform in PLATFORMS:
        for cuda in platform.cudas:
            answers = [resolved(platform.target, cuda, python) for python in PYTHONS]
            print(f"| {platform.name} | {cuda} | {' | '.join(answers)} |", flush=True)
            broken |= platform.promised and not all(answer.endswith("packages") for answer in answers)
    return int(broken)


def resolved(target: str, cuda: str, python: str) -> str:
    """Return how many packages a combination needs, or the first package that it lacks."""
    extras = ["dev"] if cuda == "none" else ["dev", f"cuda{cuda}"]
    constraints = ROOT / f"constraints{'-cuda12' if cuda == '12' else ''}.txt"
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-platform", target]
    command += ["--python-version", python, "--only-binary", ":all:", "--no-binary", SOURCE_ONLY]
    command += ["--constraint", str(constraints), *(f"--extra={extra}" for extra in extras), "pyproject.toml"]
    mac = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the oldest that torch's wheels are for
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=mac, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} s"
    if done.returncode == 0:
        return f"{len(done.stdout.splitlines())} packages"
    missing = re.search(r"([\w.-]+)==([\w.+-]+) has no wheels", " ".join(done.stderr.split()))
    return f"no: {missing[1]} {missing[2]}" if missing else "no"


if __name__ == "__main__":
    sys.exit(main())
