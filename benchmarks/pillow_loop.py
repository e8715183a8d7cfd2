"""What a person would write instead of `vgg-repro prepare`: a loop of Pillow's over a folder, in several processes.

`python benchmarks/pillow_loop.py FOLDER OUT PROCESSES`: read, hash, decode, make smaller, measure colours, write.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.colour_stats import moments

LARGEST = 512


def one_part(files: Sequence[Path], out: Path) -> tuple[list[str], np.ndarray]:
    """One process's share."""
    hashes, total = [], np.zeros((3, 3))
    with out.open("wb") as file:
        for path in files:
            encoded = path.read_bytes()
            hashes.append(hashlib.sha256(encoded).hexdigest())
            with Image.open(io.BytesIO(encoded)) as opened:
                picture = opened.convert("RGB")
            if min(picture.size) > LARGEST:
                ratio = LARGEST / min(picture.size)
                width, height = (round(side * ratio) for side in picture.size)
                picture = picture.resize((width, height), Image.Resampling.BILINEAR)
                buffer = io.BytesIO()
                picture.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
                encoded = buffer.getvalue()
            total += moments(np.asarray(picture))[1]
            hashes.append(hashlib.sha256(encoded).hexdigest())
            file.write(encoded)
        file.flush()
        os.fsync(file.fileno())
    return hashes, total


def main(folder: Path, out: Path, processes: int) -> None:
    """Share the folder's JPEGs among the processes."""
    files = sorted(folder.rglob("*.jpg"))
    parts = [files[first::processes] for first in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(one_part, parts, [out.with_suffix(f".{number}") for number in range(processes)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
