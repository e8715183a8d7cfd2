"""The page model: the content of a page, as values that a writer renders.

A page is a tuple of blocks. Text in a block is a tuple of inlines, or a single inline. A `str` is plain words in which
no character is markup: each writer escapes what its format would take for markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vgg.judgement import Verdict

Align = Literal["left", "right"]
VERDICT_MARKS = {
    Verdict.SUPPORTED: "✔", Verdict.CONTRADICTED: "✘", Verdict.REPRODUCED: "✔", Verdict.BETTER: "▼",
    Verdict.WORSE: "▲", Verdict.NOT_COMPARABLE: "≠", Verdict.AGREES: "✔", Verdict.DIFFERS: "✘",
    Verdict.UNDECIDED: "?", Verdict.NOT_RUN: "–",
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """A command, path, hash or name that is shown verbatim."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Emphasised words."""

    text: str


@dataclass(frozen=True)
class Link:
    """Words that link to `target`, a URL or a path relative to the page."""

    text: str
    target: str


@dataclass(frozen=True)
class Judged:
    """A verdict, shown by its word and by a mark, so that no colour is needed."""

    verdict: Verdict

    @property
    def mark(self) -> str:
        """Return the verdict's mark."""
        return VERDICT_MARKS[self.verdict]

    @property
    def text(self) -> str:
        """Return the mark and the word."""
        return f"{self.mark} {self.verdict}"


@dataclass(frozen=True)
class Opener:
    """Words that open the panel of this name, where the page has panels."""

    text: str
    panel: str


Inline = str | Code | Strong | Link | Judged | Opener
Text = Inline | tuple[Inline, ...]


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    level: int
    text: Text


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list without numbers."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Column:
    """A table's column, whose heading may be empty."""

    heading: Text
    align: Align = "left"


@dataclass(frozen=True)
class Table:
    """A table. It raises ValueError unless every row has one cell per column.

    The rows of an `ordered` table belong in their order and side by side: they are neither sorted nor split into cards.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {row}")


@dataclass(frozen=True)
class Figure:
    """An image at `path`, relative to the page; `alt` says what it shows, the caption what its marks mean.

    If it is shown `again`, it belongs to another page, and a document of both pages has its content there alone.
    """

    path: str
    alt: str
    caption: Text = ()
    data: str = ""  # the file next to the page with the values that the image shows
    again: bool = False


@dataclass(frozen=True)
class Callout:
    """A warning that nobody should miss; it is not shown if its text is empty."""

    text: Text


@dataclass(frozen=True)
class Preformatted:
    """Lines that keep their breaks and columns, as in a terminal."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Figure | Callout | Preformatted
Page = tuple[Block, ...]


def left(*headings: Text) -> tuple[Column, ...]:
    """Return columns whose cells are flush left."""
    return tuple(Column(heading) for heading in headings)


def right(*headings: Text) -> tuple[Column, ...]:
    """Return columns whose cells are flush right, as numbers of one unit are."""
    return tuple(Column(heading, "right") for heading in headings)


def inlines(text: Text) -> tuple[Inline, ...]:
    """Return a text's inlines as a tuple, also if there is a single one."""
    return text if isinstance(text, tuple) else (text,)


def join(separator: str, texts: Iterable[Text]) -> tuple[Inline, ...]:
    """Return `texts` as one text with `separator` between them."""
    parts = [part for text in texts for part in (separator, *inlines(text))]
    return tuple(parts[1:])


def plain_text(text: Text) -> str:
    """Return a text's words without their markup."""
    return "".join(_words(part) for part in inlines(text))


def _words(part: Inline) -> str:
    match part:
        case str():
            return part
        case _:
            return part.text
