"""The page of boxes: true and predicted boxes on images, the merging of one image, errors by overlap (appendix A)."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.experiment.targets import LOCATED
from pipeline.results.located_images import BEST, MAKE, LocatedImages
from pipeline.results.profile_results import Results
from reports.page import Block, Code, Heading, Page, Paragraph, Text
from reports.page_parts import ALL_TABLES, outdated_note


def localisation_page(results: Results, shown: LocatedImages, charts: Iterable[Block]) -> Page:
    """Return the page, with its charts."""
    note = outdated_note([LOCATED], results.outdated)
    return (
        Heading(1, "Boxes on images"),
        *[Paragraph(note)] * bool(note),
        Paragraph(_about(shown)),
        *[Paragraph(_without(shown))] * (not shown.images),
        *charts,
        ALL_TABLES,
    )


def _about(shown: LocatedImages) -> Text:
    best = sum(example.kind == BEST for example in shown.examples)
    worst = len(shown.examples) - best
    return (
        "The localiser is ",
        Code(shown.run),
        f". Of {shown.images_counted:,} validation images, the page shows the {best} whose box of the true class at "
        f"the central crop overlaps the true box best, and the {worst} where it does worst. The chosen images are the "
        "extremes, not typical ones. The errors are those of all images. The merging is shown on one image, ",
        Code(shown.merging.id),
        f", of class {shown.classes[str(shown.merging.label)]}: the first image whose first guess is right and whose "
        f"boxes are not all merged into one. Its windows are those of {shown.merging.windows_of}, and the threshold is "
        f"{shown.merging.threshold:g}, which was chosen on training images.",
    )


def _without(shown: LocatedImages) -> Text:
    return ("The photographs are not in this report. On a machine that has the images: ", Code(MAKE), ".")
