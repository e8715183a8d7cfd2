"""vgg-repro train: one run of the grid."""

from __future__ import annotations

from cli.common import Direct, Run, params, through_dvc


def train(run: Run, direct: Direct = False) -> None:
    """Train a run, and before it what it begins from. Interrupted, it goes on where it was.

    Under torchrun, on several machines, each process trains its part, as with --direct.

    Example: vgg-repro train D-384
    """
    from pipeline.experiment.targets import check_run

    parameters = params()
    check_run(parameters, run)
    _ = parameters.active.training  # raises Failure early if the profile trains nothing

    def work() -> None:
        from stages.train import main

        main(parameters, run)

    through_dvc(f"train@{run}", direct, work)
