"""The published files that are listed by hash, each with the source of its list."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("known_files.csv")
BLOCK = 2**20  # bytes read at a time
PYTORCHS = re.compile(r"-([0-9a-f]{8,})\.pth$")  # PyTorch's file names end with the first digits of their SHA-256


class KnownFile(NamedTuple):
    """A published file, identified by its hash."""

    algorithm: str
    hash: str  # the whole hash or its first digits
    net: str
    what: str
    source: str  # of the entry


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 and SHA-1 of a net's file, or of its shards one after another, from a single read."""
    digests = {"sha256": hashlib.sha256(), "sha1": hashlib.sha1(usedforsecurity=False)}
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                for digest in digests.values():
                    digest.update(block)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def recognised(digests: dict[str, str]) -> KnownFile | None:
    """Return the listed file with these hashes, or None."""
    return next((known for known in all_known() if digests[known.algorithm].startswith(known.hash)), None)


def all_known() -> Iterator[KnownFile]:
    """Yield all listed files: those of known_files.csv, and torchvision's own."""
    with LIST.open(newline="") as file:
        yield from (KnownFile(**row) for row in csv.DictReader(file))
    yield from _torchvisions()


def _torchvisions() -> Iterator[KnownFile]:
    """Yield the files on torchvision's list; none, after a warning, if torchvision cannot be imported."""
    try:
        from torchvision.models import get_model_weights
    except (ImportError, OSError, RuntimeError) as error:  # not installed, or built for another torch
        print(f"warning: torchvision's own files are not recognised, because it cannot be imported: {error}")
        return
    for net, model in (("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")):
        for weights in get_model_weights(model):
            name = weights.url.rpartition("/")[2]
            if digits := PYTORCHS.search(name):
                yield KnownFile("sha256", digits[1], net, f"torchvision's {name}", "torchvision's list of its weights")
