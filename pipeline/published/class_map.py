"""The order of a net's outputs, from the WordNet ids in its file or from a class map that the user gives."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.experiment.params import Import
from pipeline.system.atomic_files import sha256

NONE = "-"  # marks an output that is none of the classes


def is_as_given(row: Import) -> bool:
    """Return True if the class map of a row of `imports` exists and is unchanged. DVC does not check it."""
    path = Path(row.class_map or "")
    recorded = row.class_map_sha256
    return row.class_map is None or (path.is_file() and (recorded is None or sha256(path) == recorded))


def read_map(path: Path, outputs: int) -> list[str]:
    """Return a word per output: a WordNet id, a class number or NONE. Raise Failure for wrong lines or line count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise Failure(f"the class map {path} cannot be read ({error})") from None
    words = [line.split(maxsplit=1)[0] if line.strip() else "" for line in lines]
    for number, word in enumerate(words, 1):
        if not (WNID.fullmatch(word) or (word.isdecimal() and word.isascii()) or word == NONE):
            content = f"{word!r:.40}" if word else "nothing"
            raise Failure(f"line {number} of the class map {path} has {content}: expected a WordNet id, a number or -")
    if len(words) != outputs:
        raise Failure(f"the class map {path} has {len(words)} lines, but the net has {outputs} outputs")
    return words


def class_order(words: list[str], origin: str) -> list[int]:
    """Return the outputs of class 0, 1, ... `words` are numbers, or WordNet ids, which are sorted as ILSVRC does.

    Raise Failure, naming the `origin` of the words, if a class is repeated or missing, or if ids and numbers are mixed.
    """
    outputs = {output: word for output, word in enumerate(words) if word != NONE}
    numbers = [word for word in outputs.values() if not WNID.fullmatch(word)]
    if numbers and len(numbers) < len(outputs):
        raise Failure(f"{origin} has both WordNet ids and numbers, such as {numbers[0]}")
    output_of = {int(word) if numbers else word: output for output, word in outputs.items()}
    if len(output_of) < len(outputs):
        used = list(outputs.values())
        twice = next(word for word in used if used.count(word) > 1) if len(set(used)) < len(used) else numbers[0]
        raise Failure(f"{origin} has the class {twice} twice")
    classes: list[int | str] = list(range(len(output_of))) if numbers else sorted(output_of, key=str)
    for label in classes:
        if label not in output_of:
            raise Failure(f"{origin} has no class {label}, but {len(output_of)} classes in total")
    if not classes:
        raise Failure(f"{origin} has no classes")
    return [output_of[label] for label in classes]
