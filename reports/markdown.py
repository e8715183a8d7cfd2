"""The Markdown writer: a page as text that reads well on a Git host and in a terminal.

Strings are escaped here and nowhere else, so that a class called `a|b` breaks no table and one called `*` no line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

from tabulate import tabulate

from reports.page import (
    Block,
    Bullets,
    Callout,
    Code,
    Figure,
    Heading,
    Inline,
    Judged,
    Link,
    Opener,
    Paragraph,
    Preformatted,
    Strong,
    Table,
    Text,
    inlines,
)

# What CommonMark and GitHub take for markup within a line. A bracket is left alone where it cannot begin a link,
# an underscore within a word, an ampersand where no entity follows, a hash before the end of a heading.
MARKS = re.compile(r"[\\|*`<~]|\[(?![^\[\]]*\](?![(\[:]))|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|#$")
# What makes a list, a heading, a quotation or a check box at the beginning of a line.
STARTS = re.compile(r"^(?:(\d{1,9})(?=[.)](?:\s|$))|(?=[-+#>\[]))")


def markdown(blocks: Iterable[Block]) -> str:
    """Return the blocks as lines of Markdown, with an empty line between two blocks."""
    texts = [_block(block) for block in blocks]
    return "\n".join(f"{text}\n" if text else "" for text in texts)


def pipe_table(table: Table, write: Callable[[Text], str]) -> str:
    """Return a table in Markdown's pipes; `write` converts each heading and cell to text."""
    headings = [write(column.heading) for column in table.columns]
    rows = [[write(cell) for cell in row] for row in table.rows]
    align = [column.align for column in table.columns] if rows else None
    return tabulate(rows, headings, tablefmt="pipe", colalign=align, disable_numparse=True)


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_text(text)}"
        case Paragraph(text):
            return _line(text)
        case Bullets(items):
            return "\n".join(f"- {_line(item)}" for item in items)
        case Table():
            return pipe_table(block, _cell)
        case Figure():
            return _figure(block)
        case Callout(text):
            return f"> {_line(text)}" if text else ""
        case Preformatted(text):
            fence = _fence(text, 3)
            return f"{fence}\n{text}\n{fence}"


def _figure(figure: Figure) -> str:
    image = f"![{_escaped(figure.alt)}]({_target(figure.path)})"
    data = (" Data: ", Link(figure.data, figure.data), ".") if figure.data else ()
    caption = (*inlines(figure.caption), *data)
    return f"{image}\n\n{_line(caption)}" if caption else image


def _line(text: Text) -> str:
    """Return a text for the beginning of a line, where more characters are markup."""
    begins_plain = isinstance(next(iter(inlines(text)), None), str)
    return STARTS.sub(r"\1\\", _text(text)) if begins_plain else _text(text)


def _text(text: Text) -> str:
    return "".join(_inline(part) for part in inlines(text))


def _cell(text: Text) -> str:
    """Return a text for a table, where cells are split before code is recognised."""
    parts = inlines(text)
    return "".join(_inline(part).replace("|", "\\|") if isinstance(part, Code) else _inline(part) for part in parts)


def _inline(part: Inline) -> str:
    match part:
        case str():
            return _escaped(part)
        case Opener(text):
            return _escaped(text)
        case Code(text):
            return _code(text)
        case Strong(text):
            return f"**{_escaped(text)}**"
        case Judged(verdict):
            return f"{_escaped(part.mark)} **{_escaped(verdict)}**"
        case Link(text, target):
            return f"[{_escaped(text)}]({_target(target)})"


def _escaped(text: str) -> str:
    return MARKS.sub(r"\\\g<0>", _one_line(text))


def _code(text: str) -> str:
    """Return code between as many backticks as necessary; nothing is escaped in it."""
    fence, text = _fence(text, 1), _one_line(text)
    pad = " " if text.strip("` ") != text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _fence(text: str, least: int) -> str:
    """Return more backticks than `text` has in a row, and at least `least`."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)


def _target(target: str) -> str:
    """Return a path or URL without characters that would end a link early."""
    return quote(target, safe="/:?#@!$&'*+,;=~%")


def _one_line(text: str) -> str:
    return re.sub(r"\s*[\r\n]\s*", " ", text)
