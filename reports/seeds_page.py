"""The page of the seeds: mean and standard deviation of the tables' rows over the seeds of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.results.comparison import row_key
from pipeline.results.row_choice import RowName
from reports.page import Block, Callout, Code, Heading, Opener, Page, Paragraph, Table, Text, left, right
from reports.page_parts import ALL_TABLES, DAGGER, is_older, outdated_note, row_panel
from reports.phrases import NONE, mean_and_std, table_label

TITLE = "Seeds"


def seeds_page(values: dict[str, Any], warning: Callout, outdated: Mapping[str, str]) -> Page:
    """Return the page of the rows over the seeds. Rows of the stages in `outdated` are marked."""
    return (Heading(1, TITLE), warning, *_body(values, outdated), ALL_TABLES)


def seeds_section(values: dict[str, Any], outdated: Mapping[str, str]) -> Page:
    """Return heading, table and notes of the rows over the seeds. Rows of the stages in `outdated` are marked."""
    return (Heading(2, TITLE), *_body(values, outdated))


def _body(values: dict[str, Any], outdated: Mapping[str, str]) -> Iterator[Block]:
    seeds = values["seeds"]
    if not values["rows"]:
        yield Paragraph(_single(values))
        return
    columns = (
        *left("table", "row", "top-1, mean ± std"),
        *left(*[f"top-{values['k']}, mean ± std"] * (values["k"] > 1)),
        *right("seeds", *(f"top-1, seed {seed}" for seed in seeds)),
    )
    yield Table(columns, tuple(_row(row, values, outdated) for row in values["rows"]))
    if any(is_older("seeds", row["scores"], outdated) for row in values["rows"]):
        yield Paragraph(outdated_note(["seeds", *values["scores"]], outdated))
    yield from (Paragraph(note) for note in _notes(values))


def _single(values: dict[str, Any]) -> Text:
    seed = f"seed {values['seeds'][0]}" if values["seeds"] else "no training"
    return (
        f"Every run has one seed ({seed}), so nothing is known of the spread from seed to seed. ",
        *(Code("seeds"), " and ", Code("seed_runs"), " of a profile in params.yaml repeat runs with further seeds."),
    )


def _row(row: dict[str, Any], values: dict[str, Any], outdated: Mapping[str, str]) -> tuple[Text, ...]:
    label = row_key(row)
    by_seed = row["top1"]["by_seed"]
    spreads = [mean_and_std(row[name]) for name in ("top1", *["topk"] * (values["k"] > 1))]
    first, *further = values["seeds"]
    names = [RowName.of(row, seed) for seed in (None, *further)]
    errors = (
        Opener(f"{by_seed[str(seed)]:.1f}", row_panel(row["table"], name)) if str(seed) in by_seed else NONE
        for seed, name in zip((first, *further), names, strict=True)
    )
    marked = f"{label} {DAGGER}" if is_older("seeds", row["scores"], outdated) else label
    return (table_label(row["table"]), marked, *spreads, f"{len(by_seed)} of {len(values['seeds'])}", *errors)


def _notes(values: dict[str, Any]) -> Iterator[Text]:
    seeds = ", ".join(map(str, values["seeds"]))
    yield (
        f"Errors in per cent on {values['images']:,} validation images, of seeds {seeds}; profile ",
        Code(values["profile"]),
        ". ± is the standard deviation from seed to seed (n − 1). The tables have the first seed's errors. A run "
        "starts from the run with the same seed.",
    )
    missing = [command for row in values["rows"] for command in row["missing"]]
    if few := sum(len(row["top1"]["by_seed"]) < 2 for row in values["rows"]):
        yield f"{few} of {len(values['rows'])} rows have fewer than two seeds, so they have no standard deviation."
    if missing:
        distinct = list(dict.fromkeys(missing))
        rest = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
        yield ("Not run: ", Code(distinct[0]), rest, ". ", Code("vgg-repro run seeds"), " runs them.")
