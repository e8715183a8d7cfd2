"""vgg-repro table: one table of the paper."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from cli.common import QUIET, Direct, in_stage, params, repro


def table(
    number: Annotated[str, typer.Argument(help="1 to 7, or shallow for section 4.1's comparison.", metavar="N")],
    direct: Direct = False,
) -> None:
    """Compute a table and show it. With --direct, from the scores there are: the other rows say what makes them.

    Example: vgg-repro table 4
    """
    from pipeline.grid import check_table

    chosen = params()
    name = check_table(number)
    if direct or in_stage():
        from stages.table import main

        main(chosen, name)
    else:
        repro(name, quiet=True)
    if QUIET not in os.environ:
        from pipeline.paths import table as path
        from reports.markdown import table_text

        typer.echo(f"\n{table_text(json.loads(path(chosen.profile, name).read_text()))}\n")
