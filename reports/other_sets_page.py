"""Tables 11 and 12: our measures on other data sets beside the paper's, and the paper's tables as printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.experiment.other_sets import MEASURES, PROTOCOLS
from pipeline.experiment.paper_tables import printed
from pipeline.results.other_sets import unconverged
from pipeline.results.row_choice import RowName
from reports.page import Block, Code, Judged, Opener, Paragraph, Strong, Table, Text, join, left, right
from reports.page_parts import DAGGER, outdated_note, row_panel
from reports.phrases import NONE, not_comparable, published_file, with_spread
from vgg.judgement import Verdict

HEADINGS = {  # of the printed tables' columns
    "voc2007_map": "VOC-2007, mean AP", "voc2012_map": "VOC-2012, mean AP", "caltech101_recall": "Caltech-101, recall",
    "caltech256_recall": "Caltech-256, recall", "map": "VOC-2012 actions, mean AP",
}  # fmt: skip
SHORT = {"VGG Net-D (16 layers)": "D", "VGG Net-E (19 layers)": "E", "VGG Net-D & Net-E": "D & E"}


def other_sets_body(values: Mapping[str, Any], outdated: Mapping[str, str]) -> Iterator[Block]:
    """Yield Table 11 or 12: a row for each data set of ours or of the paper, then the paper's table and notes."""
    yield from incomparable([values])
    yield _ours_and_paper(values, outdated)
    if commands := list(_to_run(values)):
        yield Paragraph(("To compute what is not run: ", *join("; ", commands), "."))
    stages = [values["table"], *(stage for row in values["rows"] if row["ours"] for stage in row["scores"])]
    if note := outdated_note(stages, outdated):
        yield Paragraph(note)
    yield from (Paragraph(note) for note in _notes(values))
    yield Paragraph((Strong("The paper's table."), " A star marks numbers of networks trained on more images."))
    yield _printed(values["table"])


def incomparable(tables: Iterable[Mapping[str, Any]]) -> Iterator[Paragraph]:
    """Yield which numbers of each table that stand beside the paper's are not comparable with them, and why."""
    for values in tables:
        run = {row["set"] for row in values["rows"] if row["ours"]}
        reasons = [
            f"{one['title']} ({why})"
            for name, one in values["sets"].items() if name in run and (why := not_comparable(one, values["profile"]))
        ]  # fmt: skip
        if reasons:
            yield Paragraph((Strong("Not comparable with the paper's numbers:"), f" {'; '.join(reasons)}."))


def _methods(values: Mapping[str, Any]) -> list[str]:
    """Return the methods that are the paper's own, in order."""
    return list(dict.fromkeys(m for row in values["rows"] if (m := row["label"]["method"]).startswith("VGG")))


def _ours_and_paper(values: Mapping[str, Any], outdated: Mapping[str, str]) -> Table:
    methods = _methods(values)
    heads = [SHORT.get(method, method.removeprefix("VGG Net-D & Net-E, ")) for method in methods]
    columns = (*left("data set", "measure"), *(column for head in heads for column in right(f"paper, {head}", head)))
    cells = {(row["label"]["data set"], row["label"]["method"]): row for row in values["rows"]}
    rows = []
    for title in dict.fromkeys(row["label"]["data set"] for row in values["rows"]):
        known = [cells[title, method] for method in methods]
        rows.append((_title(title, known, outdated), _measure(known), *_cells(values["table"], known)))
    return Table(columns, tuple(rows))


def _title(title: str, known: Sequence[Mapping[str, Any]], outdated: Mapping[str, str]) -> Text:
    older = any(stage in outdated for row in known if row["ours"] for stage in row["scores"])
    return f"{title} {DAGGER}" if older else title


def _measure(known: Sequence[Mapping[str, Any]]) -> Text:
    title = known[0]["label"]["data set"]
    protocol = next(one for one in PROTOCOLS.values() if one.title == title)
    return f"{MEASURES[protocol.measure]}, {protocol.counted}"


def _cells(table: str, known: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """Yield the paper's number and ours of each method."""
    for row in known:
        yield _number(row["paper"]) if row["paper"] else NONE
        panel = row_panel(table, RowName.of(row))
        yield Opener(_number(row["ours"]), panel) if row["ours"] else Judged(Verdict.NOT_RUN)


def _to_run(values: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the data sets whose numbers are not all run, each with the commands that are missing."""
    commands: dict[str, list[str]] = {}
    for row in values["rows"]:
        if not row["ours"]:
            commands.setdefault(row["label"]["data set"], []).extend(row["missing"])
    for title, missing in commands.items():
        if missing:
            yield (f"{title}: ", *join(", ", map(Code, dict.fromkeys(missing))))


def _number(values: Mapping[str, Any]) -> str:
    return with_spread(values["value"], values["std"])


def _printed(table: str) -> Table:
    rows = printed(table)
    columns = (*left("method"), *right(*(HEADINGS[name] for name in rows[0] if name != "method")))
    return Table(columns, tuple(tuple(value or NONE for value in row.values()) for row in rows))


def _notes(values: Mapping[str, Any]) -> Iterator[Text]:
    numbers = [row[whose] for row in values["rows"] for whose in ("paper", "ours") if row[whose]]
    spread = any(one["std"] is not None for one in numbers)
    yield (
        "Per cent. A linear SVM per class on features of D-jitter and E-jitter, not trained further; profile ",
        Code(values["profile"]),
        *((". A ± is the standard deviation over the splits.",) if spread else (".",)),
    )
    for name, one in values["sets"].items():
        if not one["about"]:
            continue
        scales, how = ", ".join(map(str, one["scales"])), "averaged" if one["aggregate"] == "average" else "stacked"
        yield (
            Strong(one["title"]), " (", Code(name), f"): {one['about']}. Descriptors {how} over Q = {scales}.",
            *(" It is not a data set of the paper.",) * (one["column"] is None),
        )  # fmt: skip
    if published := values["published"]:
        yield ("Published weights: ", *join("; ", [(f"{run} is ", *published_file(r)) for run, r in published.items()]))
    failed = [
        f"{row['label']['data set']}, {row['label']['method']} (C = {', '.join(costs)})"
        for row in values["rows"] if row["ours"] and (costs := unconverged(row["ours"]))
    ]  # fmt: skip
    if failed:
        yield f"SVMs did not converge: {'; '.join(failed)}."
