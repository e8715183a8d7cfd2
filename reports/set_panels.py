"""The panels of Tables 11 and 12: each number of ours, and once each the features and data sets that several share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.experiment.other_sets import features_stage
from pipeline.results.explanation import ExplainedSet, Explanation
from reports.explain_page import DIGITS, gaps, published_section
from reports.page import Bullets, Callout, Code, Heading, Judged, Opener, Page, Text, join
from reports.page_parts import row_panel, run_panel
from reports.panel_parts import Panel, Places, chain_facts, facts_table, last_facts, made_text
from reports.phrases import not_comparable, number, table_label, with_spread
from reports.set_explain_page import (
    AGAIN,
    counts_text,
    described_text,
    division_text,
    measure_text,
    set_images,
    svm_text,
)
from vgg.judgement import Verdict


class ExplainedNumber(NamedTuple):
    """A number of ours in Table 11 or 12, with the command that prints its explanation."""

    explanation: Explanation
    of_set: ExplainedSet
    command: str


def set_panels(explained: Sequence[ExplainedNumber], places: Places) -> Iterator[Panel]:
    """Yield the panels of the numbers, then those of their features and data sets."""
    yield from (_of_number(one, places) for one in explained)
    yield from _of_features(explained, places)
    for name, one in {one.of_set.name: one for one in explained}.items():
        title = f"Data set {name}"
        known = set_images(one.explanation, one.of_set)
        yield Panel(_set_panel(name), title, (Heading(1, title), *known[1:]))


def _of_number(explained: ExplainedNumber, places: Places) -> Panel:
    e, of_set, _ = explained
    title, unknown = f"{table_label(e.table)}, row {e.row.name}", tuple(gaps(e, ""))
    page: Page = (
        Heading(1, title),
        facts_table(_number_facts(explained, places)),
        *[Callout(AGAIN)] * of_set.again,
        *published_section(e),
    )
    below: Page = (Heading(2, "Not known here"), Bullets(unknown)) if unknown else ()
    return Panel(row_panel(e.table, e.row), title, (*page, *below))


def _number_facts(explained: ExplainedNumber, places: Places) -> Iterator[tuple[str, Text]]:
    """Yield the measure and, of what it was computed from, what this number does not share, and openers."""
    e, of_set, command = explained
    yield "measure, %", _measure(e, of_set)
    yield "examples", division_text(of_set)
    yield from _splits(dict(of_set.ours or {}))
    if of_set.record:
        yield "classification", svm_text(of_set.record)
        yield "descriptor", described_text(of_set)
        yield "features", join(", ", (_features_opener(of_set.name, run) for run in e.row.runs))
    yield from chain_facts(e)
    yield "images", Opener(counts_text(e, of_set), _set_panel(of_set.name))
    yield "SVMs trained", made_text(e.made.get(of_set.stage), places)
    yield from last_facts(e, command, places)


def _measure(e: Explanation, of_set: ExplainedSet) -> Text:
    ours, paper = dict(of_set.ours or {}), of_set.paper
    text = f"{measure_text(of_set)}: {with_spread(ours['value'], ours['std'])}"
    if not paper:
        return text
    text += f"; the paper: {with_spread(paper['value'], paper['std'])}"
    if e.comparable:
        return text
    return (f"{text}, ", Judged(Verdict.NOT_COMPARABLE), f": {not_comparable(of_set.about, e.profile)}")


def _splits(ours: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    """Yield the examples of each split, the measure at each C on those to choose it, the chosen C, and the result."""
    for place, split in enumerate(ours["splits"], 1):
        fit, tune, test = (f"{split['examples'][part]:,}" for part in ("fit", "tune", "test"))
        tuning = ", ".join(f"C {cost}: {number(value)} %" for cost, value in split["tuning"].items())
        yield (
            f"split {place}" if len(ours["splits"]) > 1 else "split",
            f"{fit} examples to train on, {tune} to choose C, {test} to test. {tuning}; chosen C: {split['cost']:g}. "
            f"Result: {number(split['value'])} %",
        )


def _set_panel(name: str) -> str:
    return f"dataset-{name}"


def _features_panel(name: str, run: str) -> str:
    return f"features-{name}-{run}"


def _features_opener(name: str, run: str) -> Opener:
    return Opener(features_stage(name, run), _features_panel(name, run))


def _of_features(explained: Sequence[ExplainedNumber], places: Places) -> Iterator[Panel]:
    """Yield the panel of each data set's features by each net once."""
    known = {
        (of_set.name, run): (net, e.made.get(features_stage(of_set.name, run)))
        for e, of_set, _ in explained if of_set.record for run, net in of_set.record["nets"].items()
    }  # fmt: skip
    for (name, run), (net, made) in known.items():
        title = f"Features {features_stage(name, run)}"
        facts = facts_table(_features_facts(run, net, made, places))
        yield Panel(_features_panel(name, run), title, (Heading(1, title), facts))


def _features_facts(
    run: str, net: Mapping[str, Any], made: Mapping[str, Any] | None, places: Places
) -> Iterator[tuple[str, Text]]:
    yield "network", Opener(run, run_panel(run))
    yield "weights, SHA-256", Code(net["weights_sha256"][:DIGITS])
    yield "precision", net["precision"]
    yield "features, SHA-256", Code(net["features_sha256"][:DIGITS])
    yield "computed", made_text(made, places)
