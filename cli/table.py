"""vgg-repro table: tables of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import params, repro, show
from pipeline.experiment.paper_tables import TITLES, number_of

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

NUMBERS = [number_of(name) for name in TITLES]


def complete_tables(incomplete: str) -> list[str]:
    """Return the numbers of the tables that begin with `incomplete`."""
    return [number for number in NUMBERS if number.startswith(incomplete.removeprefix("table"))]


def table(
    numbers: Annotated[
        list[str],
        typer.Argument(
            help=f"{', '.join(NUMBERS)} (section 4.1's comparison).", metavar="N...", autocompletion=complete_tables
        ),
    ],
    direct: Annotated[
        bool, typer.Option("--direct", help="Compute from the existing scores, and write nothing.")
    ] = False,
) -> None:
    """Compute tables and show them.

    Example: vgg-repro table 4 5
    """
    from pipeline.experiment.targets import check_table

    parameters = params()
    for name in [check_table(number) for number in numbers]:
        _show_one(parameters, name, direct)


def _show_one(parameters: Params, name: str, direct: bool) -> None:
    from pipeline.experiment.targets import lacking
    from pipeline.orchestration.dvc_graph import at_work, forecasts
    from stages.table import values

    if direct:
        return _show(values(parameters, name), parameters)
    if lacking(name, parameters):
        return _show(_from_available_nets(parameters, name), parameters)
    if any(forecast.what != "done" for forecast in forecasts([name], parameters)):
        if worker := at_work():
            typer.echo(f"DVC is running ({worker}): the table shows the existing scores.")
            return _show(values(parameters, name), parameters)
        repro(name, quiet=True)
    return show_table(parameters, name)


def show_table(parameters: Params, name: str) -> None:
    """Show a table that has been computed."""
    from pipeline.experiment.paths import table as path
    from pipeline.system.atomic_files import read_json

    _show(read_json(path(parameters.profile, name), f"vgg-repro table {name.removeprefix('table')}"), parameters)


def _show(values: dict[str, Any], parameters: Params) -> None:
    from pipeline.orchestration.dvc_graph import outdated
    from reports.markdown import markdown
    from reports.table_pages import table_section

    show(table_section(values, outdated(parameters)), markdown)


def _from_available_nets(parameters: Params, name: str) -> dict[str, Any]:
    """Have DVC score the available nets; compute the table from these scores alone, write it and return it."""
    from pipeline.experiment.targets import within_reach
    from stages.table import main

    repro(*within_reach([name], parameters), quiet=True)
    return main(parameters, name)
