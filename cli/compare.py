"""vgg-repro compare: two reproductions side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import show

if TYPE_CHECKING:
    from reports.page import Page

PLACE = "A bundle, a clone, a folder such as reports/mini, or a profile's name."


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=PLACE)],
    second: Annotated[str, typer.Argument(metavar="B", help=PLACE)],
    out: Annotated[
        Path | None, typer.Option(help="Write the page to this file, .md or .html, instead of printing it.")
    ] = None,
    form: Annotated[
        Literal["page", "csv", "json"], typer.Option("--format", help="csv, json: print every error as a row.")
    ] = "page",
) -> None:
    """Compare two reproductions: images, parameters, every error with a paired test, verdicts on the claims.

    Example: vgg-repro compare mine.zip yours.zip
    """
    from pipeline.errors import UsageError
    from pipeline.results.side_by_side import read_reproduction, side_by_side
    from pipeline.system.atomic_files import json_text, write_text
    from reports.compare_page import compare_csv, compare_page
    from reports.markdown import markdown

    if out and out.suffix not in (".md", ".html"):
        raise UsageError(f"--out {out}: the page is written to a file that ends with .md or .html")
    if out and form != "page":
        raise UsageError(f"--out writes the page, --format {form} prints rows: vgg-repro compare A B --format {form}")
    compared = side_by_side(read_reproduction(first), read_reproduction(second))
    if form != "page":
        typer.echo(compare_csv(compared) if form == "csv" else json_text(compared.document()), nl=False)
    elif out:
        write_text(out, _writer(out)(compare_page(compared)))
        typer.echo("\n".join(filter(None, [compared.verdict, compared.verdict_on_measures, f"{out} written"])))
    else:
        show(compare_page(compared), markdown)


def _writer(out: Path) -> Callable[[Page], str]:
    """Return the writer of a file's form. That of HTML imports what draws charts, which takes a second."""
    if out.suffix == ".html":
        from reports.site import single_page

        return single_page
    from reports.markdown import markdown

    return markdown
