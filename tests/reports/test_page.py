"""The page model and its writers: every block and inline, and foreign words that stay words."""

from __future__ import annotations

import numpy as np
import pytest
from markdown_it import MarkdownIt

from reports.markdown import markdown
from reports.page import (
    Block,
    Bullets,
    Callout,
    Code,
    Column,
    Figure,
    Heading,
    Link,
    Opener,
    Paragraph,
    Preformatted,
    Strong,
    Table,
    Text,
    join,
    left,
    plain_text,
    right,
)
from reports.phrases import published_net
from reports.terminal import terminal

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HARD = [*"\\|*`<>[]()_~#+-!&.:1 ab\n", "](", "[x] ", "**", "``", "1. ", "&lt;", "<b>", "__", "![", "|--|"]


def read(text: str, kind: str) -> list[tuple[str, str]]:
    """Every inline of the blocks of a `kind`, as CommonMark reads it: its type and its words."""
    tokens = READER.parse(text)
    opened = [number for number, token in enumerate(tokens) if token.type == f"{kind}_open"]
    return [(child.type, child.content) for number in opened for child in tokens[number + 1].children or []]


def words(rng: np.random.Generator) -> str:
    """Words that look like markup, none at either end a space, which Markdown drops."""
    text = "".join(rng.choice(HARD, rng.integers(1, 12)))
    return " ".join(text.split()) or "a"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Heading(1, ("Data of ", Code("mini"))), "# Data of `mini`"),
        (Heading(3, "Deep"), "### Deep"),
        (Paragraph("Words."), "Words."),
        (Paragraph(("See ", Link("this", "a/b.md"), ", ", Strong("now"), ".")), "See [this](a/b.md), **now**."),
        (Paragraph((Opener("5*", "panel"), " %")), "5\\* %"),
        (Paragraph(Code("dvc repro")), "`dvc repro`"),
        (Bullets(("one", (Code("two"), ": three"))), "- one\n- `two`: three"),
        (Figure("a b.png", "What it shows"), "![What it shows](a%20b.png)"),
        (Figure("a.png", "It", ("Dotted: ", Code("x"), ".")), "![It](a.png)\n\nDotted: `x`."),
        (Figure("a.png", "It", "Dots.", "a.csv"), "![It](a.png)\n\nDots. Data: [a.csv](a.csv)."),
        (Callout((Strong("Not comparable."), " Why.")), "> **Not comparable.** Why."),
        (Preformatted("run  train@A\n1. x*"), "```\nrun  train@A\n1. x*\n```"),
        (Preformatted("```"), "````\n```\n````"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_a_block_in_markdown(block: Block, text: str) -> None:
    assert markdown([block]) == f"{text}\n"


def test_a_table_has_its_columns_aligned_and_inlines_in_its_cells() -> None:
    table = Table((*left("net"), *right("error, %")), (("A", "29.6"), (("not run: ", Code("x")), Strong("9"))))
    assert markdown([table]).splitlines() == [
        "| net          |   error, % |",
        "|:-------------|-----------:|",
        "| A            |       29.6 |",
        "| not run: `x` |      **9** |",
    ]


def test_a_table_without_rows_or_headings_is_a_table() -> None:
    assert markdown([Table(left("run", "error"), ())]).splitlines()[0] == "| run   | error   |"
    assert len(READER.parse(markdown([Table(left("", ""), (("seed", "0"),))]))) > 10


def test_a_row_of_another_width_is_no_table() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        Table((Column("a"), Column("b", "right")), (("one", "two"), ("one",)))


def test_blocks_are_an_empty_line_apart_and_an_empty_callout_is_not_shown() -> None:
    assert markdown([Heading(2, "A"), Paragraph("b"), Paragraph("c")]) == "## A\n\nb\n\nc\n"
    assert markdown([Heading(2, "A"), Callout(()), Paragraph("c")]) == "## A\n\n\nc\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("2*3*4", r"2\*3\*4"),
        ("a `b`", r"a \`b\`"),
        ("<b>", r"\<b>"),
        ("[a](b)", r"\[a](b)"),
        ("[a][b]", r"\[a][b]"),
        ("a\\b", r"a\\b"),
        ("_a_ ~b~ &lt;", r"\_a\_ \~b\~ \&lt;"),
        ("C #", r"C \#"),
        ("a\nb", "a b"),
        ("[256, 512], a_b, R&D, 1,797, 5 > 3", "[256, 512], a_b, R&D, 1,797, 5 > 3"),
    ],
)
def test_marks_in_words_are_escaped_where_they_would_mean_something(text: str, written: str) -> None:
    for cell in (Table(left("x"), ((text,),)), Table(left(text), (("x",),))):
        assert written in markdown([cell])
    assert markdown([Paragraph(("x ", text))]) == f"x {written}\n"
    assert markdown([Paragraph(Strong(text))]) == f"**{written}**\n"
    assert markdown([Paragraph(Link(text, "x"))]) == f"[{written}](x)\n"
    assert markdown([Figure("x", text)]) == f"![{written}](x)\n"


