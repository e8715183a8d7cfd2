"""vgg-repro status: the grid at a glance."""

from __future__ import annotations

import typer

from cli.common import params


def status() -> None:
    """Show how far each run is: prepared, training, trained, scored, in which tables. Others may be at work.

    Example: vgg-repro status
    """
    from pipeline.status import status as stand
    from reports.status_page import status_page
    from reports.terminal import terminal

    typer.echo(terminal(status_page(stand(params()))), nl=False)
