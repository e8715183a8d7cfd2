"""The page of where, when and how fast every result was made: the only page that changes when the results do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.results.profile_results import Results
from pipeline.system.progress import duration
from reports.page import Block, Code, Heading, Page, Paragraph, Table, Text, left, right
from reports.page_parts import ALL_TABLES
from reports.phrases import NONE

PROVENANCE = "provenance"
PLACES = ("commit", "machine", "device", "python", "versions")
SPEEDS = (("images_per_second", 0), ("waited", 1))  # of training, with their digits after the point


def provenance_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page: the places and programs, its charts, then each result's processes, time and speed."""
    recorded = results.known_provenance
    known = {stage: record for stage, record in recorded.items() if record}
    return (
        Heading(1, "Provenance"),
        Paragraph(_digest(results)),
        *_places(known),
        *charts,
        *_stages(known),
        *_unknown([stage for stage, record in recorded.items() if not record]),
        ALL_TABLES,
    )


def is_kept(results: Results, path: Path) -> bool:
    """Return True if nothing is recorded here or in git, and the page at `path` is of exactly these results.

    The report would otherwise lose what the page says.
    """
    if any(results.known_provenance.values()) or not path.exists():
        return False
    return results.digest in path.read_text()


def _digest(results: Results) -> Text:
    return (
        "Where and when the results were made. A “+” after a commit means that files of the program or its parameters "
        "(such as the profile) had been changed in the clone since. SHA-256 of all result files: ",
        Code(results.digest),
        ".",
    )


def _places(known: dict[str, dict[str, Any]]) -> Iterator[Block]:
    """Yield a table of the different places, each with the number of results made there."""
    counts: dict[tuple[str, ...], int] = {}
    for record in known.values():
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        place = tuple(str({**record, "versions": versions}[key]) for key in PLACES)
        counts[place] = counts.get(place, 0) + 1
    if counts:
        rows = tuple((*place, str(count)) for place, count in counts.items())
        yield Table((*left(*PLACES), *right("results")), rows)


def _stages(known: dict[str, dict[str, Any]]) -> Iterator[Block]:
    timed = {stage: record for stage, record in known.items() if record["seconds"]}
    if not timed:
        return
    columns = (*left("result"), *right("processes", "threads each", "images/s", "time waiting for images, %", "time"))
    yield Table(columns, tuple(_row(stage, record) for stage, record in timed.items()))
    total = sum(record["seconds"] for record in timed.values())
    yield Paragraph(f"Total: {duration(total)}. Images per second and waiting times are medians over the epochs.")


def _row(stage: str, record: dict[str, Any]) -> tuple[Text, ...]:
    speeds = (f"{record[key]:.{digits}f}" if key in record else NONE for key, digits in SPEEDS)
    return (Code(stage), str(record["processes"]), str(record["threads"]), *speeds, duration(record["seconds"]))


def _unknown(stages: list[str]) -> Iterator[Block]:
    """Yield a note on the results without a record: restored from a cache, pulled, or made on another machine."""
    if stages:
        yield Paragraph(("Provenance not recorded here (restored or pulled): ", ", ".join(stages), "."))
