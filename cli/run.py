"""vgg-repro run: several stages at the same time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
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

    On a cluster, all jobs that are ready run, or at most `jobs` of them; other stages share this machine.
    """
    from pipeline.orchestration.estimate import announcement
    from pipeline.orchestration.live_view import view
    from pipeline.orchestration.resources import ResourceShare, chosen_gpus, shares, visible_gpus
    from pipeline.orchestration.runner import Walk, foreseen
    from pipeline.system.devices import cores

    names = visible_gpus() if gpus is None else chosen_gpus(gpus)
    if gpus is not None:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's; CUDA's own begins with fast ones
    graph, cheap, to_run = foreseen(targets, parameters)
    away = _jobs_among(graph) if on_cluster else set[str]()
    if to_run and not on_cluster:
        check_devices(parameters)
    here = (jobs if jobs and not on_cluster else None) or len(names) or 2
    there = [ResourceShare(cluster="Slurm")] * (jobs or len(away)) if on_cluster else []
    if cheap or to_run:
        typer.echo(announcement(to_run, len(graph), len(there) or here))
    for line in _not_jobs([stage for stage, _ in to_run], here) if on_cluster else ():
        typer.echo(line)
    divided = [*there, *shares(here, names, cores())]
    return Walk(graph, divided, ResourceShare(names), view(named=len(divided) > 1), cheap, away=away)


def _jobs_among(stages: Iterable[str]) -> set[str]:
    """Return the stages that are jobs by slurm.yaml."""
    from pipeline.cluster.settings import kind_of_stage, settings

    loaded = settings()
    return {stage for stage in stages if (kind := kind_of_stage(stage)) and loaded.request(kind)}


def _not_jobs(to_run: Sequence[str], at_a_time: int) -> Iterator[str]:
    """Yield a line about each kind of stage that could be jobs, will run, and has no block in slurm.yaml."""
    from pipeline.cluster.settings import FILE, KINDS, kind_of_stage, settings

    loaded = settings()
    for kind in KINDS:
        if loaded.request(kind) is None and any(kind_of_stage(stage) == kind for stage in to_run):
            yield f"{kind}: no block in {FILE}, runs on this machine, at most {at_a_time} at a time"
