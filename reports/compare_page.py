"""The page of two reproductions side by side, and the same as rows for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from pipeline.results.row_choice import row_names
from pipeline.results.side_by_side import (
    ComparedCell,
    ComparedMeasure,
    ComparedReproduction,
    Difference,
    SideBySide,
)
from reports.flat_files import rows_text
from reports.page import Block, Callout, Code, Heading, Page, Paragraph, Strong, Table, Text, left, right
from reports.phrases import NONE, number, p_value, signed, table_label

NAMES = ("A", "B")  # of the sides
COLUMNS = tuple(column.name for column in fields(ComparedCell))
MANY = 30  # parameters; of more, the first are shown


def compare_page(compared: SideBySide) -> Page:
    """Return the page: the verdict, the two sides, what differs, every error, how they were tested."""
    return (
        Heading(1, "Two reproductions compared"),
        Paragraph(Strong(compared.verdict)),
        _sides(compared),
        *_outdated(compared),
        *_parameters(compared),
        *_claims(compared),
        *_errors(compared),
        *_measures(compared),
    )


def _sides(compared: SideBySide) -> Table:
    sides = (compared.first, compared.second)
    rows: list[tuple[Text, ...]] = [
        ("results", *(Code(side.place) for side in sides)),
        ("profile", *(Code(side.profile) for side in sides)),
        ("images", *(side.images for side in sides)),
        ("seed", *(_seed(side) for side in sides)),
        ("manifest", *(Code(", ".join(value[:16] for value in sorted(side.manifests))) for side in sides)),
    ]
    return Table(left("", *NAMES), tuple(rows))


def _seed(side: ComparedReproduction) -> str:
    """Return the seed of the tables, and that further ones are not compared."""
    seed = next((table["seed"] for table in side.tables.values() if table.get("seed") is not None), None)
    rest = f", the first of {len(side.seeds)}; the others are not compared" if len(side.seeds) > 1 else ""
    return NONE if seed is None else f"{seed}{rest}"


def _outdated(compared: SideBySide) -> Iterator[Block]:
    for name, side in zip(NAMES, (compared.first, compared.second), strict=True):
        if side.outdated:
            yield Callout(
                f"{side.outdated} results of {name} were made with other parameters or images than its params.yaml has."
            )


def _parameters(compared: SideBySide) -> Iterator[Block]:
    yield Heading(2, "Parameters that differ")
    if compared.parameters is None:
        unknown = [name for name, side in zip(NAMES, _both(compared), strict=True) if side.parameters is None]
        yield Paragraph(f"Unknown: there is no params.yaml with the results of {' and '.join(unknown)}.")
    elif not compared.parameters:
        yield Paragraph("None.")
    else:
        yield _differences("parameter", compared.parameters[:MANY])
        if len(compared.parameters) > MANY:
            rest = len(compared.parameters) - MANY
            yield Paragraph(("And ", f"{rest} more; all are in ", Code("--format json"), "."))


def _both(compared: SideBySide) -> tuple[ComparedReproduction, ComparedReproduction]:
    return compared.first, compared.second


def _claims(compared: SideBySide) -> Iterator[Block]:
    yield Heading(2, "Claims whose verdicts differ")
    unknown = [name for name, side in zip(NAMES, _both(compared), strict=True) if not side.claims]
    if unknown:
        yield Paragraph(f"Unknown: the claims of {' and '.join(unknown)} are not tested.")
    elif compared.claims:
        yield _differences("claim", compared.claims)
    else:
        yield Paragraph("None.")


def _differences(what: str, rows: list[Difference]) -> Table:
    return Table(left(what, *NAMES), tuple((row.what, row.first, row.second) for row in rows))


def _errors(compared: SideBySide) -> Iterator[Block]:
    yield Heading(2, "Errors in per cent")
    if compared.cells:
        columns = (
            *left("error"), *right(*NAMES), *left("B − A (95 % interval)"),
            *right("only A / only B wrong", "p", "p, adjusted"), *left("differs"),
        )  # fmt: skip
        names = _names(compared.first)
        yield Table(columns, tuple(_row(cell, names, cell in compared.beyond) for cell in compared.cells))
    only = compared.only_run
    if any(only.values()):
        yield Paragraph(f"Run on one side alone: {only['first']} errors in A, {only['second']} in B.")
    yield from (Paragraph(text) for text in _how(compared))


def _measures(compared: SideBySide) -> Iterator[Block]:
    """Yield the measures of other data sets, if both have some."""
    if not compared.measures:
        return
    yield Heading(2, "Measures of other data sets in per cent")
    yield Paragraph(compared.verdict_on_measures)
    columns = (*left("measure"), *right(*NAMES, "B − A"), *left("same images"))
    yield Table(columns, tuple(_measure(one) for one in compared.measures))


def _measure(one: ComparedMeasure) -> tuple[Text, ...]:
    difference = "equal" if one.first == one.second else signed(one.second - one.first)
    same = "yes" if one.same_images else "no"
    return (f"{table_label(one.table)}: {one.row}", number(one.first), number(one.second), difference, same)


def _names(side: ComparedReproduction) -> dict[tuple[str, str], str]:
    """Return the name of each row of the tables, by table and key."""
    rows = ((name, row) for name, table in side.tables.items() for row in row_names(table, {}))
    return {(name, row.key): row.name for name, row in rows}


def _row(cell: ComparedCell, names: Mapping[tuple[str, str], str], beyond: bool) -> tuple[Text, ...]:
    equal = cell.paired and not (cell.only_first_wrong or cell.only_second_wrong)
    low, difference, high = map(signed, (cell.low, cell.difference, cell.high))
    changed = f"{cell.only_first_wrong:,} / {cell.only_second_wrong:,}" if cell.paired else NONE
    return (
        f"{table_label(cell.table)}: {names[cell.table, cell.row]}, top-{cell.k}",
        number(cell.first),
        number(cell.second),
        "equal" if equal else f"{difference} ({low} to {high}){'' if cell.paired else ', unpaired'}",
        changed,
        p_value(cell.p),
        p_value(cell.p_holm),
        "yes" if beyond else "no" if equal else "within chance",
    )


def _how(compared: SideBySide) -> Iterator[Text]:
    """Yield how the errors were tested."""
    kinds = {cell.paired for cell in compared.cells}
    if True in kinds:
        yield (
            "Paired over the same images: McNemar's exact test. Images that are not independent of each other, such as "
            "those of one typeface, count as one unit. "
        )
    if False in kinds:
        yield (
            "Unpaired, where the images differ or the ranks of single images are not known: Newcombe's interval and "
            "Fisher's exact test, as if all images were independent. They see less than a paired test."
        )
    if kinds:
        yield (
            "A result that several tables repeat is compared once. p is adjusted for the number of errors by Holm's "
            "method. The tests count images, not seeds: networks that "
            "are trained again with another seed differ by more than these intervals say."
        )


def compare_csv(compared: SideBySide) -> str:
    """Return every compared error as a row of CSV with a heading."""
    return rows_text(COLUMNS, compared.cells)
