"""Published files by their hashes: those that somebody has listed, each with where the list is."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("known_files.csv")
BLOCK = 2**20  # bytes read at a time
PYTORCHS = re.compile(r"-([0-9a-f]{8,})\.pth$")  # PyTorch's file names end in the first digits of their SHA-256


class Known(NamedTuple):
    """A published file."""

    algorithm: str
    hash: str  # or its first digits
    net: str
    what: str
    source: str  # who says so


def hashes(file: Path) -> dict[str, str]:
    """A file's SHA-256 and SHA-1, in one reading."""
    found = {"sha256": hashlib.sha256(), "sha1": hashlib.sha1(usedforsecurity=False)}
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            for one in found.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in found.items()}


def recognised(found: dict[str, str]) -> Known | None:
    """The published file that has these hashes, if somebody lists it."""
    return next((one for one in all_known() if found[one.algorithm].startswith(one.hash)), None)


def all_known() -> Iterator[Known]:
    """All that are listed: those of known_files.csv, and torchvision's own."""
    with LIST.open(newline="") as file:
        yield from (Known(**row) for row in csv.DictReader(file))
    yield from _torchvisions()


def _torchvisions() -> Iterator[Known]:
    from torchvision.models import get_model_weights

    for net, model in (("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")):
        for weights in get_model_weights(model):
            name = weights.url.rpartition("/")[2]
            if digits := PYTORCHS.search(name):
                yield Known("sha256", digits[1], net, f"torchvision's {name}", "torchvision's list of its weights")
