"""The terminal's writers: drawn for people, with tables of the terminal's width, and plain lines for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from reports.markdown import pipe_table
from reports.page import (
    Block,
    Bullets,
    Callout,
    Code,
    Figure,
    Heading,
    Inline,
    Judged,
    Paragraph,
    Preformatted,
    Strong,
    Table,
    Text,
    inlines,
    plain_text,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Drawn
    from rich.text import Text as Styled

TerminalBlock = Paragraph | Table | Preformatted


def terminal(blocks: Iterable[TerminalBlock]) -> str:
    """Return the blocks as lines for a pipe, tables in Markdown's pipes, with an empty line between two blocks."""
    return "\n".join(f"{_block(block)}\n" for block in blocks)


def draw(blocks: Iterable[Block]) -> None:
    """Print the blocks on the terminal. Figures are not shown."""
    from rich.console import Console

    console = Console(highlight=False)
    drawn = [part for block in blocks for part in _drawn(block)]
    for number, part in enumerate(drawn):
        if number:
            console.print()
        console.print(part)


def _block(block: TerminalBlock) -> str:
    match block:
        case Paragraph(text):
            return plain_text(text)
        case Table():
            return pipe_table(block, plain_text)
        case Preformatted(text):
            return text


def _drawn(block: Block) -> Iterator[RenderableType]:
    """Yield a block as rich draws it; nothing if it has nothing to show."""
    match block:
        case Heading(_, text):
            yield _styled(text, "bold")
        case Paragraph(text):
            yield _styled(text)
        case Callout(text) if text:
            yield _styled(text, "yellow")
        case Bullets(items):
            yield from (_styled((f"- {plain_text(item)}",)) for item in items)
        case Table():
            yield _table(block)
        case Preformatted(text):
            yield _styled(text)
        case Figure() | Callout():
            return


def _table(table: Table) -> Drawn:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Drawn

    drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False, padding=0, header_style="bold")
    for column in table.columns:
        drawn.add_column(_styled(column.heading), justify=column.align, overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_styled, row))
    return drawn


def _styled(text: Text, style: str = "") -> Styled:
    from rich.text import Text as Styled

    styled = Styled(style=style)
    for part in inlines(text):
        styled.append(plain_text(part), _style(part))
    return styled


def _style(part: Inline) -> str:
    return "bold" if isinstance(part, Strong | Judged) else "cyan" if isinstance(part, Code) else ""
