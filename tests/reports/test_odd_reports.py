"""Reports of unusual results, in both forms: pages render, tables stay whole, names stay names, nothing overflows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from pipeline.experiment.validation import load
from pipeline.results.ranks import Guesses, read_ranks
from reports.pages import render
from reports.site import write_site
from tests.support.browser import Tab, browser, needs_chromium
from tests.support.committed import change, committed

NAMES = (
    "猫", "גמל 1", "مرحبا", "👩 emoji", "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "R&D &lt;b&gt;",
    "a|b", "*bold* _it_ `code`", "[a](javascript:alert(3))", "\"'><b>", "# heading", "1. list", "- item", "{{ title }}",
    "\\|\\", "x" * 200, "many words " * 18, "e\u0301\u200fz", "$x^2$", "<!-- -->", "~~s~~", "https://example.org/?a=b&c",
    "| |",
)  # fmt: skip
RECORD = {
    "run": "D-384", "file": "a|b <i>.pth", "sha256": "ab" * 32, "known": None, "weights_sha256": "1" * 64,
    "input": {"channels": "BGR", "range": 255.0, "mean": [103.939, 116.779, 123.68], "std": [1.0, 1.0, 1.0]},
}  # fmt: skip
TABLES = ("table3", "table4", "table5", "table6", "table7", "shallow")
Edit = Callable[[Path], None]


def with_classes(names: list[str], folder: Path) -> None:
    """Give the images other classes; the guesses are folded into them."""
    change(folder / "data/classification.json", lambda facts: facts.update(classes=names))
    for name in (*TABLES, "seeds"):
        if (folder / f"{name}.json").exists():
            change(folder / f"{name}.json", lambda values: values.update(k=min(5, len(names) - 1), classes=len(names)))
    for name in ("table3", "table4", "table5"):
        path = folder / f"ranks/{name}.npz"
        ranks = read_ranks(path, "")
        assert ranks and ranks.guesses
        known = ranks.guesses
        k = min(5, len(names))
        classes = (known.classes[:, :1].astype(int) + np.arange(k)) % len(names)
        fields = {
            "classes": classes,
            "labels": known.labels.astype(int) % len(names),
            "probabilities": known.probabilities[:, :k],
        }
        guesses = Guesses(**{**vars(known), **fields})
        type(ranks)(ranks.rows, ranks.groups, ranks.manifest, guesses).write(path)


def without_runs(keeps: Callable[[str], bool], folder: Path) -> None:
    """Remove all runs but those to keep, with their scores, their rows and all claims."""
    for path in (*(folder / "runs").iterdir(), *(folder / "scores").iterdir()):
        if not keeps(re.sub("^(dense|crops|centre)-", "", path.stem)):
            path.unlink()
    for name in TABLES:
        change(folder / f"{name}.json", partial(_without, keeps))
    (folder / "claims.json").unlink()
    (folder / "seeds.json").unlink()


def _without(keeps: Callable[[str], bool], table: dict[str, Any]) -> None:
    for row in table["rows"]:
        lacking = [run for run in row["runs"] if not keeps(run)]
        if lacking:
            row |= {"ours": None, "missing": [f"vgg-repro score dense {run}" for run in lacking]}
            row.pop("centre", None)


def with_published_weights(folder: Path) -> None:
    """Take all nets for published ones, on the paper's images, judged."""
    shutil.rmtree(folder / "runs")
    for number in (8, 9, 10):  # localisers are trained
        (folder / f"table{number}.json").unlink()
    for path in (folder / "scores").iterdir():
        change(path, lambda score: score.update(published=RECORD))
    change(folder / "data/classification.json", lambda facts: facts.update(train=0, comparable=True, mean_rgb=[]))
    verdicts = iter(["reproduced", "better", "worse", "undecided"] * 99)
    for name in TABLES:
        change(folder / f"{name}.json", partial(_judged, verdicts))


def _judged(verdicts: Iterator[str], table: dict[str, Any]) -> None:
    table |= {"comparable": True, "seed": None, "published": {"D-384": RECORD, "D-jitter": RECORD}}
    rule = {"weights": "published", "tolerance": 0.2, "share": 0.01}
    for row in table["rows"]:
        if row["runs"]:
            judged = {
                name: {"verdict": next(verdicts), "difference": 0.1, "low": -0.1, "high": 0.3}
                for name in ("top1_val", "top5_val")
                if row["paper"].get(name) is not None
            }
            row |= {"published": row["runs"], "judged": judged, "rule": rule}


