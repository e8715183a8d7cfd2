"""vgg-repro score: runs evaluated on the validation images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Direct, complete_runs, params, through_dvc
from pipeline.experiment.modes import MODES


def _complete(incomplete: str) -> list[str]:
    return [*(mode for mode in MODES if mode.startswith(incomplete)), *complete_runs(incomplete)]


def score(
    words: Annotated[
        list[str],
        typer.Argument(help=f"A mode ({', '.join(MODES)}) and runs.", metavar="MODE RUN...", autocompletion=_complete),
    ],
    direct: Direct = False,
) -> None:
    """Score runs densely, with 50 crops per scale, or at one centre crop.

    Example: vgg-repro score dense D-384 E-384
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.run_names import score_stage
    from pipeline.experiment.targets import check_imported, check_mode, check_run

    parameters = params()
    others = [word for word in words if word not in parameters.all_runs]  # the mode may come first or last
    mode = next((word for word in words if word in MODES), others[0] if others else words[0])
    runs = [word for word in words if word != mode]
    check_mode(parameters, mode)
    if not runs:
        raise UsageError(f"no run is given. For example: vgg-repro score {mode} D-384")
    for run in runs:
        check_run(parameters, run)
        check_mode(parameters, mode, run, direct)
        if parameters.weights == "published" and run in parameters.runs:
            check_imported(parameters, run)

    def work() -> None:
        from stages.score import main

        for run in runs:
            main(parameters, run, mode)

    through_dvc([score_stage(run, mode) for run in runs], direct, work)
