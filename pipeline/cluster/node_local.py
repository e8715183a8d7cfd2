"""Copies of the shards on a node's own disk, made once per node and compared with the data set's index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.datasets.prepare import read_prepared
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.system.atomic_files import copy
from pipeline.system.locks import in_turn
from pipeline.system.progress import gigabytes

FOLDER = "vgg-repro-shards"
SHARED = "VGG_REPRO_SHARDS"
SPARE = 1 << 30  # bytes of the disk that are left free


def copied_shards(local: Path, splits: Iterable[str]) -> None:
    """Copy the shards of these splits below `local`, and have this process and its children read them there.

    One process of a node copies, while the others wait. If the disk has no room, the shared shards are used. Raise
    Failure if a copy differs from what the data set's index says.
    """
    shared, root = CLASSIFICATION.shards, local / FOLDER
    target = root / shared.name
    target.mkdir(parents=True, exist_ok=True)
    with in_turn(root):
        missing = [path for path in _files(shared, splits) if not _is_copied(path, target / path.name)]
        size = sum(path.stat().st_size for path in missing)
        free = shutil.disk_usage(root).free
        if size + SPARE > free:
            print(f"{root} has {gigabytes(free)} free, the shards need {gigabytes(size)}: reading {shared}", flush=True)
            return
        _copy(missing, target, splits)
    os.environ[SHARED] = str(root)


def _files(shared: Path, splits: Iterable[str]) -> list[Path]:
    """Return the files of the data set that the work reads: its facts, and the index and the shards of each split."""
    return [shared / "facts.json", *(path for split in splits for path in sorted(shared.glob(f"{split}[.-]*")))]


def _is_copied(origin: Path, target: Path) -> bool:
    """Return True if the copy is there: it has its name only once it is complete."""
    return target.exists() and target.stat().st_size == origin.stat().st_size


def _copy(missing: list[Path], target: Path, splits: Iterable[str]) -> None:
    """Copy files, and compare every image of what was copied with its hash in the index."""
    if not missing:
        return
    print(f"copying {len(missing)} files of the shards to {target}", flush=True)
    for path in missing:
        copy(path, target / path.name)
    try:
        read_prepared(target)
        for split in splits:
            images = Shards(target, split)
            for number in range(len(images)):
                images[number]  # reading it compares it
    except Failure:
        shutil.rmtree(target)
        raise
