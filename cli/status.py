"""vgg-repro status: the state of the grid."""

from __future__ import annotations

from cli.common import params, show


def status() -> None:
    """Show the state of each run: training, trained, scored, in which tables. Works while other commands run.

    Example: vgg-repro status
    """
    from pipeline.cluster.jobs import current_jobs
    from pipeline.cluster.settings import chosen
    from pipeline.orchestration.status import status as current_status
    from reports.status_page import status_page
    from reports.terminal import terminal

    chosen()  # raises UsageError for an unknown cluster
    show(status_page(current_status(params()), current_jobs()), terminal)
