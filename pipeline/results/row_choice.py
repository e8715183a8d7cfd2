"""Choose a table's row by a person's words: net, S, Q, method, entry, run or seed, in any order and case."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain, combinations
from typing import Any

from pipeline.errors import UsageError
from pipeline.experiment.claims import JITTER
from pipeline.experiment.other_sets import PROTOCOLS
from pipeline.experiment.paper_tables import METHODS, TITLES

CROPS = list(METHODS)[1]  # as printed
SYNONYMS = {"jitter": JITTER, "jittered": JITTER, "crops": CROPS, "multicrop": CROPS}
SYNONYMS |= {source: protocol.title.casefold() for source, protocol in PROTOCOLS.items()}  # data sets
NET = re.compile(r"\bnet-([a-e])\b")  # as Tables 11 and 12 have it
RANGE = re.compile(r"\[\s*(\d+)\s*[-–,;]\s*(\d+)\s*\]|(\d+)\s*(?:–|;|\.\.)\s*(\d+)")
SEED = re.compile(r"(?:^|[\s-])seed[\s=]*(\d+)\b", re.IGNORECASE)
COLUMN = re.compile(r"\b([sq])[\s=]+(?=\d)", re.IGNORECASE)  # S 256, as the rows' names have it
BETWEEN = re.compile(r"[\s,;&+()\[\]]+")
EXACT, SECOND, WORD, PART = 8, 4, 2, 1  # how well a word fits: a whole column, column Q, a word, a part of a word
SCALES = ("S", "Q")
NEAREST = 3  # rows that are named if no row fits


@dataclass(frozen=True)
class RowName:
    """A row of a table, of the seed of the tables or of a further one."""

    label: Mapping[str, str]  # as in the table
    runs: tuple[str, ...]  # of the grid
    seed: int | None = None  # a further seed

    @classmethod
    def of(cls, row: Mapping[str, Any], seed: int | None = None) -> RowName:
        """Return the name of a row of a table's values."""
        return cls(row["label"], tuple(row["runs"]), seed)

    @property
    def key(self) -> str:
        """Return the row's name in its table, with a further seed: D, 256, 256, seed 13."""
        return self._with_seed(self.label.values())

    @property
    def name(self) -> str:
        """Return the row's name for people, with what its scales are: D, S 256, Q 224 256 288."""
        return self._with_seed(f"{key} {text}" if key in SCALES else text for key, text in self.label.items())

    def _with_seed(self, texts: Iterable[str]) -> str:
        return ", ".join([*texts, *([] if self.seed is None else [f"seed {self.seed}"])])


def row_names(table: Mapping[str, Any], seeds: Mapping[str, Any]) -> list[RowName]:
    """Return the rows of a table's values, then those of the further seeds in the values of `seeds`."""
    own = [RowName.of(row) for row in table["rows"]]
    further = [
        RowName.of(row, seed)
        for row in seeds.get("rows", ())
        if row["table"] == table["table"]
        for seed in seeds["seeds"][1:]
    ]
    return own + further


def is_ours(row: RowName) -> bool:
    """Return True for a row of Table 11 or 12 that is of the paper's own nets."""
    return row.label["method"].startswith("VGG")


def choose(words: Sequence[str], rows: Sequence[RowName], first_seed: int | None) -> list[RowName]:
    """Return the rows that all words fit, and of these the ones that they fit best; none if a word fits no row.

    Without a seed among the words, only rows of the tables' seed are chosen; `first_seed` is its number.
    """
    seed, asked = _seed_and_words(words)
    seed = None if seed == first_seed else seed
    fits = [(row, [_fit(word, row) for word in asked]) for row in rows if row.seed == seed]
    fitting = [(row, sum(marks)) for row, marks in fits if all(marks)]
    best = max((mark for _, mark in fitting), default=0)
    return [row for row, mark in fitting if mark == best]


def chosen(words: Sequence[str], rows: Sequence[RowName], first_seed: int | None, table: str, command: str) -> RowName:
    """Return the one row that the words choose.

    Raise UsageError if they choose several or none: it names these rows or the nearest, each with the words that
    choose it. `table` is the table's name in the message, `command` stands before the words.
    """
    found = choose(words, rows, first_seed)
    if len(found) == 1:
        return found[0]
    said = " ".join(words)
    if found:
        head = f"{len(found)} rows of {table} fit: {said}" if said else f"{table} has {len(found)} rows"
        raise UsageError(f"{head}. To choose one:\n{_listed(found, rows, first_seed, command)}")
    _check_seed(words, rows, first_seed, table)
    _check_table(words, table, command)
    near = sorted(rows, key=lambda row: -_nearness(words, row))[:NEAREST]
    raise UsageError(f"no row of {table} fits: {said}. The nearest:\n{_listed(near, rows, first_seed, command)}")


