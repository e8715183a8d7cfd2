"""Prepares 1,000, 10,000 and 100,000 small images from stand-ins of ILSVRC-2012's archives: time, memory, disk.

Each size is prepared by a `vgg-repro prepare` of its own, from empty folders, and then once more with nothing to do.
Memory is that of the largest process. Prints Markdown for RESULTS.md and docs/scale.md. About three minutes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.measuring import PREPARE, measured, own_params  # noqa: E402
from tests.support.images import jpeg, photograph  # noqa: E402

SIZES = (1_000, 10_000, 100_000)
CLASSES, VAL = 10, 100
SIDE, DISTINCT = 64, 200  # pixels; different photographs, of which the others are copies
LIST = (
    "from pathlib import Path; from pipeline.datasets.sources.ilsvrc import Ilsvrc; "
    "Ilsvrc(Path('archives'), None).listing()"
)
START = (
    "from pipeline.datasets.sources import ilsvrc; from pipeline.datasets.sources.ilsvrc import devkit; import scipy.io"
)


def main() -> None:
    """Measure each size and print a row of it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, nargs="+", default=SIZES)
    arguments.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = arguments.parse_args()
    random = np.random.default_rng(0)
    encoded = [jpeg(photograph(random, SIDE, SIDE)) for _ in range(DISTINCT)]
    print(
        f"JPEGs of {SIDE} x {SIDE}, {np.mean([len(one) for one in encoded]):.0f} bytes; {given.processes} processes.\n"
    )
    print("| images | listing, s | prepare, s | images/s | largest process, MB | manifest and index, bytes an image | "
          "nothing to do, s |\n|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    for images in given.images:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            make_archives(Path("archives"), encoded, images)
            own_params("archives", given.processes)
            print_row(images)


def print_row(images: int) -> None:
    """Measure in the working folder."""
    start = measured([sys.executable, "-c", START])[0]
    listing = measured([sys.executable, "-c", LIST])[0]
    seconds, memory, _ = measured(PREPARE)
    again = measured(PREPARE)[0]
    (folder,) = (path for path in Path("data/shards").iterdir() if path.is_dir())
    described = sum(path.stat().st_size for path in (*folder.glob("*.npz"), folder / "manifest.csv"))
    total = images + VAL
    print(f"| {images:,} | {listing - start:.1f} | {seconds:.1f} | {total / seconds:,.0f} | {memory / 1e6:.0f} | "
          f"{described / total:.0f} | {again:.1f} |", flush=True)  # fmt: skip


def make_archives(root: Path, encoded: list[bytes], images: int) -> None:
    """Write the four archives, `images` for training in equal classes."""
    root.mkdir()
    wnids = [f"n{i:08d}" for i in range(1, CLASSES + 1)]
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as outer:
        for number, wnid in enumerate(wnids):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(images // CLASSES):
                    put(tar, f"{wnid}_{i}.JPEG", encoded[(i + number) % DISTINCT])
            put(outer, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(VAL):
            put(tar, f"ILSVRC2012_val_{i + 1:08d}.JPEG", encoded[i % DISTINCT])
    with gzip.open(root / "ILSVRC2012_devkit_t12.tar.gz", "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        fields = ("ILSVRC2012_ID", "WNID", "words", "num_children", "num_train_images")
        synsets = np.zeros(CLASSES, [(name, object) for name in fields])
        for i, wnid in enumerate(wnids):
            synsets[i] = (i + 1, wnid, wnid, 0, images // CLASSES)
        meta = io.BytesIO()
        savemat(meta, {"synsets": synsets})
        put(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        truth = "".join(f"{i % CLASSES + 1}\n" for i in range(VAL)).encode()
        put(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth)


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
