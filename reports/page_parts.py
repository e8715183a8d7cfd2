"""Blocks that several pages have: the warning that numbers are not comparable, and the way back to the index."""

from __future__ import annotations

from pipeline.experiment.paper_tables import NO_DATA
from pipeline.results.profile_results import Results
from reports.page import Callout, Code, Inline, Link, Paragraph, Strong

ALL_TABLES = Paragraph(Link("All tables", "README.md"))
FULL = ("paper", "published")  # profiles whose nets, sizes and images are the paper's
DIFFERENCES = {
    "mini": "on other images, with smaller nets and a shorter schedule",
    "imagenette": "on ten classes of its images, with a shorter schedule",
}


def comparability_warning(results: Results, table: str = "") -> Callout:
    """Return the warning for pages whose numbers are not comparable with the paper's; it is empty if they are."""
    if table in NO_DATA or (results.profile in FULL and (not results.facts or results.facts["comparable"])):
        return Callout(())
    return Callout((Strong("These numbers are not comparable with the paper's."), " ", *_reason(results)))


def _reason(results: Results) -> tuple[Inline, ...]:
    if results.profile in FULL:
        return (f"The images: {results.facts['about']}.",)
    difference = DIFFERENCES.get(results.profile, "not with its images, sizes and schedule together")
    return ("The profile ", Code(results.profile), f" runs the paper's method {difference}.")
