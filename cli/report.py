"""vgg-repro report: the pages and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import complete_profiles, params


def report(
    out: Annotated[Path, typer.Option(help="Folder for the pages; each profile has its own subfolder.")] = Path(
        "reports"
    ),
    profile: Annotated[
        str | None, typer.Option(help="Profile to render; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a result is outdated.")] = False,
) -> None:
    """Render Markdown pages and charts from the results so far.

    Example: vgg-repro report --out reports/
    """
    from pipeline.orchestration.dvc_graph import outdated
    from pipeline.results.comparison import compared_with_head
    from pipeline.results.profile_results import collect
    from reports.page import plain_text
    from reports.page_parts import outdated_warning
    from reports.pages import render

    parameters = params()
    name = profile or parameters.profile
    active = name == parameters.profile
    if active:
        collect(parameters)
    results, written = render(name, out, outdated(parameters) if active else {}, parameters)
    typer.echo(f"{len(written)} pages written; start with {written[0]}")
    if active:
        typer.echo(compared_with_head(name, bool(results.outdated)))
    if results.outdated:
        typer.echo(plain_text(outdated_warning(results).text), err=True)
        raise typer.Exit(int(strict))
