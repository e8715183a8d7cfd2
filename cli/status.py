"""vgg-repro status: the grid at a glance."""

from __future__ import annotations

import typer

from cli.common import params


def status() -> None:
    """Show how far each run is: prepared, training, trained, scored, in which tables. Others may be at work.

    Example: vgg-repro status
    """
    from pipeline.status import status as stand
    from reports.status import status_text

    typer.echo(status_text(stand(params())))