def _check_seed(words: Sequence[str], rows: Sequence[RowName], first_seed: int | None, table: str) -> None:
    """Raise UsageError if the words name a seed that no row has."""
    seed, _ = _seed_and_words(words)
    known = [first_seed, *dict.fromkeys(row.seed for row in rows if row.seed is not None)]
    if seed is not None and seed not in known:
        listed = ", ".join(str(number) for number in known if number is not None)
        raise UsageError(f"{table} has no row of seed {seed}; its seeds: {listed or 'none, nothing is trained'}")


def _check_table(words: Sequence[str], table: str, command: str) -> None:
    """Raise UsageError if a word names another table."""
    own = command.split()[-1]
    if other := next((word for word in map(_folded, words) if word in TITLES and word != own), ""):
        program = command.removesuffix(own)
        raise UsageError(f"no row of {table} fits: {' '.join(words)}. {other} is a table of its own: {program}{other}")


def choosing_words(row: RowName, rows: Sequence[RowName], first_seed: int | None) -> str:
    """Return the fewest words of a row's label that choose it; all of them if only together they say which it is."""
    words = [word for text in (*row.label.values(), *row.runs) for word in _words(text)]
    seed = [] if row.seed is None else [f"seed{row.seed}"]
    distinct = list(dict.fromkeys(words))
    some = chain.from_iterable(combinations(distinct, count) for count in range(1, min(len(distinct), 3) + 1))
    telling = (choice for choice in some if not all(word.isdecimal() for word in choice))
    few = next((choice for choice in telling if choose([*choice, *seed], rows, first_seed) == [row]), distinct)
    return shlex.join([*few, *seed])


def _listed(shown: Sequence[RowName], rows: Sequence[RowName], first_seed: int | None, command: str) -> str:
    commands = [f"{command} {choosing_words(row, rows, first_seed)}" for row in shown]
    width = max(map(len, commands))
    return "\n".join(f"  {text:{width}}   {row.name}" for text, row in zip(commands, shown, strict=True))


def _seed_and_words(words: Sequence[str]) -> tuple[int | None, list[str]]:
    """Return the seed among the words, if there is one, and the others: 13 and A-256 of A-256-seed13."""
    text = " ".join(words)
    seed = SEED.search(text)
    return (int(seed[1]) if seed else None), [_folded(word) for word in _words(SEED.sub(" ", text))]


def _words(text: str) -> list[str]:
    """Return the words of a label or of what a person typed; [256;512] is one word, 256-512, and so is S 256."""
    one = RANGE.sub(lambda match: " {}-{} ".format(*filter(None, match.groups())), text)
    return [word for word in BETWEEN.split(COLUMN.sub(r"\1=", one)) if word and word.lower() != "and"]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _fit(word: str, row: RowName) -> int:
    """Return how well a word fits a row: 0 if not at all. The word may name its column: q=384."""
    column, given, value = word.rpartition("=")
    texts = [(key, text) for key, text in row.label.items() if not given or _folded(key) == column]
    meant = {value, SYNONYMS.get(value, value)}
    marks = [_fit_of_text(meant, text, SECOND if key == "Q" else EXACT) for key, text in texts]
    runs = [] if given else [EXACT if len(row.runs) == 1 else WORD for run in row.runs if _folded(run) in meant]
    printed = chain.from_iterable(NET.findall(_folded(text)) for text in row.label.values())
    nets = {*(_folded(run.rpartition("-")[0]) for run in row.runs), *printed}
    return max([*marks, *runs, EXACT if not given and len(nets) == 1 and nets & meant else 0])


def _fit_of_text(meant: set[str], text: str, whole: int) -> int:
    words = {_folded(word) for word in _words(text)}
    if _folded(text) in meant or (len(words) == 1 and words & meant):
        return whole
    parts = {part for word in words for part in word.split("-")}
    return WORD if words & meant else PART if parts & meant else 0


def _nearness(words: Sequence[str], row: RowName) -> float:
    """Return how near the words are to a row that they do not all fit."""
    _, asked = _seed_and_words(words)
    likeness = SequenceMatcher(None, " ".join(asked), _folded(row.key)).ratio()
    return sum(_fit(word, row) for word in asked) + likeness - (row.seed is not None)


def every_word(rows: Sequence[RowName]) -> Iterator[str]:
    """Yield the words of all labels, each once, in the rows' order: what a shell may complete."""
    yield from dict.fromkeys(word for row in rows for text in row.label.values() for word in _words(text))
