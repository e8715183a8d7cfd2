"""The HTML writer: every block and inline, foreign words that stay words, and charts that follow light and dark."""

from __future__ import annotations

from base64 import b64encode
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from markupsafe import Markup, escape
from PIL import Image

from reports.html import Document, html
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
    left,
    right,
)
from reports.svg import inlined
from vgg.judgement import Verdict


def encoded(image: Image.Image) -> str:
    """Return an image as the address of a PNG, as matplotlib writes it."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


DOCUMENT = Document(
    {"table3.md": "table3"}, lambda figure: Markup('<img alt="{}">').format(figure.alt), panels={"known"}
)
HARD = [*"<>&\"'`/={}% ab\n", "</p>", "<script>", "&lt;", "&amp;", "{{", "{}", "-->", "é", "猫"]
PIXEL = encoded(Image.new("L", (1, 1)))
SVG = f"""<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" height="9pt" viewBox="0 0 9 9"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
<metadata>http://example.org</metadata><defs><style type="text/css">*{{x: y}}</style><path id="m1"/></defs>
<use xlink:href="#m1" clip-path="url(#p1)" style="fill: #4477aa; stroke: #000000"/>
<text style="font-size: 8px; font-family: 'A', serif; fill: #ffffff">a &lt; b</text>
<path style="stroke: #123456; fill: url(#h1)"/><rect fill="#ffffff"/><image xlink:href="{PIXEL}"/>
</svg>"""


class Words(HTMLParser):
    """The words of a document as a browser reads them, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags, self.values = "", [], []
        self.feed(str(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag and the values of its attributes."""
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        """Record words."""
        self.words += data


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Heading(1, ("Data of ", Code("mini"))), "<h1>Data of <code>mini</code></h1>"),
        (Heading(3, "a & b"), "<h3>a &amp; b</h3>"),
        (Paragraph(("See ", Link("this", "table3.md"), ".")), '<p>See <a href="#table3">this</a>.</p>'),
        (Paragraph(Link("w", "https://a.org/?b=c&d")), '<p><a href="https://a.org/?b=c&amp;d">w</a></p>'),
        (Paragraph(Link("<w>", "other.md")), "<p>&lt;w&gt;</p>"),
        (Paragraph(Link("w", "javascript:alert()")), "<p>w</p>"),
        (Bullets(("one", (Strong("two"), ": 3"))), "<ul><li>one</li><li><strong>two</strong>: 3</li></ul>"),
        (Callout((Strong("Old."), " Why.")), '<p class="callout" role="note"><strong>Old.</strong> Why.</p>'),
        (Callout(()), ""),
        (Paragraph(Opener("5 & 6", "known")), '<p><button popovertarget="known">5 &amp; 6</button></p>'),
        (Paragraph(Opener("5 & 6", "unknown")), "<p>5 &amp; 6</p>"),
        (Preformatted("a  <b>\nc"), '<pre tabindex="0">a  &lt;b&gt;\nc</pre>'),
        (
            Paragraph(Judged(Verdict.SUPPORTED)),
            '<p><span class="verdict" data-verdict="supported"><span aria-hidden="true">✔</span> supported</span></p>',
        ),
        (
            Figure("a.png", '"It"', ("Dotted: ", Code("x"))),
            '<figure><div class="frame" role="group" aria-label="Figure" tabindex="0"><img alt="&#34;It&#34;"></div>'
            "<figcaption>Dotted: <code>x</code></figcaption></figure>",
        ),
        (
            Figure("a.png", "It", "Dots.", "a.csv"),  # there is no a.csv next to the document
            '<figure><div class="frame" role="group" aria-label="Figure" tabindex="0"><img alt="It"></div>'
            "<figcaption>Dots.</figcaption></figure>",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_a_block_in_html(block: Block, text: str) -> None:
    assert html([block], DOCUMENT) == text


def test_a_table_has_headings_of_columns_and_rows_and_each_cell_knows_its_column() -> None:
    table = Table((*left("a <net>"), *right("error")), (("A", "29.6"), (Code("B"), "-")))
    assert html([table], DOCUMENT) == (
        '<table class="cards"><thead><tr><th scope="col" class="left">a &lt;net&gt;</th>'
        '<th scope="col" class="right">error</th></tr></thead><tbody>'
        '<tr><th scope="row" class="left short" data-label="a &lt;net&gt;">A</th>'
        '<td class="right short" data-label="error">29.6</td></tr>\n'
        '<tr><th scope="row" class="left short" data-label="a &lt;net&gt;"><code>B</code></th>'
        '<td class="right short" data-label="error">-</td></tr></tbody></table>'
    )


def test_long_words_may_be_broken_and_cells_of_wide_tables_wrapped() -> None:
    text = html([Table(left("a", "b"), (("x" * 31, "x " * 31),))], DOCUMENT)
    assert '<th scope="row" class="left long"' in text and '<td class="left" data-label="b">' in text
    names = [str(number) for number in range(9)]
    assert '<table class="cards wide">' in html([Table(left(*names), (tuple(names),))], DOCUMENT)
    assert '<table class="cards">' in html([Table(left(*names[:8]), (tuple(names[:8]),))], DOCUMENT)


def test_no_heading_of_a_table_is_empty() -> None:
    assert "<td></td><th" in html([Table(left("", "train"), (("images", "1"),))], DOCUMENT)
    facts = html([Table(left("", ""), (("seed", "0"),))], DOCUMENT)
    assert 'class="facts"' in facts and "thead" not in facts


def test_an_ordered_table_scrolls_and_its_first_cells_are_no_headings() -> None:
    text = html([Table(left("A"), (("conv3-64",),), ordered=True)], DOCUMENT)
    assert text.startswith('<div class="frame" role="group" aria-label="Table" tabindex="0"><table class="ordered">')
    assert 'scope="row"' not in text


def test_any_words_are_read_back_as_they_are(rng: np.random.Generator) -> None:
    for _ in range(300):
        text = "".join(rng.choice(HARD, rng.integers(1, 12)))
        parts: list[Inline] = [text, Code(text), Strong(text), Link(text, "table3.md"), Opener(text, "known")]
        for part in parts:
            blocks: list[Block] = [Paragraph(part), Heading(2, part), Bullets((part,)), Callout((part,)),
                                   Table(left(part), ((part,),))]  # fmt: skip
            for block in blocks:
                read = Words(html([block], DOCUMENT))
                times = 2 if isinstance(block, Table) else 1
                assert read.words == times * (text)
                assert not {"script", "b"} & set(read.tags)
        assert Words(html([Figure("x", text)], DOCUMENT)).values[-1] == text
        assert Words(html([Preformatted("x" + text)], DOCUMENT)).words == "x" + text
        assert text in Words(html([Table(left(text), (("x",),))], DOCUMENT)).values


def test_headings_are_demoted_below_the_documents() -> None:
    assert html([Heading(1, "A"), Heading(2, "B")], Document({}, DOCUMENT.draw, 1)) == "<h2>A</h2>\n<h3>B</h3>"


def test_a_chart_has_an_alternative_and_ids_of_its_own_and_needs_no_network() -> None:
    chart = inlined(SVG, "depth", 'Error "&" depth')
    assert chart.startswith('<svg viewBox="0 0 9 9" role="img" aria-label="Error &quot;&amp;&quot; depth"')
    assert 'id="depth-m1"' in chart and 'href="#depth-m1"' in chart and "url(#depth-p1)" in chart
    assert "fill: url(#depth-h1)" in chart  # a hatch
    assert "http" not in chart and "<style" not in chart and "metadata" not in chart
    assert f'href="{PIXEL}"' in chart and str(escape("a < b")) in chart


def test_a_charts_colours_follow_the_page() -> None:
    chart = inlined(SVG, "depth", "")
    assert "fill: var(--blue); stroke: color-mix(in srgb, var(--ink) 100%, var(--paper))" in chart
    assert "fill: color-mix(in srgb, var(--ink) 0%, var(--paper))" in chart
    assert '<rect fill="color-mix(in srgb, var(--ink) 0%, var(--paper))"' in chart  # of a hatch
    assert 'class="light"' in chart and 'class="light"' not in inlined(SVG.replace("image", "path"), "depth", "")
    assert "font-family" not in chart and "font-size: 8px" in chart and "#123456" in chart
