"""In which order a net's outputs stand: from the WordNet ids that its file has, or from a map that somebody gives."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.experiment.params import Import
from pipeline.system.atomic_files import sha256

NONE = "-"  # of an output that is none of the classes


def is_as_given(row: Import) -> bool:
    """Whether the class map of a row of `imports` is there and what it was; DVC does not look at it."""
    path = Path(row.class_map or "")
    known = row.class_map_sha256
    return row.class_map is None or (path.is_file() and (known is None or sha256(path) == known))


def read_map(path: Path, outputs: int) -> list[str]:
    """A word an output: a WordNet id, a class's number, or NONE. Failure if the lines are not as many, or no such."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise Failure(f"the class map {path} cannot be read ({error})") from None
    words = [line.split(maxsplit=1)[0] if line.strip() else "" for line in lines]
    for number, word in enumerate(words, 1):
        if not (WNID.fullmatch(word) or (word.isdecimal() and word.isascii()) or word == NONE):
            said = f"{word!r:.40}" if word else "nothing"
            raise Failure(f"line {number} of the class map {path} has {said}: a WordNet id, a number or - is wanted")
    if len(words) != outputs:
        raise Failure(f"the class map {path} has {len(words)} lines, and the net has {outputs} outputs")
    return words


def order(words: list[str], said_by: str) -> list[int]:
    """Which output is class 0, 1, ...: WordNet ids in their own order, as ILSVRC's classes are numbered, or numbers.

    Failure if a class comes twice or is missing, or if ids and numbers are mixed.
    """
    outputs = {output: word for output, word in enumerate(words) if word != NONE}
    numbers = [word for word in outputs.values() if not WNID.fullmatch(word)]
    if numbers and len(numbers) < len(outputs):
        raise Failure(f"{said_by} has both WordNet ids and numbers, such as {numbers[0]}")
    place = {int(word) if numbers else word: output for output, word in outputs.items()}
    if len(place) < len(outputs):
        known = list(outputs.values())
        twice = next(word for word in known if known.count(word) > 1) if len(set(known)) < len(known) else numbers[0]
        raise Failure(f"{said_by} has the class {twice} twice")
    classes: list[int | str] = list(range(len(place))) if numbers else sorted(place, key=str)
    for one in classes:
        if one not in place:
            raise Failure(f"{said_by} has no class {one}, and {len(place)} classes in all")
    if not classes:
        raise Failure(f"{said_by} has no class")
    return [place[one] for one in classes]
