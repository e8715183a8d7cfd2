"""vgg-repro status: the state of the grid."""

from __future__ import annotations

import typer

from cli.common import params


def status() -> None:
    """Show how far each run is: prepared, training, trained, scored, in which tables. Others may be at work.

    Example: vgg-repro status
    """
    from pipeline.orchestration.status import status as current_status
    from reports.status_page import status_page
    from reports.terminal import terminal

    typer.echo(terminal(status_page(current_status(params()))), nl=False)
