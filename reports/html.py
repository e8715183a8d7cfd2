"""The HTML writer: a page as part of one document, in which links between pages are anchors.

Strings are escaped here and nowhere else, so that a class called `<b>` stays a word.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.page import (
    Block,
    Bullets,
    Callout,
    Code,
    Column,
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
    plain_text,
)

WIDE = 8  # columns; cells of more may have several lines
LONG = 30  # characters of a word that is broken where a line ends
SHORT = 24  # characters of a cell that stay on one line, such as an error with its interval
EXTERNAL = ("https://", "http://")


@dataclass(frozen=True)
class Document:
    """What a page needs to know of the document that it is part of."""

    anchors: Mapping[str, str]  # target of a link between pages, such as table3.md, to the section's id
    draw: Callable[[Figure], Markup]  # returns a figure's image with its text alternative
    depth: int = 0  # by which headings are demoted
    panels: Container[str] = ()  # names of the panels that the document has


def html(blocks: Iterable[Block], document: Document) -> Markup:
    """Return the blocks as HTML, one line or more per block."""
    return Markup("\n").join(part for block in blocks if (part := _block(block, document)))


def _block(block: Block, document: Document) -> Markup:
    match block:
        case Heading(level, text):
            return Markup("<h{0}>{1}</h{0}>").format(level + document.depth, _text(text, document))
        case Paragraph(text):
            return Markup("<p>{}</p>").format(_text(text, document))
        case Bullets(items):
            return Markup("<ul>{}</ul>").format(_joined(Markup("<li>{}</li>"), items, document))
        case Table():
            return _table(block, document)
        case Figure(_, _, caption):
            words = Markup("<figcaption>{}</figcaption>").format(_text(caption, document)) if caption else ""
            return Markup("<figure>{}{}</figure>").format(_frame("Figure", document.draw(block)), words)
        case Callout(text):
            return Markup('<p class="callout" role="note">{}</p>').format(_text(text, document)) if text else Markup()
        case Preformatted(text):
            return Markup('<pre tabindex="0">{}</pre>').format(text)


def _table(table: Table, document: Document) -> Markup:
    """Return a table in a frame, in which it scrolls sideways if it is `ordered` and too wide."""
    titled = any(column.heading for column in table.columns)
    kind = "ordered" if table.ordered else "facts" if not titled else "cards"
    kind += " wide" * (len(table.columns) > WIDE)
    heads = Markup().join(_head(column, document) for column in table.columns)
    write = _row if titled else _fact
    rows = Markup("\n").join(write(row, table, document) for row in table.rows)
    head = Markup("<thead><tr>{}</tr></thead>").format(heads) if titled else ""
    whole = Markup('<table class="{}">{}<tbody>{}</tbody></table>').format(kind, head, rows)
    return _frame("Table", whole) if table.ordered else whole


def _frame(what: str, content: Markup) -> Markup:
    """Return content in a frame, which scrolls on a narrow screen, also by keys."""
    return Markup('<div class="frame" role="group" aria-label="{}" tabindex="0">{}</div>').format(what, content)


def _head(column: Column, document: Document) -> Markup:
    if not column.heading:
        return Markup("<td></td>")
    return Markup('<th scope="col" class="{}">{}</th>').format(column.align, _text(column.heading, document))


def _row(row: tuple[Text, ...], table: Table, document: Document) -> Markup:
    """Return a row. Its first cell is its heading, unless its table is ordered."""
    first = "td" if table.ordered else 'th scope="row"'
    tags = (first, *["td"] * (len(row) - 1))
    cells = (_cell(*part, document) for part in zip(tags, row, table.columns, strict=True))
    return Markup("<tr>{}</tr>").format(Markup().join(cells))


def _fact(row: tuple[Text, ...], table: Table, document: Document) -> Markup:
    """Return a row of a table without headings: a name and what it is of."""
    name, *cells = (_text(text, document) for text in row)
    form, rest = Markup('<tr><th scope="row">{}</th>{}</tr>'), Markup("<td>{}</td>")
    return form.format(name, Markup().join(map(rest.format, cells)))


def _cell(tag: str, text: Text, column: Column, document: Document) -> Markup:
    """Return a cell. It has its column's heading, which a narrow screen shows next to it."""
    words = plain_text(text)
    kind = f"{column.align} short" if len(words) <= SHORT else column.align
    if any(len(word) > LONG for word in words.split()):
        kind = f"{column.align} long"
    form = Markup(f'<{tag} class="{{}}" data-label="{{}}">{{}}</{tag.split()[0]}>')
    return form.format(kind, plain_text(column.heading), _text(text, document))


def _joined(form: Markup, texts: Iterable[Text], document: Document) -> Markup:
    return Markup().join(form.format(_text(text, document)) for text in texts)


def _text(text: Text, document: Document) -> Markup:
    return Markup().join(_inline(part, document) for part in inlines(text))


def _inline(part: Inline, document: Document) -> Markup:
    match part:
        case str():
            return escape(part)
        case Code(text):
            return Markup("<code>{}</code>").format(text)
        case Strong(text):
            return Markup("<strong>{}</strong>").format(text)
        case Judged(verdict):
            form = '<span class="verdict" data-verdict="{1}"><span aria-hidden="true">{0}</span> {1}</span>'
            return Markup(form).format(part.mark, verdict)
        case Link(text, target):
            return _link(text, target, document)
        case Opener(text, panel):
            form = Markup('<button popovertarget="{}">{}</button>')
            return form.format(panel, text) if panel in document.panels else escape(text)


def _link(text: str, target: str, document: Document) -> Markup:
    """Return a link to a section or a web page; of another file, which the document does not contain, its words."""
    if target in document.anchors:
        return Markup('<a href="#{}">{}</a>').format(document.anchors[target], text)
    return Markup('<a href="{}">{}</a>').format(target, text) if target.startswith(EXTERNAL) else escape(text)
