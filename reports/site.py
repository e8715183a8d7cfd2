"""The report as one HTML file: all pages of a profile as sections, charts and style within, nothing from a network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pipeline.datasets.facts import Facts
from pipeline.experiment.paper_tables import TITLES
from pipeline.experiment.params import Params
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import write_text
from reports.charts import IMAGES, INDEX, OTHER_SETS_PAGE, PAPER_PAGE, Chart, charts_on, draw_charts
from reports.claims_page import rules_page
from reports.data_page import data_summary
from reports.explain_panels import explain_panels
from reports.html import Document, html
from reports.index_page import first_screen, origin_table
from reports.page import Callout, Code, Figure, Heading, Page, Paragraph, plain_text
from reports.page_parts import ALL_TABLES
from reports.pages import has_data_page, other_pages, shown_results
from reports.panel_parts import Panel
from reports.phrases import table_label
from reports.provenance_page import PROVENANCE, is_kept
from reports.svg import inlined, jpeg_address, repeated

FILE = "report.html"
PAGE = "page"  # the section of a document with a single page
# In the list of sections, where the heading is longer:
LABELS = {
    INDEX: "Overview", PAPER_PAGE: "The paper", "claims": "How tested", IMAGES: "Images",
    OTHER_SETS_PAGE: "Other data sets", PAGE: "Top",
}  # fmt: skip


class Section(NamedTuple):
    """A page as a section of the file; its name is its id."""

    name: str
    page: Page


def write_site(
    profile: str,
    out: Path,
    outdated: Mapping[str, str] | None = None,
    params: Params | None = None,
    kept: Path | None = None,
) -> tuple[Results, Path]:
    """Write the report of `profile` as one file to `out`/`profile`. Return the results and its path.

    The pages and images that the report cannot make again are in the folder `kept`, by default that of the file. The
    other arguments and Failure are as in `shown_results`.
    """
    results, path = shown_results(profile, outdated, params), out / profile / FILE
    with tempfile.TemporaryDirectory() as scratch:
        charts = draw_charts(results, Path(scratch), ".svg")
        drawn = {chart.figure.path: _chart(Path(scratch), chart.figure) for chart in charts}
    kept = kept or path.parent
    sections = list(_sections(results, charts, kept))

    def image(figure: Figure) -> Markup:
        if figure.again:
            return repeated(drawn[figure.path], Path(figure.path).stem)
        return drawn.get(figure.path) or _photograph(kept / figure.path, figure.alt)

    panels = explain_panels(results, params, outdated if params.profile == profile else None) if params else []
    anchors = {f"{section.name}.md": section.name for section in sections}
    document = Document(anchors, image, panels={panel.name for panel in panels})
    write_text(path, _document(sections, panels, document))
    return results, path


def single_page(page: Page) -> str:
    """Return a page without figures as an HTML document of its own."""
    return _document([Section(PAGE, page)], [], Document({}, lambda figure: Markup()))


def _document(sections: Sequence[Section], panels: Sequence[Panel], document: Document) -> str:
    """Return the sections and panels as one HTML document. Below the first section, headings are demoted."""
    loader = PackageLoader("reports")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    below = replace(document, depth=1)
    shown = [
        {
            "name": name,
            "label": _label(name, page),
            "content": html(page, below if name != sections[0].name else document),
        }
        for name, page in sections
    ]
    opened = [{"name": name, "label": label, "content": html(page, below)} for name, label, page in panels]
    template = environment.get_template("report.html.j2")
    return template.render(title=_title(sections[0].page), sections=shown, panels=opened)


def _sections(results: Results, charts: Sequence[Chart], folder: Path) -> Iterator[Section]:
    """Yield the index and the other pages, without what the index has said and without links back to it."""
    yield Section(INDEX, (*first_screen(results), *charts_on(INDEX, charts)))
    for name, page in other_pages(results, charts):
        if name == "claims":
            page = rules_page(results.claims)
        elif name == PROVENANCE:
            page = _provenance(results, page, folder)
        yield Section(name, tuple(block for block in page if block != ALL_TABLES and not isinstance(block, Callout)))
    if results.facts:
        yield Section("data", data_summary(Facts(**results.facts), has_data_page(results, folder)))


def _provenance(results: Results, page: Page, folder: Path) -> Page:
    """Return the page with the origin of the images and weights, without records that another machine has."""
    heading, *rest = page
    if is_kept(results, folder / f"{PROVENANCE}.md"):
        rest = [
            Paragraph(("Recorded on another machine: see the page ", Code(f"{PROVENANCE}.md"), " of this profile."))
        ]
    return (heading, origin_table(results), *rest)


def _label(name: str, page: Page) -> str:
    """Return a section's name in the list of sections."""
    return table_label(name) if name in TITLES else LABELS.get(name) or _title(page)


def _title(page: Page) -> str:
    return next(plain_text(block.text) for block in page if isinstance(block, Heading))


def _chart(folder: Path, figure: Figure) -> Markup:
    file = (folder / figure.path).with_suffix(".svg")
    return inlined(file.read_text(), file.stem, figure.alt)


def _photograph(path: Path, alt: str) -> Markup:
    """Return an image file within the page, as JPEG; its words if there is no such file."""
    if not path.exists():
        return Markup("<p>{}</p>").format(alt)
    with Image.open(path) as image:
        form = Markup('<img src="{}" alt="{}" width="{}" height="{}">')
        return form.format(jpeg_address(image), alt, *image.size)