KINDS: dict[str, Edit] = {
    "half of the runs": partial(without_runs, lambda run: run[0] in "AB"),
    "one run": partial(without_runs, lambda run: run == "A-256"),
    "published weights": with_published_weights,
    "odd names": partial(with_classes, [*NAMES, *(f"class {number}" for number in range(51 - len(NAMES)))]),
    "1,000 classes": partial(with_classes, [f"class {number}, also called {number}" for number in range(1000)]),
    "two classes": partial(with_classes, ["no", "yes"]),
}


LONG = ("one run", "1,000 classes", "two classes")  # what the others show, too


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.exhaustive] * (kind in LONG)) for kind in KINDS])
def odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The committed results of mini in the current folder, changed to those of this kind."""
    monkeypatch.chdir(tmp_path)
    KINDS[request.param](committed(tmp_path, "dvc.lock"))
    return str(request.param)


class Parsed(HTMLParser):
    """The tags, attributes and words of a document. A tag that is not closed in order fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element that closes itself, as in SVG."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be of this tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Record words that a reader sees."""
        self.words += "" if self.open and self.open[-1] in ("script", "style") else data


def check_html(text: str) -> Parsed:
    """Check that a document is whole, runs only its own script, and that its anchors and openers lead somewhere."""
    document = Parsed(text)
    assert document.open == []
    tags = [tag for tag, _ in document.tags]
    assert tags.count("script") == 1 and tags.count("h1") == 1 and not {"b", "i", "iframe", "object"} & set(tags)
    for tag, attributes in document.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("href", "#").startswith(("#", "https://", "data:")), attributes
        assert attributes.get("src", "data:").startswith("data:")
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    led = {attributes.get("popovertarget", "") or attributes["href"][1:] for _, attributes in document.tags
           if "popovertarget" in attributes or attributes.get("href", "").startswith("#")}  # fmt: skip
    assert len(ids) == len(set(ids)) and led <= set(ids)
    return document


def check_markdown(text: str) -> str:
    """Check that a page has no HTML and that all rows of a table have the same cells. Return the page's words."""
    tokens = MarkdownIt().enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [token for token in (*tokens, *inline) if token.type in ("html_block", "html_inline")]
    assert not [link for link in inline if link.type == "link_open" and "javascript" in str(link.attrs["href"])]
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
        assert len(columns) == 1, block[:500]
    return _spaced("".join(token.content if token.type in ("text", "code_inline") else " " for token in inline))


def _spaced(text: str) -> str:
    return " ".join(text.split())


def test_every_page_of_both_forms_is_whole(odd: str) -> None:
    _, pages = render("mini", Path("out"), {}, load())
    words = {page.stem: check_markdown(page.read_text()) for page in pages}
    text = _spaced(check_html(write_site("mini", Path("out"), {}, load())[1].read_text()).words)
    assert "Table 3" in text and "table3" in words
    if odd == "odd names":
        assert [name for name in NAMES if _spaced(name) not in text] == []
    if odd == "published weights":
        assert "✔ reproduced" in text and "✔ reproduced" in words["table3"]
        assert "≠" not in text
    elif odd in ("half of the runs", "one run"):
        assert "– not run" in text and "– not run" in words["table3"]


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A tab of a browser."""
    with browser() as opened:
        yield opened


@needs_chromium
@pytest.mark.slow
def test_no_page_is_wider_than_a_phone_and_no_foreign_script_runs(odd: str, tab: Tab) -> None:
    page = write_site("mini", Path("out"), {}, load())[1]
    for width in (390, 1280):
        tab.open(page, width)
        assert tab.overflow() == 0
        clipped = """[...document.querySelectorAll("main *")].filter(part => part.offsetParent
            && part.getBoundingClientRect().right > innerWidth + 1 && !part.closest(".frame, pre, svg"))
            .map(part => part.outerHTML.slice(0, 120))"""
        assert tab.run(clipped) == []
    assert tab.elsewhere == []
