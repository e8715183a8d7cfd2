"""The report: every page and chart of a profile, rendered from its JSON and CSV alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import Failure
from pipeline.experiment.paper_tables import TITLES
from pipeline.experiment.params import Params
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import write_text
from reports.chart_style import MADE_BY
from reports.charts import (
    BOXES,
    CHARTS,
    IMAGES,
    INDEX,
    MISTAKES,
    OTHER_SETS_PAGE,
    PAPER_PAGE,
    TRAINING,
    Chart,
    charts_on,
    draw_charts,
)
from reports.claims_page import claims_page
from reports.companion.page import companion_page
from reports.descriptors_page import descriptors_page
from reports.flat_files import FLAT, csv_text
from reports.images_page import has_images_page, images_page
from reports.index_page import index_page
from reports.localisation_page import localisation_page
from reports.markdown import markdown
from reports.mistakes_page import mistakes_page
from reports.page import Callout, Page
from reports.page_parts import ALL_TABLES, comparability_warning
from reports.provenance_page import PROVENANCE, is_kept, provenance_page
from reports.seeds_page import seeds_page
from reports.table_pages import table_page
from reports.training_page import training_page

OTHERS = (
    PAPER_PAGE,
    "seeds",
    "claims",
    TRAINING,
    MISTAKES,
    IMAGES,
    BOXES,
    OTHER_SETS_PAGE,
)  # pages besides those of the tables
FILES = (*(f"{name}.md" for name in (*TITLES, *OTHERS)), *(name for kind in CHARTS for name in kind.files))


def shown_results(profile: str, outdated: Mapping[str, str] | None = None, params: Params | None = None) -> Results:
    """Return the results of `profile`. Raise Failure if there are none at all.

    `outdated` has the stages whose results are older than params.yaml, each with the reason. `params` are compared with
    the paper's.
    """
    results = Results(profile, outdated, params)
    if results.tables or results.summaries or results.other_sets:
        return results
    if results.others:
        raise Failure(
            f"all results of profile {profile} were computed from other images than those prepared now; "
            "compute them again with: dvc repro"
        )
    make = f"vgg-repro prepare --profile {profile}, then vgg-repro run"
    raise Failure(f"there are no results of profile {profile} yet; make some with: {make}")


def render(
    profile: str, out: Path, outdated: Mapping[str, str] | None = None, params: Params | None = None
) -> tuple[Results, list[Path]]:
    """Write every page and chart of `profile` that its results allow to `out`/`profile`.

    Return the results and the pages' paths. The other arguments and Failure are as in `shown_results`.
    """
    results, folder = shown_results(profile, outdated, params), out / profile
    charts = draw_charts(results, folder)
    written = [folder / name for chart in charts for name in chart.kind.files]
    kept: list[Path] = []  # charts of a page that is kept
    index = index_page(results, charts_on(INDEX, charts), has_data_page(results, folder))
    for name, page in ((INDEX, index), *other_pages(results, charts)):
        if name == PROVENANCE and is_kept(results, folder / f"{name}.md"):
            kept = [folder / file for kind in CHARTS if kind.page == name for file in kind.files]
            continue
        written.append(folder / f"{name}.md")
        write_text(written[-1], markdown(page))
    write_text(folder / FLAT, csv_text(results))
    for path in (folder / name for name in FILES):
        if path not in (*written, *kept) and _is_ours(path):  # it shows other images
            path.unlink()
    return results, [path for path in written if path.suffix == ".md"]


def other_pages(results: Results, charts: Sequence[Chart]) -> Iterator[tuple[str, Page]]:
    """Yield each page besides the index with its name."""
    yield PAPER_PAGE, companion_page(results, charts)
    for name, values in results.tables.items():
        warning = comparability_warning(results, name)
        yield name, table_page(values, warning, charts_on(name, charts), results.outdated)
    for name, values in results.other_sets.items():
        yield name, table_page(values, Callout(()), (), results.outdated)
    if results.claims:
        yield "claims", claims_page(results.claims, comparability_warning(results), results.other_sets)
    if results.seeds:
        yield "seeds", seeds_page(results.seeds, comparability_warning(results), results.outdated)
    if results.summaries:
        yield "training", training_page(results, charts_on(TRAINING, charts))
    if results.guesses:
        yield MISTAKES, mistakes_page(results, charts_on(MISTAKES, charts))
    if has_images_page(results):
        yield IMAGES, images_page(results, charts_on(IMAGES, charts))
    if results.located:
        yield BOXES, localisation_page(results, results.located, charts_on(BOXES, charts))
    if results.other_sets:
        yield OTHER_SETS_PAGE, descriptors_page(results, charts_on(OTHER_SETS_PAGE, charts))
    yield PROVENANCE, provenance_page(results, charts_on(PROVENANCE, charts))


def _is_ours(path: Path) -> bool:
    """Return whether a page or chart exists and was written by this program, not by its reader.

    A chart's data are, if the chart next to them is.
    """
    if not path.is_file():
        return False
    if path.suffix == ".csv":
        return any(_is_ours(path.with_suffix(suffix)) for suffix in (".png", ".jpg"))
    content = path.read_bytes()
    if path.suffix == ".md":
        return content.endswith(f"\n{markdown((ALL_TABLES,))}".encode())
    return f"Software\0{MADE_BY}".encode() in content


def has_data_page(results: Results, folder: Path) -> bool:
    """Return whether `vgg-repro data` has written the page of the images that are prepared now."""
    path = folder / "data.md"
    return bool(results.facts) and path.exists() and results.facts["manifest"][:16] in path.read_text()
