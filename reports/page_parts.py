"""Blocks that several pages have: the warning that numbers are not comparable, and the way back to the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.experiment.paper_tables import NO_DATA
from pipeline.results.profile_results import Results
from reports.page import Callout, Code, Inline, Link, Paragraph, Strong, Text

DAGGER = "†"  # marks a row that is older than params.yaml
UP_TO_DATE: tuple[Inline, ...] = (Code("vgg-repro run"), " brings them up to date.")
ALL_TABLES = Paragraph(Link("All tables", "README.md"))
FULL = ("paper", "published")  # profiles whose nets, sizes and images are the paper's
DIFFERENCES = {
    "mini": "on other images, with smaller nets and a shorter schedule",
    "evening": "on other images, with smaller nets and a shorter schedule",
    "imagenette": "on ten classes of its images, with a shorter schedule",
}


def comparability_warning(results: Results, table: str = "") -> Callout:
    """Return the warning for pages whose numbers are not comparable with the paper's; it is empty if they are."""
    if table in NO_DATA or (results.profile in FULL and (not results.facts or results.facts["comparable"])):
        return Callout(())
    return Callout((Strong("These numbers are not comparable with the paper's."), " ", *_reason(results)))


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
    again = any(f"scores/{score.replace('@', '-', 1)}.npz has changed" in reason for score in scores)
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
