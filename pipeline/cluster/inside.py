"""A stage's work inside its job: what is checked before it, and what is kept after it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.cluster.job_folder import LOCAL, JobFolder, this_job
from pipeline.cluster.node_local import copied_shards
from pipeline.cluster.settings import FILE, seconds
from pipeline.errors import Failure
from pipeline.experiment.params import SAVE_EVERY
from pipeline.experiment.stage_inputs import parameter_changes
from pipeline.system.locks import holder

EARLY = 90.0  # seconds by which the signal before a limit may come early: Slurm's resolution is a minute
LOOK = 5.0  # seconds between looks at a lock that is held


def do_in_job(key: str, mark: str | None, lock: Path | None, splits: tuple[str, ...], work: Callable[[], None]) -> None:
    """Do a stage's work in this job, on its own node's copies of the shards if the settings ask for them.

    `key` is the hash of everything that shapes the results, now; `mark` says how far the work is, if it can resume;
    `lock` is held by whoever does this work. Raise Failure if the job was submitted for other results, or if it has
    started for the third time without any progress.
    """
    folder = this_job()
    assert folder is not None
    first = slurm.place().node == 0
    if folder.has_kept(key):  # it was ended after its work and before its script wrote that
        if first:
            folder.put_back()
        return
    if folder.key != key:
        raise Failure(_changed(folder))
    if first:
        _check_start(folder, mark, lock)
    local = os.environ.get(LOCAL)
    if local and splits:  # a preparation reads no shards, and writes them for all nodes
        copied_shards(Path(os.path.expandvars(local)), splits)
    if first:
        folder.note_work()
    work()
    if first:
        folder.keep()


def _changed(folder: JobFolder) -> str:
    """Return what has changed since the job was submitted, and what to do."""
    changes = parameter_changes(folder.asked.parameters)
    named = f" ({'; '.join(changes)})" if changes else ""
    return (
        f"the parameters or inputs of this stage have changed since its job was submitted{named}. Set them back, or "
        "keep the change, and type the same command again: it submits another job"
    )


def _check_start(folder: JobFolder, mark: str | None, lock: Path | None) -> None:
    """Record this start, and wait for another process that does the work: a lost node may be alive."""
    if mark is not None and not folder.note_start(mark, _could_save(folder)):
        raise Failure(
            f"no progress between two stops: this stage was stopped twice before it saved anything new. "
            f"Raise `time` in {FILE}, or choose a partition with less pre-emption"
        )
    while lock and (other := holder(lock)):
        print(f"waiting for another process that does this work: {other}", flush=True)
        time.sleep(LOOK)


def _could_save(folder: JobFolder) -> bool:
    """Return True if the work ran long enough to save, or to the job's limit, the last time that the job was started.

    Without a limit in the settings, any long start may have reached the cluster's own.
    """
    settings = folder.asked.settings
    limit = settings.get("time")
    longest = SAVE_EVERY if limit is None else seconds(limit) - settings["notice"] - EARLY
    return folder.last_work > SAVE_EVERY or folder.last_start > longest
