"""vgg-repro report: the pages and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import complete_profiles, params


def report(
    out: Annotated[Path, typer.Option(help="Folder for the pages; each profile has its own subfolder.")] = Path(
        "reports"
    ),
    profile: Annotated[
        str | None, typer.Option(help="Profile to render; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write one self-contained file, PROFILE/report.html, instead of pages.")
    ] = False,
    form: Annotated[
        Literal["pages", "csv", "json"],
        typer.Option("--format", help="pages: write the report; csv, json: print every error as a row."),
    ] = "pages",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a result is outdated.")] = False,
) -> None:
    """Render Markdown pages and charts, or one HTML file, from the results so far, or print all errors as CSV or JSON.

    Example: vgg-repro report --html
    """
    from pipeline.orchestration.dvc_graph import outdated
    from pipeline.results.comparison import compared_with_head
    from pipeline.results.lock_file import keep_records
    from pipeline.results.profile_results import Results, collect
    from pipeline.results.provenance import keep_provenance
    from pipeline.system.progress import gigabytes
    from reports.flat_files import csv_text, flat_json
    from reports.page import plain_text
    from reports.page_parts import outdated_warning
    from reports.pages import render
    from reports.site import write_site

    parameters = params()
    name = profile or parameters.profile
    active = name == parameters.profile
    if active:
        collect(parameters)
    older = outdated(parameters) if active else {}
    if form != "pages":
        results = Results(name, older)
        typer.echo(csv_text(results) if form == "csv" else flat_json(results), nl=False)
    elif html:
        results, file = write_site(name, out, older, parameters)
        typer.echo(f"{file} written ({gigabytes(file.stat().st_size)}); open it in a browser")
    else:
        results, written = render(name, out, older, parameters)
        typer.echo(f"{len(written)} pages written; start with {written[0]}")
    if active and form == "pages":
        typer.echo(compared_with_head(name, bool(results.outdated)))
    if active:
        keep_provenance(name, results.paths)
        keep_records(name)
    if results.outdated:
        typer.echo(plain_text(outdated_warning(results).text), err=True)
        raise typer.Exit(int(strict))
