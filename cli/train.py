"""vgg-repro train: one run of the grid."""

from __future__ import annotations

from cli.common import Direct, Run, params, through_dvc


def train(run: Run, direct: Direct = False) -> None:
    """Train a run, and before it what it begins from. Interrupted, it goes on where it was.

    Under torchrun, on several machines, each process trains its part, as with --direct.

    Example: vgg-repro train D-384
    """
    from pipeline.experiment.targets import check_run

    chosen = params()
    check_run(chosen, run)
    _ = chosen.active.training  # a profile that trains nothing says so before anything begins

    def work() -> None:
        from stages.train import main

        main(chosen, run)

    through_dvc(f"train@{run}", direct, work)
