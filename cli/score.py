"""vgg-repro score: a run evaluated on the validation images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Direct, Run, params, through_dvc
from pipeline.experiment.modes import MODES


def _complete(incomplete: str) -> list[str]:
    return [mode for mode in MODES if mode.startswith(incomplete)]


def score(
    mode: Annotated[str, typer.Argument(help=f"{', '.join(MODES)}.", autocompletion=_complete)],
    run: Run,
    direct: Direct = False,
) -> None:
    """Score a run densely, by 50 crops a scale, or at one centre crop.

    Example: vgg-repro score dense D-384
    """
    from pipeline.experiment.targets import check_imported, check_mode, check_run

    parameters = params()
    check_mode(parameters, mode, run, direct)
    check_run(parameters, run)
    if parameters.weights == "published":
        check_imported(parameters, run)

    def work() -> None:
        from stages.score import main

        main(parameters, run, mode)

    through_dvc(f"{mode}@{run}", direct, work)
