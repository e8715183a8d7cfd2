"""Prepares the same photographs from several copies of ILSVRC-2012: the published archives, tar.gz, parquet and others.

The stand-ins have JPEGs of 500 x 375. Each copy is prepared by a `vgg-repro prepare` of its own, from an empty folder,
with profile `paper`. Memory is that of the largest process. Prints Markdown for RESULTS.md. About five minutes.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.measuring import PREPARE, measured, own_params  # noqa: E402
from tests.support import ilsvrc_copies as copies  # noqa: E402
from tests.support.ilsvrc_files import DEVKIT, TRAIN, VAL, IlsvrcImage, StandIn  # noqa: E402
from tests.support.images import jpeg, photograph  # noqa: E402

CLASSES, DISTINCT = 10, 200  # of which the other photographs are copies
HEIGHT, WIDTH = 375, 500
COPIES: dict[str, copies.Copy] = {
    "the published archives": lambda made, root: made.archives(root, [TRAIN, VAL, DEVKIT]),
    "a tree": functools.partial(StandIn.tree, boxes=False),
    "Kaggle's zip": copies.kaggle_zip,
    "Hugging Face's tar.gz": copies.hugging_tars,
    "Hugging Face's parquet": copies.hugging_parquet,
    "WebDataset's tars": copies.web_tars,
}


def main() -> None:
    """Measure each copy and print a row of it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=8192)
    arguments.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--write", choices=COPIES, help="only write this copy to the folder `copy`")
    given = arguments.parse_args()
    if given.write:
        COPIES[given.write](stand_in(given.images), Path("copy"))
        return
    print(f"{given.images:,} JPEGs of {WIDTH} x {HEIGHT} for training; {given.processes} processes.\n")
    print("| copy | s | images/s | images per CPU-second | largest process, MB |\n|:--|--:|--:|--:|--:|")
    for name in COPIES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            # in another process, because a process's memory is counted from that of the one that starts it
            measured([sys.executable, __file__, "--images", str(given.images), "--write", name])
            own_params("copy", given.processes)
            seconds, memory, cpu = measured(PREPARE)
            total = given.images + given.images // 10
            rates = f"{total / seconds:,.0f} | {total / cpu:,.0f}"
            print(f"| {name} | {seconds:.1f} | {rates} | {memory / 1e6:.0f} |", flush=True)
            os.chdir(ROOT)


def stand_in(images: int) -> StandIn:
    """Photographs in equal classes, a tenth as many for validation."""
    random = np.random.default_rng(0)
    encoded = [jpeg(photograph(random, HEIGHT, WIDTH)) for _ in range(DISTINCT)]
    wnids = [f"n{1_000_000 + number:08d}" for number in range(CLASSES)]

    def one(id: str, number: int) -> IlsvrcImage:
        return IlsvrcImage(id, number % CLASSES, encoded[number % DISTINCT], (WIDTH, HEIGHT), None, "plain")

    train = [one(f"{wnids[number % CLASSES]}_{number}", number) for number in range(images)]
    train.sort(key=lambda image: (image.label, image.id))
    val = [one(f"ILSVRC2012_val_{number + 1:08d}", number) for number in range(images // 10)]
    ids = {wnid: number + 1 for number, wnid in enumerate(wnids)}
    return StandIn(random, wnids, {wnid: wnid for wnid in wnids}, ids, train, val)


if __name__ == "__main__":
    main()
