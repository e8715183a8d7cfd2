"""The page itself: what it is about, its words, then each section of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.experiment.paper_facts import ADDRESS, JITTERED, PUBLISHED, TITLE
from pipeline.results.profile_results import Results
from reports.charts import Chart
from reports.companion import appendices, experiments, networks, testing, training
from reports.companion.parts import unbroken
from reports.page import Block, Bullets, Code, Heading, Link, Page, Paragraph, Strong
from reports.page_parts import ALL_TABLES, comparability_warning, outdated_warning, what_was_run

LABEL = "The paper, section by section"


def companion_page(results: Results, charts: Sequence[Chart]) -> Page:
    """Return the page; `charts` are all that are drawn."""
    return tuple(map(unbroken, _blocks(results, charts)))


def _blocks(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    yield Heading(1, LABEL)
    yield from _beginning(results)
    yield from networks.architecture(results)
    yield from networks.configurations(results)
    yield from networks.discussion(results, charts)
    yield from training.training(results, charts)
    yield from testing.testing(results, charts)
    yield from training.implementation(results)
    yield from experiments.data(results)
    yield from experiments.one_scale(results, charts)
    yield from experiments.several_scales(results)
    yield from experiments.crops(results)
    yield from experiments.fusion(results, charts)
    yield from experiments.comparison(results)
    yield from appendices.localisation(results)
    yield from appendices.features(results)
    yield ALL_TABLES


def _beginning(results: Results) -> Iterator[Block]:
    yield Paragraph(
        (
            "This page is for reading the paper in a group: ",
            Link(TITLE, ADDRESS),
            f" ({PUBLISHED}). For each section it says what the authors did, what this repository does, and where the "
            "two differ. The networks, images and results that it shows are those of the profile ",
            Code(results.profile),
            ".",
        )
    )
    yield Paragraph(what_was_run(results))
    yield outdated_warning(results)
    yield comparability_warning(results)
    yield Paragraph("Words used on this page:")
    yield Bullets(tuple((Strong(word), f": {meaning}") for word, meaning in _words(results)))


def _words(results: Results) -> Iterator[tuple[str, str]]:
    yield "S", "the training scale. An image is rescaled so that its shorter side has S pixels, then a crop is cut out."
    yield "Q", "the test scale, which is the same for a test image."
    yield "Jittered S", f"S is drawn at random between {JITTERED[0]} and {JITTERED[1]}, anew for each image and epoch."
    yield "Dense evaluation", "the network runs over a whole image and gives a map of class scores, which is averaged."
    yield "Multi-crop evaluation", "the network sees many crops of an image, and its answers are averaged."
    yield "LRN", "local response normalisation, which divides a value by the strength of its neighbouring channels."
    yield "Posteriors", "the probabilities of the classes, which the softmax returns."
    if results.settings and results.settings.net.size_ratio != 1:
        ratio = results.settings.net.size_ratio
        yield "Pixels", f"S and Q are written as in the paper. This profile multiplies all lengths by {ratio}."
