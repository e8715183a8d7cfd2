"""vgg-repro train: runs of the grid."""

from __future__ import annotations

from cli.common import Direct, Runs, params, through_dvc


def train(runs: Runs, direct: Direct = False) -> None:
    """Train runs, after the runs that they start from. After an interruption, the same command resumes.

    Under torchrun, on several machines, each process trains its part, as with --direct.

    Example: vgg-repro train D-384
    """
    from pipeline.experiment.run_names import train_stage
    from pipeline.experiment.targets import check_run

    parameters = params()
    for run in runs:
        check_run(parameters, run)
    _ = parameters.active.training  # raises Failure early if the profile trains nothing

    def work() -> None:
        from stages.train import main

        for run in runs:
            main(parameters, run)

    through_dvc([train_stage(run) for run in runs], direct, work)
