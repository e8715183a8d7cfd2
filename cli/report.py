"""vgg-repro report: the pages and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import params


def report(
    out: Annotated[Path, typer.Option(help="The folder for the pages; each profile has its own in it.")] = Path(
        "reports"
    ),
    profile: Annotated[str | None, typer.Option(help="The profile to render; as a rule the one in force.")] = None,
) -> None:
    """Render Markdown pages and charts from whatever results there are.

    Example: vgg-repro report --out reports/
    """
    from reports.pages import render

    written = render(profile or params().profile, out)
    typer.echo(f"{len(written)} pages; begin with {written[0]}")
