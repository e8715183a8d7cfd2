"""Times the merging of boxes on random windows, and measures its memory, as it grows with the number of images.

A problem is one class of one image. The counts of windows are those of an image of aspect ratio 4/3 at the paper's
sizes with its flip: at Q = 256, at 384, at 352 and 384, and with the windows of another net at 256 added (Table 9).
Figures are CPU seconds of the process, so that other work on the machine matters less. Prints Markdown for RESULTS.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from vgg.draws import Floats  # noqa: E402
from vgg.merging import best_boxes  # noqa: E402

WINDOWS = {"256": 20, "384": 120, "352, 384": 210, "352, 384 and 256 of a second net": 230}
PROBLEMS = 250_000  # five classes of 50,000 images


def windows(problems: int, count: int) -> tuple[Floats, Floats]:
    """Return random boxes (problems, count, 4) around one object each, and scores (problems, count)."""
    random = np.random.default_rng(0)
    centre = random.uniform(100, 400, (problems, 1, 2)) + random.normal(0, 40, (problems, count, 2))
    half = random.uniform(40, 120, (problems, 1, 2)) * random.uniform(0.7, 1.3, (problems, count, 2))
    return np.concatenate([centre - half, centre + half], 2), random.random((problems, count))


def peak() -> float:
    """Return the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each number of windows and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--problems", type=int, default=1000)
    arguments.add_argument("--threshold", type=float, default=1.3)
    given = arguments.parse_args()
    print("| Q | windows | CPU ms a problem | CPU minutes for 50,000 images | memory of twice the problems, MB |")
    print("|:--|--:|--:|--:|--:|")
    for scales, count in WINDOWS.items():
        taken, grown = [], []
        for problems in (given.problems, 2 * given.problems):
            boxes, scores = windows(problems, count)
            before, started = peak(), time.process_time()
            best_boxes(boxes, scores, np.ones(scores.shape, bool), given.threshold)
            taken.append((time.process_time() - started) / problems)
            grown.append(peak() - before)
        cells = f"{1000 * min(taken):.2f} | {min(taken) * PROBLEMS / 60:.1f} | +{grown[1]:.0f}"
        print(f"| {scales} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
