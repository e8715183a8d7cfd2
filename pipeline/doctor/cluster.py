"""Checks of the cluster, if slurm.yaml is there: its settings, Slurm's commands, and a one-minute job.

`python -m pipeline.doctor.cluster` is the job's work: it writes what its node sees, as JSON.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cluster import slurm
from pipeline.cluster.head import SETTLE, StageWork, submitted
from pipeline.cluster.job_folder import LOCAL, JobFolder, job_folder, this_job
from pipeline.cluster.settings import EXAMPLE, FILE, KINDS, JobRequest, chosen, settings
from pipeline.cluster.slurm import JobState
from pipeline.doctor.base import DoctorContext, Finding
from pipeline.errors import Failure
from pipeline.system.atomic_files import read_json, write_json
from pipeline.system.devices import VISIBLE, cores
from pipeline.system.locks import alone, holder

PATIENCE = 120.0  # seconds until the job is taken as waiting
WHAT, STAGE = "cluster", "doctor"
ANSWER, HELD = "answer.json", "held"  # files in its folder
EDIT = f"edit {FILE}; {EXAMPLE} explains each key"


def cluster(context: DoctorContext) -> Iterator[Finding]:
    """Check the settings, the commands, and that a job's files and locks are those of this machine."""
    if not FILE.exists() and not chosen():
        return
    try:
        loaded = settings()
    except Failure as problem:
        yield Finding(WHAT, "failure", str(problem), EDIT)
        return
    if missing := [name for name in slurm.COMMANDS if shutil.which(name) is None]:
        says = f"{', '.join(missing)} not found: this machine cannot submit jobs"
        yield Finding(WHAT, "failure", says, "log in to a node that can, or: module load slurm")
        return
    requests = {kind: request for kind in KINDS if (request := loaded.request(kind))}
    impossible = {kind: why for kind, request in requests.items() if (why := _why_not(request))}
    if impossible:
        yield from (Finding(WHAT, "failure", f"{kind}: {why}", EDIT) for kind, why in impossible.items())
        return
    yield _tried(next(iter(requests.values())).model_copy(update={"time": 1, "notice": 10}))


def _why_not(request: JobRequest) -> str:
    """Return why no job of this kind can run; an empty string if one can."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write("#!/bin/sh\n")
        script.flush()
        try:
            slurm.check(Path(script.name), request)
        except Failure as reason:
            return str(reason)
    return ""


def _tried(request: JobRequest) -> Finding:
    """Return the finding of a job that asks for what the first kind of stages asks for, for one minute."""
    folder = job_folder(STAGE)
    (folder.path / ANSWER).unlink(missing_ok=True)
    command = (sys.executable, "-m", "pipeline.doctor.cluster")
    with alone(folder.lock, "checking the cluster"), alone(folder.path / HELD, "checking locks"):
        try:
            number = submitted(StageWork(STAGE, "score", command, str(time.time()), []), request, folder)
        except Failure as reason:
            return Finding(WHAT, "failure", f"Slurm refused a job: {reason}", EDIT)
        state = _waited(folder, number)
        if state is None or state.has_ended:
            return _judged(folder, number)
        with suppress(Failure):
            slurm.cancel(number)
        says = f"a one-minute job did not end within {PATIENCE:.0f} s: {state}; cancelled"
        return Finding(WHAT, "warning", says, f"squeue --jobs={number} --start    # shows when a job may start")


def _waited(folder: JobFolder, number: str) -> JobState | None:
    """Wait until the job has left its exit code or has ended without one. Return its state, None if there is a code.

    The code of a job that has ended may become visible later, on a network file system.
    """
    end, state = time.monotonic() + PATIENCE, None
    while folder.code is None and time.monotonic() < end and not (state and state.is_gone):
        time.sleep(1.0)
        with suppress(Failure):
            state = slurm.look([number]).get(number)
        if state and state.has_ended:
            end = min(end, time.monotonic() + SETTLE)
    return (state or JobState("UNKNOWN")) if folder.code is None else None


def _judged(folder: JobFolder, number: str) -> Finding:
    """Return the finding of a job that has ended."""
    if folder.code != 0:
        text = folder.log.read_text(errors="replace") if folder.log.exists() else ""
        last = " ".join(text.strip().splitlines()[-3:])
        how = "before its work began" if folder.code is None else f"with {folder.code}"
        return Finding(WHAT, "failure", f"job {number} ended {how} ({folder.log}): {last}", EDIT)
    try:
        seen: dict[str, Any] = read_json(folder.path / ANSWER, "vgg-repro doctor")
    except Failure as reason:
        fix = "move the clone to a disk that all nodes share"
        return Finding(WHAT, "failure", f"this machine does not see what job {number} wrote: {reason}", fix)
    if not seen["locked"]:
        says = f"a lock that this machine holds is free on {seen['node']}: two jobs could train one run at once"
        return Finding(WHAT, "failure", says, "have the disk mounted with `flock` (Lustre), or use another one")
    if seen["local"]:
        return Finding(WHAT, "failure", f"`local` cannot be written on {seen['node']}: {seen['local']}", EDIT)
    where = f"{seen['node']} with {seen['cores']} cores and {seen['gpus']} GPUs"
    return Finding(WHAT, "ok", f"job {number} ran on {where}; its files and locks work")


def _look_around(folder: JobFolder) -> None:
    """Write what this node sees: its name, whether it sees the lock, its cores and GPUs, and why `local` fails."""
    gpus = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    seen = {
        "node": platform.node(),
        "locked": holder(folder.path / HELD) is not None,
        "cores": len(cores()),
        "gpus": len(gpus),
        "local": _why_not_local(os.environ.get(LOCAL, "")),
    }
    write_json(folder.path / ANSWER, seen)


def _why_not_local(local: str) -> str:
    """Return why nothing can be written to the node's own disk; an empty string if it can, or if none is named."""
    path = Path(os.path.expandvars(local))
    return "" if not local or os.access(path, os.W_OK) else f"{path} is not a folder that may be written"


if __name__ == "__main__":
    job = this_job()
    assert job is not None
    _look_around(job)
