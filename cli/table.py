"""vgg-repro table: one table of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Direct, params, repro
from pipeline.experiment.paper_tables import TITLES

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

NUMBERS = [name.removeprefix("table") for name in TITLES]


def table(
    number: Annotated[str, typer.Argument(help=f"{', '.join(NUMBERS)} (section 4.1's comparison).", metavar="N")],
    direct: Direct = False,
) -> None:
    """Compute a table and show it. With --direct, from the scores there are: the other rows say what makes them.

    Example: vgg-repro table 4
    """
    from pipeline.experiment.targets import check_table, lacking

    parameters = params()
    name = check_table(number)
    if direct:
        from stages.table import main

        main(parameters, name)
    elif not lacking(name, parameters):
        repro(name, quiet=True)
    else:
        _from_available_nets(parameters, name)
    show(parameters, name)


def show(parameters: Params, name: str) -> None:
    """Print a table that has been computed."""
    from pipeline.experiment.paths import table as path
    from pipeline.system.atomic_files import read_json
    from reports.markdown import markdown
    from reports.table_pages import table_section

    values = read_json(path(parameters.profile, name), f"vgg-repro table {name.removeprefix('table')}")
    typer.echo(f"\n{markdown(table_section(values))}")


def _from_available_nets(parameters: Params, name: str) -> None:
    """Have DVC score the available nets, and compute the table from these scores alone."""
    from pipeline.experiment.targets import within_reach
    from stages.table import main

    repro(*within_reach([name], parameters), quiet=True)
    main(parameters, name)
