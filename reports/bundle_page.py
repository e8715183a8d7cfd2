"""The page that a bundle begins with: what it holds, and how to render its report."""

from __future__ import annotations

from pipeline.results.bundle_file import LIST
from pipeline.results.profile_results import Results
from reports.flat_files import FLAT
from reports.page import Bullets, Code, Heading, Page, Paragraph, Preformatted
from reports.page_parts import what_was_run


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
