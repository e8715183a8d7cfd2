"""The share of the machine that each of several concurrent stages gets: its GPUs and its cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple, TypeVar

from pipeline.errors import UsageError
from pipeline.system.devices import VISIBLE, gpus_here

T = TypeVar("T")


class ResourceShare(NamedTuple):
    """GPUs by their names in CUDA_VISIBLE_DEVICES, and cores; if empty, all that this process may use."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that restrict a stage to its GPUs; training starts one process for each that it sees."""
        return {VISIBLE: ",".join(self.gpus)} if self.gpus else {}

    def keep_to_cores(self) -> None:
        """Restrict this process, and all that it starts, to the cores."""
        if self.cores:
            with suppress(OSError, AttributeError):  # they have been taken away meanwhile; only Linux can do this
                os.sched_setaffinity(0, self.cores)

    def __str__(self) -> str:
        if self.gpus:
            return f"GPU {','.join(self.gpus)}"
        return f"cores {spans(self.cores)}" if self.cores else "all cores"


def shares(jobs: int, gpus: Sequence[str], cores: Sequence[int]) -> list[ResourceShare]:
    """Return equal shares for `jobs` stages. Several share a GPU if there are fewer, and all cores if those are fewer.

    A stage that runs alone is not restricted to cores.
    """
    by_turns = 0 < len(gpus) < jobs
    each_gpus = [(gpus[n % len(gpus)],) for n in range(jobs)] if by_turns else _divided(gpus, jobs)
    each_cores = _divided(cores, jobs) if len(cores) >= jobs > 1 else [()] * jobs
    return [ResourceShare(*share) for share in zip(each_gpus, each_cores, strict=True)]


def chosen_gpus(text: str) -> tuple[str, ...]:
    """Return the GPUs of `--gpus 0,1`. Raise UsageError if it is no such list or names a GPU that is not there."""
    names = tuple(text.replace(" ", "").split(","))
    if not all(name.isascii() and name.isdigit() for name in names):
        raise UsageError(f"--gpus {text}: give GPU numbers separated by commas, such as --gpus 0,1")
    numbers = tuple(str(int(name)) for name in names)
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--gpus {text}: a GPU is listed twice")
    count = gpus_here()
    if count == 0:
        raise UsageError(f"--gpus {text}: there is no GPU on this machine; omit --gpus")
    if count is not None and (wrong := [number for number in numbers if int(number) >= count]):
        valid = "the only one is 0" if count == 1 else f"they are 0 to {count - 1}"
        raise UsageError(f"--gpus {text}: there is no GPU {wrong[0]} on this machine; {valid}")
    return numbers


def visible_gpus() -> tuple[str, ...]:
    """Return all GPUs that a process started here sees, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE not in os.environ:
        return tuple(str(number) for number in range(gpus_here() or 0))
    names = [name.strip() for name in os.environ[VISIBLE].split(",")]
    ends = [not name or name.startswith("-") for name in names] + [True]  # CUDA, too, stops at such a name
    return tuple(names[: ends.index(True)])


def spans(numbers: Sequence[int]) -> str:
    """Return whole numbers in short form: 0-3,8."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def _divided(whole: Sequence[T], parts: int) -> list[tuple[T, ...]]:
    """Return `parts` slices of `whole`; the first ones have one more element if it does not divide evenly."""
    edges = [-(-number * len(whole) // parts) for number in range(parts + 1)]
    return [tuple(whole[begin:end]) for begin, end in pairwise(edges)]
