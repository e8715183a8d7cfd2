"""What lies in a folder of results, as hashes that two runs may be compared by."""

from __future__ import annotations

import csv
import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path

from pipeline.datasets.shards import read_part
from pipeline.system.atomic_files import sha256

SPEEDS = {"images_per_second", "waited"}


def tree(folder: Path) -> dict[str, str]:
    """What lies in `folder`, a hash a file; without locks, and without times, rates and where results come from."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not fnmatch(path.name, "*lock"))
    return {str(path.relative_to(folder)): content(path) for path in files}


def content(path: Path) -> str:
    """A hash of what is in a file, times, rates and where results come from aside."""
    if path.parent.name == "runs" and path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and all(row.keys() > SPEEDS for row in rows), path
        text = json.dumps([{key: value for key, value in row.items() if key not in SPEEDS} for row in rows])
    elif "reports" in path.parts and path.suffix == ".json":
        values = json.loads(path.read_text())
        values.pop("provenance", None)
        text = json.dumps(values)
    else:
        return sha256(path)
    return hashlib.sha256(text.encode()).hexdigest()


def whole_shards(folder: Path) -> dict[str, int]:
    """The shards under `folder` that are whole, in a data set or on the way to one: each one's time of writing."""
    shards = {}
    for path in sorted(folder.glob("data/shards/*/*.bin")):
        split, number = path.stem.split("-")
        if path.parent.suffix != ".partial" or read_part(path.parent, split, int(number)) is not None:
            shards[path.name] = path.stat().st_mtime_ns
    return shards
