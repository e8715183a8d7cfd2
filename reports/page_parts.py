"""Blocks that several pages have: what was run, in what it deviates from the paper, warnings, the way to the index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pipeline.experiment.paper_tables import NO_DATA
from pipeline.experiment.paths import errors_of
from pipeline.experiment.run_names import kind_of
from pipeline.results.profile_results import Results
from pipeline.results.row_choice import RowName
from reports.page import Block, Bullets, Callout, Code, Heading, Inline, Link, Paragraph, Strong, Text

DAGGER = "†"  # marks a row that is older than params.yaml
UP_TO_DATE: tuple[Inline, ...] = (Code("vgg-repro run"), " brings them up to date.")
ALL_TABLES = Paragraph(Link("All tables", "README.md"))
FULL = ("paper", "published")  # profiles whose nets, sizes and images are the paper's
DIFFERENCES = {
    "mini": "on other images, with smaller nets and a shorter schedule",
    "evening": "on other images, with smaller nets and a shorter schedule",
    "imagenette": "on ten classes of its images, with a shorter schedule",
}


def what_was_run(results: Results) -> str:
    """Return what was run on what, in two sentences."""
    facts, grid = results.facts, [run for run in results.summaries if not kind_of(run)]
    if not facts:
        others = " There are results of other data sets." if results.other_sets else ""
        return f"No images are prepared, so no network is trained or scored.{others}"
    tested = f"tested on {facts['val']:,}"
    classes = f"images of {len(facts['classes']):,} classes"
    about = f"The images: {facts['about']}."
    if not grid:
        published = len({record["run"] for record in results.scores if "published" in record})
        if not published:
            return f"No network is trained or scored yet. {about}"
        networks = "1 network" if published == 1 else f"{published} networks"
        return f"{networks} with published weights {'was' if published == 1 else 'were'} {tested} {classes}. {about}"
    extra = len(results.summaries) - len(grid)
    more = f", and {extra:,} more with further seeds or other initial weights" if extra else ""
    trained = f"{_networks(len(grid))} trained on {facts['train']:,} {classes} and {tested} others{more}"
    return f"{trained}. {about}"


def _networks(count: int) -> str:
    return "1 network was" if count == 1 else f"{count or 'No'} networks were"


def deviations_section(results: Results) -> Iterator[Block]:
    """Yield the list of deviations from the paper, each with both values; nothing if there is none."""
    if results.deviations:
        yield Heading(2, "Deviations from the paper")
        yield Paragraph(
            (
                "In brackets: the paper's value. Where the paper does not state it, the brackets say so and have the "
                "choice of the profile ",
                Code("paper"),
                ".",
            )
        )
        items = ((f"{what[0].upper()}{what[1:]}:", ours, paper) for what, ours, paper in results.deviations)
        yield Bullets(tuple((Strong(what), f" {ours} (the paper: {paper})") for what, ours, paper in items))


def comparability_warning(results: Results, table: str = "") -> Callout:
    """Return the warning for pages whose numbers are not comparable with the paper's; it is empty if they are."""
    if table in NO_DATA or (results.profile in FULL and (not results.facts or results.facts["comparable"])):
        return Callout(())
    return Callout((Strong("The error rates are not comparable with the paper's."), " ", *_reason(results)))


def outdated_warning(results: Results) -> Callout:
    """Return the warning that results are older than params.yaml; it is empty if none is."""
    if not results.outdated:
        return Callout(())
    reason = next(iter(results.outdated.values()))
    counted = f" {len(results.outdated)} of {len(results.paths)} results were made with other parameters or images. "
    return Callout((Strong("Older than params.yaml:"), counted, f"First: {reason}. ", *UP_TO_DATE))


def is_older(table: str, scores: Sequence[str], outdated: Mapping[str, str]) -> bool:
    """Return True if a table's row, made from `scores` (mode@run), is outdated.

    So it is if one of them is, if one has been computed again since, or if the table's own method has changed.
    """
    reason = outdated.get(table, "")
    files = {errors_of(score).with_suffix(".npz") for score in scores}
    again = any(f"{path} has changed" in reason for path in files | {path.parent for path in files})
    return bool(outdated.keys() & set(scores)) or again or f"{table}: method.table" in reason


def outdated_note(stages: Sequence[str], outdated: Mapping[str, str]) -> Text:
    """Return the note on a table whose `stages` are older than params.yaml; it is empty if none is."""
    older = [stage for stage in stages if stage in outdated]
    if not older:
        return ()
    lead = Strong(f"{DAGGER} Older than params.yaml:")
    return (lead, " made with other parameters or images. ", f"First: {outdated[older[-1]]}. ", *UP_TO_DATE)


def difference(profile: str) -> str:
    """Return how a profile differs from the paper; an empty string if its nets and sizes are the paper's."""
    return "" if profile in FULL else DIFFERENCES.get(profile, "but not with all of its images, sizes and schedule")


def _reason(results: Results) -> tuple[Inline, ...]:
    if results.profile in FULL:
        return (f"The images: {results.facts['about']}.",)
    return ("The profile ", Code(results.profile), f" runs the paper's method {difference(results.profile)}.")


def row_panel(table: str, row: RowName) -> str:
    """Return the name of the panel that explains a row of a table."""
    return f"explain-{table}-{re.sub(r'[^A-Za-z0-9]+', '-', row.key).strip('-')}"


def run_panel(run: str) -> str:
    """Return the name of the panel that explains a run, or the random weights from which runs start."""
    return f"explain-run-{run}"
