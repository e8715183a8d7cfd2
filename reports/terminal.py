"""The terminal's writer, for blocks that are not written to a file: tables in Markdown's pipes, and plain words."""

from __future__ import annotations

from collections.abc import Iterable

from reports.markdown import pipe_table
from reports.page import Paragraph, Preformatted, Table, plain_text

TerminalBlock = Paragraph | Table | Preformatted


def terminal(blocks: Iterable[TerminalBlock]) -> str:
    """Return the blocks as lines, with an empty line between two blocks."""
    return "\n".join(f"{_block(block)}\n" for block in blocks)


def _block(block: TerminalBlock) -> str:
    match block:
        case Paragraph(text):
            return plain_text(text)
        case Table():
            return pipe_table(block, plain_text)
        case Preformatted(text):
            return text
