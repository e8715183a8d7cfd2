"""vgg-repro report: the pages and charts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import FromBundle, complete_profiles, in_bundle, params_in, profile_in

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.results.bundle_file import Bundle
    from pipeline.results.profile_results import Results

REPORTS = Path("reports")
Form = Literal["pages", "csv", "json"]


def report(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pages; each profile has its own subfolder. Default: reports."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile to render; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write one self-contained file, PROFILE/report.html, instead of pages.")
    ] = False,
    form: Annotated[
        Form, typer.Option("--format", help="pages: write the report; csv, json: print every error as a row.")
    ] = "pages",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a result is outdated.")] = False,
    bundle: FromBundle = None,
) -> None:
    """Render Markdown pages and charts, or one HTML file, from the results so far, or print all errors as CSV or JSON.

    With --from, the results are those in a bundle, which needs no clone; --out says where the pages go.

    Example: vgg-repro report --html
    """
    from pipeline.errors import UsageError
    from pipeline.orchestration.dvc_graph import outdated
    from pipeline.results.comparison import compared_with_head
    from pipeline.results.lock_file import keep_records
    from pipeline.results.profile_results import collect
    from pipeline.results.provenance import keep_provenance
    from reports.page import plain_text
    from reports.page_parts import outdated_warning

    if bundle and not out and form == "pages":
        raise UsageError(f"say where the pages go: vgg-repro report --from {bundle} --out FOLDER")
    place = (out or REPORTS).absolute() if bundle else out or REPORTS
    with in_bundle(bundle) as opened:
        parameters = params_in(opened)
        name = profile_in(opened, profile, parameters)
        active = not opened and name == parameters.profile
        if active:
            collect(parameters)
        older = opened.outdated if opened else outdated(parameters) if active else {}
        if form == "pages":
            results = _written(parameters, name, place, older, html, opened)
        else:
            results = _printed(name, older, form)
        if active and form == "pages":
            typer.echo(compared_with_head(name, bool(results.outdated)))
        if active:
            keep_provenance(name, results.known_provenance)
            keep_records(name)
    if results.outdated:
        typer.echo(plain_text(outdated_warning(results).text), err=True)
        raise typer.Exit(int(strict))


def _printed(name: str, older: Mapping[str, str], form: Form) -> Results:
    """Print every error as a row. Return the results."""
    from pipeline.results.profile_results import Results
    from reports.flat_files import csv_text, flat_json

    results = Results(name, older)
    typer.echo(csv_text(results) if form == "csv" else flat_json(results), nl=False)
    return results


def _written(
    parameters: Params, name: str, out: Path, older: Mapping[str, str], html: bool, opened: Bundle | None
) -> Results:
    """Write the report and say where it is. Return the results."""
    from pipeline.experiment.paths import results as folder
    from pipeline.system.progress import gigabytes
    from reports.bundle_page import copy_unrendered
    from reports.pages import render
    from reports.site import write_site

    if html:
        results, file = write_site(name, out, older, parameters, folder(name) if opened else None)
        typer.echo(f"{file} written ({gigabytes(file.stat().st_size)}); open it in a browser")
        return results
    if opened:
        copy_unrendered(folder(name), out / name)
    results, written = render(name, out, older, parameters)
    typer.echo(f"{len(written)} pages written; start with {written[0]}")
    return results
