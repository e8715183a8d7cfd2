"""vgg-repro table: tables of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import FromBundle, in_bundle, params_in, repro, show
from pipeline.experiment.paper_tables import TITLES, number_of

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.results.bundle_file import Bundle

NUMBERS = [number_of(name) for name in TITLES]


def complete_tables(incomplete: str) -> list[str]:
    """Return the numbers of the tables that begin with `incomplete`."""
    return [number for number in NUMBERS if number.startswith(incomplete.removeprefix("table"))]


def table(
    numbers: Annotated[
        list[str],
        typer.Argument(
            help=f"{', '.join(NUMBERS)} (shallow: section 4.1; initialisation: section 3.1).",
            metavar="N...",
            autocompletion=complete_tables,
        ),
    ],
    direct: Annotated[
        bool, typer.Option("--direct", help="Compute from the existing scores, and write nothing.")
    ] = False,
    bundle: FromBundle = None,
) -> None:
    """Compute tables and show them; those in a bundle are shown as they are.

    Example: vgg-repro table 4 5
    """
    from pipeline.experiment.targets import check_table
    from pipeline.orchestration.dvc_graph import outdated
    from reports.markdown import markdown
    from reports.table_pages import table_section

    names = [check_table(number) for number in numbers]
    with in_bundle(bundle) as opened:
        parameters = params_in(opened)
        if opened:
            computed, older = [_packed(opened, name) for name in names], opened.outdated
        else:
            computed, older = [_compute(parameters, name, direct) for name in names], outdated(parameters)
        for values in computed:
            show(table_section(values, older), markdown)


def _packed(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return a table's values in a bundle. Raise UsageError if it is not there."""
    from pipeline.errors import UsageError
    from pipeline.results.tables import read_table

    values = read_table(bundle.profile, name)
    if not values:
        raise UsageError(f"the bundle has no {name}: it was not computed where the bundle was made")
    return values


def _compute(parameters: Params, name: str, direct: bool) -> dict[str, Any]:
    """Return a table's values, brought up to date by DVC unless `direct` is set or DVC is at work."""
    from pipeline.experiment.targets import lacking
    from pipeline.orchestration.dvc_graph import at_work, forecasts
    from stages.table import compute

    if direct:
        return compute(parameters, name).values
    if lacking(name, parameters):
        return _from_available_nets(parameters, name)
    if any(forecast.what != "done" for forecast in forecasts([name], parameters)):
        if worker := at_work():
            typer.echo(f"DVC is running ({worker}): the table shows the existing scores.")
            return compute(parameters, name).values
        repro(name, quiet=True)
    return read_computed(parameters, name)


def read_computed(parameters: Params, name: str) -> dict[str, Any]:
    """Return the values of a table that has been computed. Raise Failure if they are missing or broken."""
    from pipeline.experiment.paths import table as path
    from pipeline.system.atomic_files import read_json

    values: dict[str, Any] = read_json(path(parameters.profile, name), f"vgg-repro table {number_of(name)}")
    return values


def _from_available_nets(parameters: Params, name: str) -> dict[str, Any]:
    """Have DVC score the available nets; compute the table from these scores alone, write it and return it."""
    from pipeline.experiment.targets import within_reach
    from stages.table import main

    repro(*within_reach([name], parameters), quiet=True)
    return main(parameters, name)
