"""The index of a profile's report: what was run, the verdict, the main tables, where the numbers come from, links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.experiment.paper_tables import LOCALISATION, TITLES, number_of
from pipeline.experiment.params import BOXED
from pipeline.results.profile_results import Results
from reports.charts import PAPER_PAGE
from reports.claims_page import claims_summary
from reports.companion.page import LABEL
from reports.flat_files import FLAT
from reports.images_page import has_images_page
from reports.page import Block, Bullets, Code, Heading, Link, Page, Paragraph, Table, Text, left
from reports.page_parts import comparability_warning, deviations_section, outdated_warning, what_was_run
from reports.phrases import NONE, number, published_net, table_label
from reports.table_pages import table_section

ORIGIN = "Where these numbers come from"
SHOWN = ("table3", "table4", "table5", "table6")  # shown whole; the others are linked


def index_page(results: Results, charts: Iterable[Block], has_data_page: bool) -> Page:
    """Return the index; `has_data_page` says whether a page data.md of the prepared images is next to it."""
    return (
        *first_screen(results),
        *charts,
        *_tables(results),
        Heading(2, ORIGIN),
        origin_table(results),
        Heading(2, "All pages"),
        Bullets(tuple(_links(results, has_data_page))),
    )


def first_screen(results: Results) -> Page:
    """Return what the index begins with: what was run, the verdict, the ledger, the deviations from the paper."""
    return (
        Heading(1, ("Very Deep Convolutional Networks, reproduced: profile ", Code(results.profile))),
        outdated_warning(results),
        Paragraph(what_was_run(results)),
        *_comparable(results),
        *_others(results.others),
        *claims_summary(results.claims, bool(comparability_warning(results).text)),
        *deviations_section(results),
    )


def _comparable(results: Results) -> Iterator[Block]:
    """Yield the line that errors are not comparable with the paper's; nothing if they are."""
    if text := comparability_warning(results).text:
        yield Paragraph(text)


def _tables(results: Results) -> Iterator[Block]:
    for name in SHOWN:
        if name in results.tables:
            yield from table_section(results.tables[name], results.outdated)


def _links(results: Results, has_data_page: bool) -> Iterator[Text]:
    yield (Link(LABEL, f"{PAPER_PAGE}.md"), ": what the authors did, what is done here, and where the two differ")
    if results.claims:
        yield (Link("Claims", "claims.md"), ": which of the paper's claims hold here, and how they were tested")
    for name in (*results.tables, *results.other_sets):
        yield (Link(table_label(name), f"{name}.md"), f": {TITLES[name]}")
    yield from _not_run(results)
    if results.seeds:
        yield (Link("Seeds", "seeds.md"), ": mean and standard deviation over the seeds of training")
    if results.summaries:
        yield (Link("Training", "training.md"), ": every run, its error and its learning curve")
    if results.located:
        yield (Link("Boxes on images", "localisation.md"), ": true and predicted boxes, and how boxes are merged")
    if results.other_sets:
        yield (Link("Other data sets in charts", "descriptors.md"), ": classes, examples, and descriptors in a plane")
    if results.guesses:
        yield (Link("Mistakes", "mistakes.md"), ": classes that are confused, and images that are confidently wrong")
    if has_images_page(results):
        yield (Link("Images", "images.md"), ": score map and crops of one image, training crops of another")
    yield (Link("Provenance", "provenance.md"), ": commit, machine and time of every result")
    yield (Link("results.csv", FLAT), ": every error as a row, for plots of your own")
    if has_data_page:
        crops = ", sizes and colours, and training crops" if results.facts["train"] else " and sizes"
        yield (Link("Data", "data.md"), f": the images, their classes{crops}")


def _not_run(results: Results) -> Iterator[Text]:
    """Yield the tables of localisation that are not run, if networks are trained here and their images have boxes."""
    if not results.summaries or (results.facts or {}).get("source") not in BOXED:
        return
    for name in LOCALISATION:
        if name not in results.tables:
            command = Code(f"vgg-repro table {number_of(name)}")
            yield (f"{table_label(name)}, {TITLES[name][0].lower()}{TITLES[name][1:]}: not run; ", command, " runs it")


def _others(names: Sequence[str]) -> Iterator[Block]:
    """Yield a note on the results that are skipped because other images are prepared now."""
    if names:
        why = f"Not shown, because they were computed from other images than those prepared now: {_summed_up(names)}. "
        yield Paragraph((why, Code("dvc repro"), " computes them again."))


def _summed_up(names: Sequence[str]) -> str:
    """Return tables by name, and runs and scores by number: Table 3, Table 4 and 12 runs and scores."""
    tables = [table_label(name) for name in names if name in TITLES]
    rest = len(names) - len(tables)
    return " and ".join([", ".join(tables)] * bool(tables) + [f"{rest} runs and scores"] * bool(rest))


def origin_table(results: Results) -> Table:
    """Return a table of where the numbers come from, without unknown entries."""
    rows = (("profile", results.profile), *_data(results), *_training(results))
    return Table(left("", ""), tuple(row for row in rows if row[1] != NONE))


def _data(results: Results) -> Iterator[tuple[str, Text]]:
    facts = results.facts
    if not facts:
        return
    training = f"{facts['train']:,} training, " if facts["train"] else ""
    yield "data", facts["about"]
    yield "images", f"{training}{facts['val']:,} validation, {len(facts['classes'])} classes"
    yield "manifest", Code(facts["manifest"][:16])
    if facts["mean_rgb"]:
        yield "mean RGB", ", ".join(number(level) for level in facts["mean_rgb"])


def _training(results: Results) -> Iterator[tuple[str, Text]]:
    """Yield weights, seeds and precisions."""
    published = {record["run"]: record["published"] for record in results.scores if "published" in record}
    for run, record in sorted(published.items()):
        yield f"published weights, {run}", published_net(record)
    yield "seed", _listed(record["seed"] for record in results.summaries.values())
    for what, group in _groups(results):
        yield f"precision, {what}", _listed(record["precision"] for record in group if "precision" in record)


def _groups(results: Results) -> tuple[tuple[str, list[dict[str, Any]]], ...]:
    return (("training", list(results.summaries.values())), ("scoring", results.scores))


def _listed(values: Iterator[Any]) -> str:
    """Return the distinct values, sorted and separated by commas, or a dash."""
    return ", ".join(sorted({str(value) for value in values})) or NONE
