"""vgg-repro data: the prepared images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import params


def data(
    out: Annotated[Path, typer.Option(help="Folder for the page; each profile has its own subfolder.")] = Path(
        "reports"
    ),
) -> None:
    """Show the prepared images: counts, classes, sizes, colours, what was skipped and why, and training crops.

    Example: vgg-repro data
    """
    from stages.tools.data import main

    parameters = params()
    typer.echo(main(parameters, out))
    picture = "The page, with an image of training crops" if parameters.active.train else "The page"
    typer.echo(f"{picture}: {out / parameters.profile / 'data.md'}")
