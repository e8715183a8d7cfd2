"""vgg-repro run: several stages at the same time."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import check_devices, complete_targets, params

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.orchestration.runner import Walk

Jobs = Annotated[
    int | None, typer.Option(min=1, help="Number of stages at a time; default: one per GPU, or two without a GPU.")
]
Gpus = Annotated[
    str | None,
    typer.Option(
        metavar="0,1,...",
        help="GPU numbers as in nvidia-smi; default: all visible GPUs. Jobs share GPUs and cores equally; with more "
        "jobs than GPUs, several jobs share a GPU and its memory.",
    ),
]
GpusPerStage = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="GPUs of each stage: as many stages at a time as there are GPUs for, or with --slurm the GPUs of a job.",
    ),
]


def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Tables, runs or stages; default: all.", autocompletion=complete_targets),
    ] = None,
    jobs: Jobs = None,
    gpus: Gpus = None,
    gpus_per_stage: GpusPerStage = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Long stages are jobs of a Slurm cluster, as slurm.yaml says.")
    ] = False,
) -> None:
    """Run stages as `dvc repro` does, several at a time.

    Example: vgg-repro run table3 table4 --jobs 2

    Example: vgg-repro run table4 --gpus 0,1,2,3

    Example: vgg-repro run table4 --slurm --gpus-per-stage 4
    """
    from pipeline.cluster.settings import CHOICE, GPUS_PER_STAGE, SLURM, chosen, settings
    from pipeline.errors import Failure, Interrupted, UsageError
    from pipeline.experiment.paper_tables import number_of
    from pipeline.experiment.targets import in_part, stage_of, within_reach
    from pipeline.orchestration.dvc_graph import lost_from_cache
    from pipeline.orchestration.runner import STOPPED
    from pipeline.orchestration.status import stalled_runs
    from pipeline.system.process_lifetime import stopped_by_sigterm

    if slurm:
        os.environ[CHOICE] = SLURM
    on_cluster = chosen()
    if on_cluster:
        settings()  # raises UsageError early
        if gpus is not None:
            raise UsageError("--gpus chooses GPUs of this machine; jobs get theirs by slurm.yaml or --gpus-per-stage")
        if gpus_per_stage:
            os.environ[GPUS_PER_STAGE] = str(gpus_per_stage)
    elif gpus_per_stage:
        jobs = _jobs_of(gpus_per_stage, gpus, jobs)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    parameters = params()
    named = [stage_of(parameters, target) for target in targets or []]
    if lost := lost_from_cache(parameters):
        raise Failure(lost)
    reached = within_reach(named, parameters)
    try:
        with stopped_by_sigterm():
            _walk(reached, parameters, jobs, gpus, on_cluster).run()
    except KeyboardInterrupt:
        raise Interrupted(STOPPED) from None
    if parameters.weights == "trained":
        for run in stalled_runs(parameters):
            typer.echo(f"{run}: its net did not learn: its loss ended at that of a blind guess (vgg-repro status)")
    for table in in_part(parameters):
        if not named or table in named:
            from stages.table import main

            main(parameters, table)
            typer.echo(f"{table}: partial, from the imported nets only (vgg-repro table {number_of(table)})")
    if parameters.weights == "published" and not named:  # DVC's stage needs all tables that the claims are about
        from stages.claims import main as test_claims
        from stages.resampled import main as resample

        resample(parameters)
        test_claims(parameters)


def _jobs_of(gpus_per_stage: int, gpus: str | None, jobs: int | None) -> int:
    """Return how many stages with so many GPUs fit at a time. Raise UsageError if none does, or with --jobs."""
    from pipeline.errors import UsageError
    from pipeline.orchestration.resources import chosen_gpus, visible_gpus

    if jobs is not None:
        raise UsageError("--jobs and --gpus-per-stage both divide the GPUs: give only one of them")
    count = len(visible_gpus() if gpus is None else chosen_gpus(gpus))
    if gpus_per_stage > count:
        raise UsageError(f"--gpus-per-stage {gpus_per_stage}: there are {count or 'no'} GPUs here")
    return count // gpus_per_stage


def _walk(targets: Sequence[str], parameters: Params, jobs: int | None, gpus: str | None, on_cluster: bool) -> Walk:
    """Return the walk to `targets`, with the machine divided among its jobs.

    On a cluster, all stages that are ready run, or at most `jobs` of them.
    """
    from pipeline.orchestration.estimate import announcement
    from pipeline.orchestration.live_view import view
    from pipeline.orchestration.resources import ResourceShare, chosen_gpus, shares, visible_gpus
    from pipeline.orchestration.runner import Walk, foreseen
    from pipeline.system.devices import cores

    names = () if on_cluster else visible_gpus() if gpus is None else chosen_gpus(gpus)
    if gpus is not None:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's; CUDA's own begins with fast ones
    graph, cheap, to_run = foreseen(targets, parameters)
    if to_run and not on_cluster:
        check_devices(parameters)
    count = jobs or (max(len(graph), 1) if on_cluster else len(names) or 2)
    if cheap or to_run:
        typer.echo(announcement(to_run, len(graph), count))
    whole = ResourceShare(cluster="Slurm") if on_cluster else ResourceShare(names)
    divided = [whole] * count if on_cluster else shares(count, names, cores())
    return Walk(graph, divided, whole, view(named=count > 1), cheap)