@pytest.mark.parametrize("text", ["# a", "- a", "+ a", "> a", "1. a", "12) a", "[x] a"])
def test_words_that_begin_a_line_make_no_other_block(text: str) -> None:
    assert read(markdown([Paragraph(text)]), "paragraph") == [("text", text)]
    assert markdown([Bullets((text,))]).count("\\") == 1


def test_any_words_are_read_back_as_they_are(rng: np.random.Generator) -> None:
    for _ in range(300):
        text = words(rng)
        blocks = {
            "paragraph": [Paragraph(text)],
            "heading": [Heading(2, text)],
            "td": [Table(left("x"), ((text,),))],
            "th": [Table(left(text), (("x",),))],
        }
        for kind, page in blocks.items():
            tokens = read(markdown(page), kind)
            assert "".join(content for _, content in tokens) == text, (kind, text)
            assert {name for name, _ in tokens} <= {"text", "text_special"}, (kind, text)
        for page in ([Bullets((text, "x"))], [Callout(text), Paragraph("x")]):
            assert [content for _, content in read(markdown(page), "paragraph")] == [text, "x"]


def test_any_code_is_read_back_as_it_is(rng: np.random.Generator) -> None:
    for _ in range(300):
        text = words(rng)
        code: Text = ("x ", Code(text), " y")
        wanted = [("text", "x "), ("code_inline", text), ("text", " y")]
        assert read(markdown([Paragraph(code)]), "paragraph") == wanted
        assert read(markdown([Table(left("x"), ((code,),))]), "td") == wanted


def test_a_target_with_spaces_and_brackets_is_one_target() -> None:
    page = [Paragraph((Link("a", "b (c) [d] |e.md"), Link("f", "https://g.org/h?i=j#k")))]
    links = [child for token in READER.parse(markdown(page)) for child in token.children or [] if child.attrs]
    assert [link.attrs["href"] for link in links] == ["b%20%28c%29%20%5Bd%5D%20%7Ce.md", "https://g.org/h?i=j#k"]


def test_a_published_nets_file_is_named_letter_by_letter() -> None:
    said = {"channels": "BGR", "range": 255.0, "mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]}
    before = {"run": "D-384", "published": {"file": "d|e.pth"}}
    record = {"file": "a*b [c].pth", "sha256": "0" * 64, "known": None, "exported": before, "input": said}
    row = markdown([Table(left("file"), ((published_net(record),),))])
    assert [content for kind, content in read(row, "td") if kind == "code_inline"] == [
        "a*b [c].pth",
        "0" * 16,
        "d|e.pth",
    ]
    assert plain_text(published_net(record)).startswith("a*b [c].pth, SHA-256 0000")


def test_the_terminal_shows_words_and_columns_as_they_are() -> None:
    table = Table((*left("run"), *right("a|b")), ((Code("A*"), "1"),))
    lines = [
        "See vgg-repro plan [a](b).",
        "",
        "| run   |   a|b |",
        "|:------|------:|",
        "| A*    |     1 |",
        "",
        "run  x",
    ]
    blocks = (Paragraph(("See ", Code("vgg-repro plan"), " [a](b).")), table, Preformatted("run  x"))
    assert terminal(blocks) == "\n".join(lines) + "\n"


def test_texts_are_joined_with_their_markup_and_read_without() -> None:
    texts: list[Text] = ["a", Code("b"), ("c", Strong("d"))]
    assert join("; ", texts) == ("a", "; ", Code("b"), "; ", "c", Strong("d"))
    assert plain_text(join("; ", texts)) == "a; b; cd"
    assert join(", ", []) == ()
