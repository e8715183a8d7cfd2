"""What a bundle has of a report: the page that it begins with, and the pages that cannot be rendered again."""

from __future__ import annotations

from pathlib import Path

from pipeline.results.bundle import IMAGE_FILES
from pipeline.results.bundle_file import LIST
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import copy
from reports.charts import CHARTS, INDEX
from reports.flat_files import FLAT
from reports.page import Bullets, Code, Heading, Page, Paragraph, Preformatted
from reports.page_parts import what_was_run
from reports.pages import FILES, has_data_page
from reports.provenance_page import PROVENANCE, is_kept

SHOWN_AS_THEY_ARE = (".md", *IMAGE_FILES)


def bundle_page(results: Results) -> Page:
    """Return the page."""
    folder = f"reports/{results.profile}"
    return (
        Heading(1, ("Results of vgg-repro, profile ", Code(results.profile))),
        Paragraph(what_was_run(results)),
        Paragraph("vgg-repro renders the report from this file, without the images and on any machine:"),
        Preformatted("vgg-repro report --from FILE --out FOLDER\nvgg-repro compare FILE OTHER"),
        Heading(2, "Contents"),
        Bullets(
            (
                (Code(f"{folder}/{FLAT}"), ": every error as a row"),
                (Code(f"{folder}/"), ": tables, claims, seeds, runs and scores as JSON and CSV"),
                (Code(f"{folder}/ranks/"), ": the rank of each image's class in each row of a table, as NumPy arrays"),
                (Code("params.yaml"), ", ", Code("dvc.yaml"), ", ", Code("dvc.lock"), ": parameters and stages"),
                (Code("provenance/"), ": commit, machine and time of each result"),
                (Code("ro-crate-metadata.json"), ": the same as linked data (Workflow Run RO-Crate)"),
                (Code(LIST), ": size and SHA-256 of every file"),
            )
        ),
    )


def rendered_files() -> frozenset[str]:
    """Return the names of all files in a profile's folder that the report writes as pages, charts and rows."""
    return frozenset({*FILES, f"{INDEX}.md", f"{PROVENANCE}.md", FLAT})


def kept_files(results: Results, folder: Path) -> list[Path]:
    """Return the pages in `folder` that the report shows as they are, because it cannot render them again."""
    names = ["data.md"] if has_data_page(results, folder) else []
    if is_kept(results, folder / f"{PROVENANCE}.md"):
        names += [f"{PROVENANCE}.md", *(file for kind in CHARTS if kind.page == PROVENANCE for file in kind.files)]
    return [folder / name for name in names if (folder / name).exists()]


def copy_unrendered(origin: Path, folder: Path) -> None:
    """Copy the pages and images of a profile's results that the report cannot make again to the folder of its pages."""
    for path in sorted(origin.rglob("*")):
        if path.suffix in SHOWN_AS_THEY_ARE or (path.suffix == ".csv" and path.parent == origin):
            copy(path, folder / path.relative_to(origin))
