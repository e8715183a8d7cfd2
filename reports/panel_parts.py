"""What the panels of all numbers share: names and values as a table, chains of runs, and programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.results.explanation import Explanation
from pipeline.system.progress import duration
from reports.explain_page import changes_texts, place_text
from reports.page import Code, Inline, Opener, Page, Table, Text, left
from reports.page_parts import run_panel
from reports.phrases import NONE

Places = Mapping[tuple[Inline, ...], str]  # the commits, programs and machines, each with its panel


class Panel(NamedTuple):
    """A part of the report that is shown on demand."""

    name: str  # its id
    label: str
    page: Page


def facts_table(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return names with their values, without those that are not known."""
    return Table(left("", ""), tuple(row for row in rows if row[1] != NONE))


def made_text(made: Mapping[str, Any] | None, places: Places) -> Text:
    """Return by which program, when and how long something was computed; a dash if that is not recorded."""
    if not made:
        return NONE
    started = f", {made['started'][:10]}" if "started" in made else ""
    time = f", in {duration(made['seconds'])}" if made["seconds"] else ""
    return (Opener(f"commit {made['commit']}", places[place_text(made)]), f"{started}{time}")


def chain_facts(e: Explanation) -> Iterator[tuple[str, Text]]:
    """Yield the chain of runs behind each network that was trained here; the last run opens its panel."""
    for *before, run in [chain for run, chain in e.chains.items() if run not in e.published]:
        yield "network", (*(f"{name} → " for name in before), Opener(run, run_panel(run)))


def last_facts(e: Explanation, command: str, places: Places) -> Iterator[tuple[str, Text]]:
    """Yield by what a number was computed, what has changed since, and the command that explains it."""
    yield "computed", made_text(e.made.get(e.stage), places)
    yield from (("changed since", text) for text in changes_texts(e))
    yield "in a terminal", Code(command)
