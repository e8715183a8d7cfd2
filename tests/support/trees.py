"""What lies in a folder of results, as hashes that two runs may be compared by."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from pipeline.datasets.shards import read_part
from pipeline.system.atomic_files import sha256

PROVENANCE = "provenance"


def tree(folder: Path) -> dict[str, str]:
    """What lies in `folder`, a hash a file; without locks, and without where and when results were made."""
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (path for path in files if not fnmatch(path.name, "*lock") and PROVENANCE not in path.parts)
    return {str(path): sha256(folder / path) for path in kept}


def whole_shards(folder: Path) -> dict[str, int]:
    """The shards under `folder` that are whole, in a data set or on the way to one: each one's time of writing."""
    shards = {}
    for path in sorted(folder.glob("data/shards/*/*.bin")):
        split, number = path.stem.split("-")
        if path.parent.suffix != ".partial" or read_part(path.parent, split, int(number)) is not None:
            shards[path.name] = path.stat().st_mtime_ns
    return shards
