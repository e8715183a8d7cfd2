"""The page of other data sets besides their tables: classes, examples, and descriptors in a plane (appendix B)."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.experiment.other_sets import shown_stage
from pipeline.results.profile_results import Results
from reports.other_sets_page import incomparable
from reports.page import Block, Code, Heading, Page, Paragraph, Text, join
from reports.page_parts import ALL_TABLES, outdated_note


def descriptors_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page, with its charts."""
    sets = [name for table in results.other_sets.values() for name, one in table["sets"].items() if one["manifest"]]
    note = outdated_note([*results.other_sets, *map(shown_stage, sets)], results.outdated)
    without = [name for name in sets if name not in results.shown_sets or not results.shown_sets[name].images]
    return (
        Heading(1, "Other data sets in charts"),
        *[Paragraph(note)] * bool(note),
        *incomparable(results.other_sets.values()),
        Paragraph(
            "The SVMs are those of Tables 11 and 12 on the descriptors of D and E, side by side; where examples are "
            "objects with boxes, on those of the image and of the box. The numbers of classes are of all test images "
            "and splits. Where a set is split several times at random, the examples, their percentages and the "
            "descriptors in a plane are of the first split alone. The examples are extremes, not typical ones."
        ),
        *[Paragraph(_without(without))] * bool(without),
        *charts,
        ALL_TABLES,
    )


def _without(names: list[str]) -> Text:
    commands = join(", ", [(Code(f"dvc repro {shown_stage(name)}"),) for name in names])
    return ("Not all images are in this report. On a machine that has the data sets: ", *commands, ".")
