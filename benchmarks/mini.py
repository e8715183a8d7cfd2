"""Times the complete mini reproduction in a fresh clone: wall, memory, `dvc repro` with nothing to do, stage overheads.

Run by `make bench`; prints Markdown for RESULTS.md. Needs nothing but the environment; takes about 15 minutes.
"""

from __future__ import annotations

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
TABLES = [*(f"table{number}" for number in range(1, 8)), "shallow"]
BIN = Path(sys.executable).parent
REPORT = [str(BIN / "vgg-repro"), "report", "--out", "reports/"]


def timed(words: list[str], folder: Path) -> float:
    """Seconds of wall that a command takes; CalledProcessError if it fails."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    started = time.monotonic()
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def repro(*targets: str) -> list[str]:
    """The command `dvc repro` on `targets`."""
    return [sys.executable, "-m", "dvc", "repro", *targets]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        whole = timed(repro(*TABLES), clone)
        pages = timed(REPORT, clone)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        nothing = [timed(repro(), clone) for _ in range(3)]
        results = [*(clone / "reports/mini/runs").glob("*.json"), *(clone / "reports/mini/scores").glob("*.json")]
        work = sum(json.loads(path.read_text())["provenance"]["seconds"] for path in results)
    imports = {
        name: statistics.median(timed([sys.executable, "-c", f"import {name}"], ROOT) for _ in range(3))
        for name in ("sys", "torch", "nvidia.dali", "pandas", "stages.train")
    }
    print("| what | seconds |\n|:--|--:|")
    print(f"| `dvc repro` of all tables, empty cache | {whole:.0f} |")
    print(f"| of it inside training and scoring stages | {work:.0f} |")
    print(f"| `vgg-repro report` | {pages:.1f} |")
    print(f"| `dvc repro`, nothing to do (median of 3) | {statistics.median(nothing):.1f} |")
    for name, seconds in imports.items():
        print(f"| Python and `import {name}` (median of 3) | {seconds:.2f} |")
    print(f"\nPeak memory of the largest process: {peak:.2f} GiB.")


if __name__ == "__main__":
    main()
