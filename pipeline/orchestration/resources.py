"""What of the machine each of several stages gets that run side by side: its GPUs and its cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple, TypeVar

from pipeline.errors import UsageError
from pipeline.system.devices import gpus_here

T = TypeVar("T")
VISIBLE = "CUDA_VISIBLE_DEVICES"


class ResourceShare(NamedTuple):
    """GPUs by their names in CUDA_VISIBLE_DEVICES, and cores; whatever this process may use where there are none."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What holds a stage to its GPUs; training starts one process for each that it sees."""
        return {VISIBLE: ",".join(self.gpus)} if self.gpus else {}

    def keep_to_cores(self) -> None:
        """Hold this process, and all that it starts, to the cores."""
        if self.cores:
            with suppress(OSError):  # they have been taken from us meanwhile
                os.sched_setaffinity(0, self.cores)

    def __str__(self) -> str:
        if self.gpus:
            return f"GPU {','.join(self.gpus)}"
        return f"cores {spans(self.cores)}" if self.cores else "all cores"


def shares(jobs: int, gpus: Sequence[str], cores: Sequence[int]) -> list[ResourceShare]:
    """Equal shares for `jobs` stages; several share a GPU where there are fewer, and all cores where those are fewer.

    A stage that runs alone is held to no cores.
    """
    by_turns = 0 < len(gpus) < jobs
    each_gpus = [(gpus[n % len(gpus)],) for n in range(jobs)] if by_turns else _divided(gpus, jobs)
    each_cores = _divided(cores, jobs) if len(cores) >= jobs > 1 else [()] * jobs
    return [ResourceShare(*share) for share in zip(each_gpus, each_cores, strict=True)]


def chosen_gpus(text: str) -> tuple[str, ...]:
    """The GPUs of `--gpus 0,1`. UsageError for what is no such list, or for a GPU that is not there."""
    names = tuple(text.replace(" ", "").split(","))
    if not all(name.isascii() and name.isdigit() for name in names):
        raise UsageError(f"--gpus {text}: give the GPUs' numbers with commas between them, such as --gpus 0,1")
    numbers = tuple(str(int(name)) for name in names)
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--gpus {text}: a GPU is named twice; leave one out")
    here = gpus_here()
    if here == 0:
        raise UsageError(f"--gpus {text}: there is no GPU on this machine; leave --gpus out")
    if here is not None and (wrong := [number for number in numbers if int(number) >= here]):
        known = "the only one is 0" if here == 1 else f"they are 0 to {here - 1}"
        raise UsageError(f"--gpus {text}: there is no GPU {wrong[0]} on this machine; {known}")
    return numbers


def visible_gpus() -> tuple[str, ...]:
    """All GPUs that a process sees which is started here, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE not in os.environ:
        return tuple(str(number) for number in range(gpus_here() or 0))
    names = [name.strip() for name in os.environ[VISIBLE].split(",")]
    known = [not name or name.startswith("-") for name in names] + [True]  # CUDA, too, reads up to such a name
    return tuple(names[: known.index(True)])


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers in short: 0-3,8."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def _divided(whole: Sequence[T], parts: int) -> list[tuple[T, ...]]:
    """Neighbours together; the first parts have one more where it does not come out even."""
    edges = [-(-number * len(whole) // parts) for number in range(parts + 1)]
    return [tuple(whole[begin:end]) for begin, end in pairwise(edges)]
