"""The jobs of this clone that have not ended, for people."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.cluster import slurm
from pipeline.cluster.job_folder import job_folder, jobs_root
from pipeline.errors import Failure


def current_jobs() -> Mapping[str, str]:
    """Return the number, state and reason of the job of each stage that has one: "job 4711 pending (Priority)"."""
    folders = {path.name: job_folder(path.name) for path in sorted(jobs_root().glob("*/"))}
    numbers = {stage: folder.number for stage, folder in folders.items() if folder.number and folder.code is None}
    if not numbers:
        return {}
    try:
        states = slurm.look(numbers.values())
    except Failure as reason:
        return {stage: f"job {number}, state unknown ({reason})" for stage, number in numbers.items()}
    return {
        stage: f"job {number} {state}"
        for stage, number in numbers.items()
        if (state := states.get(number)) and not state.has_ended
    }
