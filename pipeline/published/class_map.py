"""The order of a net's outputs, from the WordNet ids in its file or from a class map that the user gives."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

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
    """Return a word per output: a WordNet id, a class number or NONE.

    Raise Failure if the file is neither lines nor JSON of such words, or has another number of them.
    """
    text = _text(path)
    as_json = text.lstrip().startswith(("[", "{"))
    words = _json_words(path, text) if as_json else _line_words(text)
    for place, word in enumerate(words):
        if not (WNID.fullmatch(word) or (word.isdecimal() and word.isascii()) or word == NONE):
            content = f"{word!r:.40}" if word else "nothing"
            where = f"output {place}" if as_json else f"line {place + 1}"
            raise Failure(f"{where} of the class map {path} has {content}: expected a WordNet id, a number or -")
    if len(words) != outputs:
        entries = "entries" if as_json else "lines"
        raise Failure(f"the class map {path} has {len(words)} {entries}, but the net has {outputs} outputs")
    return words


def _text(path: Path) -> str:
    """Return a text, in UTF-8 or in what its byte order mark says. Raise Failure if it is no text."""
    try:
        content = path.read_bytes()
        utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise Failure(f"the class map {path} cannot be read ({error})") from None


def _line_words(text: str) -> list[str]:
    """Return the first word of each line."""
    return [line.split(maxsplit=1)[0] if line.strip() else "" for line in text.splitlines()]


def _json_words(path: Path, text: str) -> list[str]:
    """Return the words of a JSON list, or of a dict from outputs to words or from words to outputs.

    A word may come with others in a list, as in Keras's imagenet_class_index.json. Raise Failure for any other JSON.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise Failure(f"the class map {path} is not valid JSON ({error})") from None
    if isinstance(values, list):
        return [_word(value) for value in values]
    pairs = {key: _word(value) for key, value in values.items()}
    keys_count, values_count = (all(map(str.isdecimal, words)) for words in (pairs, pairs.values()))
    if keys_count and values_count and any(key != value for key, value in pairs.items()):
        raise Failure(f"the class map {path} has numbers for numbers: use a list, with a class for each output")
    by_output = pairs if keys_count else {output: word for word, output in pairs.items()}
    places = [str(place) for place in range(len(pairs))]
    if missing := [place for place in places if place not in by_output]:
        raise Failure(f"the class map {path} has {len(pairs)} entries, but none for output {missing[0]}")
    return [by_output[place] for place in places]


def _word(value: Any) -> str:
    """Return an entry's first word: of a text, of a number, or of the first item of a list."""
    first = value[0] if isinstance(value, list) and value else value
    return next(iter(str(first).split()), "")


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
