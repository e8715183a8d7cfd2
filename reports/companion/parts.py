"""What the sections of the companion share: their three parts, tables of differences, rows of the ledger, links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from pipeline.experiment.claims import Cell
from pipeline.experiment.paper_tables import number_of, printed_errors
from pipeline.results.chart_data import errors_by_seed
from pipeline.results.comparison import row_key
from pipeline.results.illustrations import MAKE
from pipeline.results.profile_results import Results
from reports.charts import PAPER_PAGE, Chart
from reports.claims_page import claims_table
from reports.page import Block, Code, Heading, Inline, Link, Page, Paragraph, Strong, Table, Text, inlines, join, left
from reports.phrases import table_label
from vgg.judgement import Verdict

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
BREAKS = re.compile(r"(?<=\d) (?=%)|(?<=\b[SQ]) (?==)|(?<=\b[SQ] =) (?=\d)")


def section(title: str, paper: Text, here: Text, difference: Text) -> Page:
    """Return a section's heading and its three parts."""
    parts = (("The paper.", paper), ("This repository.", here), ("The difference.", difference))
    return (Heading(2, title), *(led(lead, text) for lead, text in parts))


def led(lead: str, text: Text) -> Paragraph:
    """Return a paragraph that begins with emphasised words."""
    return Paragraph((Strong(lead), " ", *inlines(text)))


def question(text: Text) -> Paragraph:
    """Return a question for the reading group."""
    return led("To discuss.", text)


def trains(results: Results) -> bool:
    """Return True if the profile trains networks, and False if it evaluates published weights only."""
    settings = results.settings
    return settings.train is not None if settings else bool(results.summaries)


def name_of(results: Results) -> tuple[Inline, ...]:
    """Return the profile by name."""
    return ("the profile ", Code(results.profile))


def differences(results: Results, names: Sequence[str]) -> Iterator[Block]:
    """Yield a table of those of the named deviations from the paper that there are, if there is one."""
    rows = tuple(
        (f"{what[0].upper()}{what[1:]}", paper, ours) for what, ours, paper in results.deviations if what in names
    )
    if rows:
        yield Table(left("", "the paper", "here"), rows)


def differs(results: Results, names: Sequence[str]) -> bool:
    """Return True if the profile deviates from the paper in one of the named points."""
    return any(what in names for what, _, _ in results.deviations)


def table_links(results: Results, *names: str) -> tuple[Inline, ...]:
    """Return links to the pages of tables, and for each that is not computed the command that makes it."""
    return join(" and " if len(names) < 3 else ", ", (table_link(results, name) for name in names))


def table_link(results: Results, name: str) -> Text:
    """Return a link to a table's page or, if it is not computed, its name and the command that makes it."""
    label = "the comparison with the shallow network" if name == "shallow" else table_label(name)
    if name in results.tables or name in results.other_sets:
        return Link(label, f"{name}.md")
    return (f"{label} (not computed yet: ", Code(f"vgg-repro table {number_of(name)}"), ")")


def unbroken(block: Block) -> Block:
    """Return a paragraph whose lines do not break within 5.3 % or S = 256; other blocks as they are."""
    if not isinstance(block, Paragraph):
        return block
    parts = (BREAKS.sub("\N{NO-BREAK SPACE}", part) if isinstance(part, str) else part for part in inlines(block.text))
    return Paragraph(tuple(parts))


def chart(charts: Sequence[Chart], name: str) -> Iterator[Block]:
    """Yield the figure of a chart, if it is drawn."""
    for drawn in charts:
        if drawn.kind.name == name:
            yield replace(drawn.figure, again=drawn.kind.page != PAPER_PAGE)


def unillustrated(what: str) -> Text:
    """Return that something is not shown yet, and the command that computes it."""
    return (f"{what} are not computed yet. This makes them: ", Code(MAKE), ".")


def claims_of(results: Results, number: str) -> list[dict[str, Any]]:
    """Return the claims of a section with their verdicts; none if they are not tested."""
    return [claim for claim in results.claims.get("claims", ()) if claim["section"] == number]


def verdicts(results: Results, number: str) -> Text:
    """Return how many of a section's claims have which verdict, or how to test them."""
    words = [claim["verdict"] for claim in claims_of(results, number)]
    if not words:
        return ("The claims of this section are not tested yet: ", Code("dvc repro claims"), ".")
    counts = listed([f"{words.count(word)} {word}" for word in Verdict if word in words])
    claims = "one claim" if len(words) == 1 else f"{len(words)} claims"
    return (
        f"This section makes {claims} that can be tested on any images. The verdicts here: {counts} (",
        Link("how they are tested", "claims.md"),
        ").",
    )


def ledger(results: Results, number: str) -> Iterator[Block]:
    """Yield a section's rows of the ledger, if they are tested."""
    if claims := claims_of(results, number):
        yield without(claims_table({**results.claims, "claims": claims}), "section", "images that changed", "p")


def without(table: Table, *headings: str) -> Table:
    """Return a table without the columns of these headings."""
    kept = [place for place, column in enumerate(table.columns) if column.heading not in headings]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(tuple(table.columns[place] for place in kept), rows, table.ordered)


def paper_error(cell: Cell, measure: str = "top1_val") -> str:
    """Return one of the paper's errors in per cent, as printed."""
    return f"{printed_errors(cell.table)[cell.row][measure]:.1f} %"


def our_errors(results: Results, cells: Mapping[str, Cell], of: str = "") -> str:
    """Return our errors in the named rows of tables as a sentence, without those that are not run; empty if none is.

    They are means over the seeds that all these rows have, so that they can be compared. `of` says whose they are.
    """
    known = {name: errors for name, cell in cells.items() if (errors := _by_seed(results, cell))}
    if not known:
        return ""
    shared = set.intersection(*map(set, known.values()))
    means = [f"{name} {mean(errors[seed] for seed in shared):.1f} %" for name, errors in known.items()]
    seeds = f", means of {len(shared)} seeds" if len(shared) > 1 else with_seed(results)
    return f"Top-1 errors{of} here{seeds}: {listed(means)}."


def _by_seed(results: Results, cell: Cell) -> dict[str, float]:
    """Return our top-1 errors in a row by seed; empty if it is not run with the first, which is that of the tables."""
    first = str(next(iter(results.seeds.get("seeds", ())), ""))
    for row in results.tables.get(cell.table, {}).get("rows", ()):
        if row_key(row) == cell.row and row["ours"]:
            return {first: row["ours"]["top1"]["error"], **errors_by_seed(results, cell.table, row, "top1")}
    return {}


def with_seed(results: Results) -> str:
    """Return which seed an error of the tables is of, as a part of a sentence; empty if there is only one."""
    seeds = results.seeds.get("seeds", ())
    return f", with seed {seeds[0]}" if len(seeds) > 1 else ""


def listed(parts: Sequence[str]) -> str:
    """Return words as a list: A, B and C; nothing of none."""
    return "".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def times(number: int) -> str:
    """Return how often: never, once, twice, three times."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{word(number)} times")


def word(number: int) -> str:
    """Return a number up to ten as a word."""
    return WORDS[number] if number < len(WORDS) else f"{number:,}"
