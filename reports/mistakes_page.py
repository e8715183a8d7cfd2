"""The page of the mistakes of one net: which classes it confuses, and which images it gets wrong most confidently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline.results.profile_results import Results
from pipeline.results.ranks import Guesses
from reports.page import Block, Code, Heading, Inline, Page, Paragraph, Strong, Table, Text, join, left, right
from reports.page_parts import ALL_TABLES, comparability_warning, outdated_note
from reports.phrases import table_label


def mistakes_page(results: Results, charts: Iterable[Block]) -> Page:
    """Return the page, with its charts; the results must have guesses."""
    assert results.guesses is not None
    table, guesses = results.guesses
    note = outdated_note([table], results.outdated)
    return (
        Heading(1, "Mistakes"),
        comparability_warning(results),
        *[Paragraph(note)] * bool(note),
        Paragraph(_about(table, guesses)),
        *charts,
        *_wrong(guesses, results.facts["classes"]),
        ALL_TABLES,
    )


def _about(table: str, guesses: Guesses) -> str:
    images, wrong = len(guesses.labels), int((guesses.classes[:, 0] != guesses.labels).sum())
    return (
        f"The guesses are those of the best row of {table_label(table)} ({guesses.row}): of {images:,} validation "
        f"images, it gets {wrong:,} wrong."
    )


def _wrong(guesses: Guesses, names: Sequence[str]) -> Iterator[Block]:
    """Yield the table of the images that are most confidently wrong, if there are any."""
    if not len(guesses.wrong):
        return
    yield Heading(2, "Images that are most confidently wrong")
    yield Paragraph("Each class with its probability in per cent; the true class is bold.")
    columns = (*left("image", "true class"), *right("first guess"), *left("next guesses"))
    images = enumerate(guesses.wrong.tolist())
    yield Table(columns, tuple(_image(guesses, number, image, names) for number, image in images))


def _image(guesses: Guesses, number: int, image: int, names: Sequence[str]) -> tuple[Text, ...]:
    """Return the row of the image `image`, which is `number` in the list of the most confidently wrong."""
    true = int(guesses.labels[image])
    pairs = zip(guesses.classes[image].tolist(), guesses.probabilities[image].tolist(), strict=True)
    shown = [_guess(names[label], probability, label == true) for label, probability in pairs]
    name: Text = Code(guesses.ids[number]) if guesses.ids else f"number {image}"
    return (name, names[true], shown[0], join(", ", shown[1:]))


def _guess(name: str, probability: float, right: bool) -> tuple[Inline, ...]:
    return (Strong(name) if right else name, f" {100 * probability:.1f}")
