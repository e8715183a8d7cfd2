"""Which run starts from which: the chain of initial weights of section 3.1, with what came of each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.experiment.params import RANDOM, Params
from pipeline.experiment.run_names import kind_of


class ChainedRun(NamedTuple):
    """A run of the grid with the runs that start from its weights."""

    name: str
    summary: Mapping[str, Any] | None  # None if it is not trained
    followers: tuple[ChainedRun, ...]

    def everyone(self) -> Iterator[ChainedRun]:
        """Yield the run and all that follow it."""
        yield self
        for follower in self.followers:
            yield from follower.everyone()


def run_chain(params: Params | None, summaries: Mapping[str, Mapping[str, Any]]) -> tuple[ChainedRun, ...]:
    """Return the runs that start from random weights, with those that start from them.

    The grid is that of `params`; without them, it is what the summaries of trained runs say.
    """
    if params:
        starts = {name: run.init for name, run in params.runs.items()}
    else:
        starts = {run: values["init"] for run, values in summaries.items() if not kind_of(run)}
    first = [run for run, start in starts.items() if start.startswith(RANDOM)]
    lost = [start for start in dict.fromkeys(starts.values()) if start not in starts and not start.startswith(RANDOM)]
    return tuple(_chained(run, starts, summaries) for run in (*first, *lost))


def _chained(run: str, starts: Mapping[str, str], summaries: Mapping[str, Mapping[str, Any]]) -> ChainedRun:
    followers = (_chained(name, starts, summaries) for name, start in starts.items() if start == run)
    return ChainedRun(run, summaries.get(run), tuple(followers))


def chance(table: Mapping[str, Any]) -> float:
    """Return the top-1 error in per cent of guessing among a table's classes."""
    return float(100 * (1 - 1 / table["classes"]))


def stalled(table: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Return the labels of a table's rows whose error cannot be told from that of guessing."""
    known = [(row["label"], row["ours"]["top1"]) for row in table["rows"] if row["ours"]]
    return [label for label, error in known if error["low"] <= chance(table) <= error["high"]]
