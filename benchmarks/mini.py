"""Times the complete mini reproduction in a fresh clone: wall, memory, `dvc repro` with nothing to do, stage overheads.

Run by `make bench`; prints Markdown for RESULTS.md and takes about 10 minutes. `python benchmarks/mini.py FOLDER` keeps
the clone there; --serial takes plain `dvc repro` instead of two stages side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "vgg-repro")
DVC_REPRO = [sys.executable, "-m", "dvc", "repro"]


def timed(words: list[str], folder: Path) -> float:
    """Seconds of wall that a command takes with the code of `folder`; CalledProcessError if it fails."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    started = time.monotonic()
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def clone_into(folder: Path) -> Path:
    """A clone of the repository's last commit, without its results."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for path in [*(folder / "reports/mini").rglob("*.*"), folder / "dvc.lock"]:
        path.unlink(missing_ok=True)
    return folder


def measure(clone: Path, serial: bool) -> None:
    """Run everything in `clone` and print the figures."""
    whole = timed(DVC_REPRO if serial else [PROGRAM, "run", "--jobs", "2"], clone)
    pages = timed([PROGRAM, "report", "--out", "reports/"], clone)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    nothing = statistics.median(timed(DVC_REPRO, clone) for _ in range(3))
    results = [path for path in (clone / "provenance").glob("*.json") if "@" in path.name]
    work = [json.loads(path.read_text())["seconds"] for path in results]
    print("| what | seconds |\n|:--|--:|")
    print(f"| all tables, empty cache, {'`dvc repro`' if serial else '`vgg-repro run --jobs 2`'} | {whole:.0f} |")
    print(f"| CPU seconds of it | {used.ru_utime + used.ru_stime:.0f} |")
    print(f"| inside its {len(work)} training and scoring stages, added up | {sum(work):.0f} |")
    print(f"| `vgg-repro report` | {pages:.1f} |")
    print(f"| `dvc repro`, nothing to do (median of 3) | {nothing:.1f} |")
    for name in ("sys", "dvc.repo", "nvidia.dali", "torch", "stages.train", "reports.pages"):
        seconds = statistics.median(timed([sys.executable, "-c", f"import {name}"], clone) for _ in range(3))
        print(f"| Python and `import {name}` (median of 3) | {seconds:.2f} |")
    print(f"\nPeak memory of the largest process: {used.ru_maxrss / 2**20:.2f} GiB.")


def main() -> None:
    """Measure in a folder that is kept, or in one that is not."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--serial", action="store_true")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        measure(clone_into(given.folder or Path(place) / "clone"), given.serial)


if __name__ == "__main__":
    main()
