"""Copies of the shards on a node's own disk, made once per node and compared with the data set's index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.prepare import read_prepared
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION, SHARDS_ROOT
from pipeline.system.atomic_files import copy
from pipeline.system.locks import in_turn
from pipeline.system.progress import gigabytes

FOLDER = "vgg-repro-shards"
FACTS = "facts"  # of the data set
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
        missing = _missing(shared, target, splits)
        size = sum(path.stat().st_size for paths in missing.values() for path in paths)
        free = shutil.disk_usage(root).free
        if missing and size + SPARE > free:
            print(f"{root} has {gigabytes(free)} free, the shards need {gigabytes(size)}: reading {shared}", flush=True)
            return
        _copy(missing, target)
    os.environ[SHARDS_ROOT] = str(root)


def _missing(shared: Path, target: Path, splits: Iterable[str]) -> dict[str, list[Path]]:
    """Return the files that have no copy yet: the data set's facts, and by split its index and shards."""
    files = {FACTS: [shared / "facts.json"], **{split: sorted(shared.glob(f"{split}[.-]*")) for split in splits}}
    missing = {part: [path for path in files[part] if not _is_copied(path, target / path.name)] for part in files}
    return {part: paths for part, paths in missing.items() if paths}


def _is_copied(origin: Path, target: Path) -> bool:
    """Return True if the copy is there: it has its name only once it is complete."""
    return target.exists() and target.stat().st_size == origin.stat().st_size


def _copy(missing: Mapping[str, Sequence[Path]], target: Path) -> None:
    """Copy files, and compare every image of the splits that were copied with its hash in the index."""
    if not missing:
        return
    print(f"copying {sum(map(len, missing.values()))} files of the shards to {target}", flush=True)
    for part, paths in missing.items():
        for path in paths:
            copy(path, target / path.name)
        _compare(target, part)


def _compare(target: Path, part: str) -> None:
    """Read the copy of the facts or of a split. Remove all copies and raise Failure if it is not right."""
    try:
        read_prepared(target)
        if part != FACTS:
            images = Shards(target, part)
            for number in range(len(images)):
                images[number]  # reading it compares it
    except Failure:
        shutil.rmtree(target)
        raise
