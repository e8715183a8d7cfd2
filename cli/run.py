"""vgg-repro run: several stages side by side."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.common import params


def run(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages, such as table4; all, if none is named.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many stages run at a time.")] = 2,
) -> None:
    """Do what `dvc repro` does, with independent stages side by side.

    Example: vgg-repro run table3 table4 --jobs 2
    """
    from pipeline.errors import Interrupted
    from pipeline.graph import needs
    from pipeline.grid import in_part, stage_of, within_reach
    from pipeline.signals import stopped_by_sigterm
    from pipeline.walk import Walk

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    chosen, named = params(), [stage_of(target) for target in targets or []]
    try:
        with stopped_by_sigterm():
            Walk(needs(within_reach(named, chosen)), jobs).run()
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on with what is left") from None
    for table in in_part(chosen):
        if not named or table in named:
            from stages.table import main

            main(chosen, table)
            typer.echo(
                f"{table}: in part, from the nets that there are (vgg-repro table {table.removeprefix('table')})"
            )
