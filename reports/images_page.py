"""The page of what one net sees: score map and crops of one image, training crops of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.experiment.targets import ILLUSTRATED, ILLUSTRATIONS
from pipeline.results.illustration_data import padding_effect
from pipeline.results.illustrations import MAKE, Illustrations
from pipeline.results.profile_results import Results
from reports.page import Block, Code, Heading, Inline, Page, Paragraph
from reports.page_parts import ALL_TABLES, outdated_note

READ_MAP = (
    "Dense evaluation averages the map and that of the mirror image, so its posterior is not the mean of the cells "
    "that are shown. The middle one of the 5 x 5 crops may be a pixel beside the centre crop."
)


def has_images_page(results: Results) -> bool:
    """Return whether there are illustrations, or scores from whose nets they can be made."""
    return bool(results.illustrations or results.guesses)


def images_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page, with its charts; or, if nothing is computed yet, the command that does so."""
    note = outdated_note([ILLUSTRATIONS], results.outdated)
    shown = results.illustrations
    return (
        Heading(1, "What the network sees"),
        *[Paragraph(note)] * bool(note),
        *(_about(shown, results) if shown else _missing()),
        *charts,
        ALL_TABLES,
    )


def _missing() -> Iterator[Block]:
    needs = ("It needs the weights of ", Code(ILLUSTRATED), " and its scores.")
    yield Paragraph(("Nothing is computed yet. To compute it: ", Code(MAKE), ". ", *needs))


def _about(shown: Illustrations, results: Results) -> Iterator[Block]:
    image, (true, other) = shown.scored, shown.classes
    whose = "with published weights" if shown.training is None else "trained here"
    yield Paragraph(
        (
            *("The network is ", Code(shown.run), f", {whose}. The validation image is ", Code(image.id)),
            f" of class {true}, rescaled to Q = {image.test_scale} ({image.width} x {image.height} pixels). ",
            *_choice(shown),
        )
    )
    yield Paragraph(
        f"Dense evaluation gives class {true} a posterior of {100 * image.dense.true:.0f} % and class {other} one of "
        f"{100 * image.dense.other:.0f} %. The centre crop gives them {100 * image.centre.true:.0f} % and "
        f"{100 * image.centre.other:.0f} %. {_difference(shown)} {READ_MAP}"
    )
    if not shown.images:
        yield Paragraph(
            (
                "The photographs are not in this report: the score map is drawn without its image, and training crops "
                "and scales are not shown. On a machine that has the images: ",
                Code(MAKE),
                ".",
            )
        )


def _choice(shown: Illustrations) -> tuple[Inline, ...]:
    image = shown.scored
    if image.dense_right and not image.centre_right:
        return (
            "In the order of the seed, it is the first that dense evaluation gets right and the centre crop wrong.",
        )
    if image.dense_right:
        return ("It is the first in the order of the seed; no image was found that only the centre crop gets wrong.",)
    return ("It is the first in the order of the seed; dense evaluation gets no image right.",)


def _difference(shown: Illustrations) -> str:
    """Return how far map and crops are apart, as a sentence."""
    return f"At the same places, map and crops are {padding_effect(shown.scored):.1f} points apart on average."
