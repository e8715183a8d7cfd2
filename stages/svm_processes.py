"""The SVMs of several classes at once, in as many processes as the memory allows.

The processes map one copy of the examples into their memory. Each SVM is trained by the same code on one thread, so
the results do not depend on the number of processes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.experiment.paths import checkpoints_root
from pipeline.system.devices import cores
from pipeline.system.memory import usable
from pipeline.system.progress import Progress, gigabytes
from pipeline.system.worker_pool import run_tasks
from vgg.draws import Floats
from vgg.svm import ClassSvm, Job, Labels, bytes_of_one, one_by_one

OPEN = Path("/proc/self/fd")  # through which other processes open a file without a name
SHARE = 0.7  # of the memory that is left
START = 2.5e8  # bytes of a process with scikit-learn
SMALL = 2e9  # numbers times SVMs; processes for fewer of them take longer to start than to work


def in_processes(
    progress: Progress, rows: Floats, labels: Labels, jobs: Sequence[Job], seed: int
) -> Iterator[tuple[Job, ClassSvm]]:
    """Yield the SVM of each job, as `vgg.svm.one_by_one` does, as they arrive. Raise the errors of `run_tasks`."""
    each = bytes_of_one(rows, labels)
    processes = _processes(rows, each, len(jobs))
    if rows.size * len(jobs) >= SMALL:
        shape = f"{rows.shape[0]:,} x {rows.shape[1]:,} numbers"
        progress.say(f"{progress.what}: {len(jobs):,} SVMs on {shape}, {processes} at once, {gigabytes(each)} each")
    if processes == 1:
        solved = iter(one_by_one(rows, labels, jobs, seed))
        yield from _counted(progress, solved)
        return
    with _mapped(rows) as path:
        work = partial(_solve, path, labels, seed)
        yield from _counted(progress, run_tasks(work, jobs, processes, "training SVMs"))


def _counted(progress: Progress, solved: Iterator[tuple[Job, ClassSvm]]) -> Iterator[tuple[Job, ClassSvm]]:
    for job, solution in solved:
        progress.advance()
        yield job, solution


def _processes(rows: Floats, each: int, jobs: int) -> int:
    """Return how many SVMs of `each` bytes are trained at once."""
    if rows.size * jobs < SMALL or not OPEN.exists():
        return 1
    room = SHARE * usable() - rows.nbytes  # of the file's pages
    return max(1, min(len(cores()), jobs, int(room / (START + each))))


@contextmanager
def _mapped(rows: Floats) -> Iterator[str]:
    """Yield the path of a file with `rows` for this program's processes. It ends with this process."""
    checkpoints_root().mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=checkpoints_root()) as file:
        np.save(file, rows)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _solve(path: str, labels: Labels, seed: int, job: Job, repeated: bool) -> tuple[Job, ClassSvm]:
    """Return the SVM of a job on the rows in a file."""
    rows = np.load(path, mmap_mode="r")
    ((_, solution),) = one_by_one(rows, labels, [job], seed)
    return job, solution
