"""Checks of the names that a user may give (runs, nets, modes, tables), and the stages that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.errors import UsageError
from pipeline.experiment.modes import MODES, runs_of
from pipeline.experiment.paper_tables import LATER, TITLES, rows
from pipeline.experiment.params import NETS, Import, Params, Run
from pipeline.experiment.validation import nearest


def check_run(params: Params, run: str) -> Run:
    """Return the row of `run`. Raise UsageError, naming the nearest run and all runs, if there is none."""
    if run not in params.runs:
        raise UsageError(f"no run is called {run!r}. {nearest(run, list(params.runs))}")
    return params.runs[run]


def check_imported(params: Params, run: str) -> Import:
    """Return the row of `imports` for `run`. Raise UsageError, with the command that adds one, if there is none."""
    check_run(params, run)
    if run not in params.imports:
        raise UsageError(f"{run} has no published net yet: vgg-repro weights import {run} FILE")
    return params.imports[run]


def check_table(name: str) -> str:
    """Return the stage of the table that the user calls "4" or "table4". Raise UsageError if there is none."""
    stage = name if name == "shallow" else f"table{name.removeprefix('table')}"
    if stage in TITLES:
        return stage
    names = [title.removeprefix("table") for title in TITLES]
    if stage in LATER:
        number = stage.removeprefix("table")
        raise UsageError(f"Table {number} is not there yet: {LATER[stage]} is not built. There are {', '.join(names)}")
    raise UsageError(f"there is no table {name!r}. {nearest(name, names)}")


def scored(params: Params) -> Iterator[tuple[str, str]]:
    """Yield every score (run, mode) of the grid whose weights exist or can be made without a further import."""
    for mode in MODES:
        yield from ((r, mode) for r in runs_of(params, mode) if params.weights == "trained" or r in params.imports)


def everything(params: Params) -> list[str]:
    """Return the stages to run if none is named: [] for DVC's whole graph, or those that the published nets allow."""
    if params.weights == "trained":
        return []
    scores = sorted(f"{mode}@{run}" for run, mode in scored(params))
    return ["prepare", *scores, *(name for name in TITLES if not lacking(name, params))]


def lacking(table: str, params: Params) -> list[str]:
    """Return the runs of a table whose published nets are not imported; an empty list if nets are trained."""
    possible = set(scored(params))
    return list(dict.fromkeys(need[0] for row in rows(table, params) for need in row.needs() if need not in possible))


def in_part(params: Params) -> list[str]:
    """Return the tables that lack nets but have at least one row of ours."""
    possible = set(scored(params))
    return [
        name for name in TITLES
        if lacking(name, params)
        and any(row.runs and all(need in possible for need in row.needs()) for row in rows(name, params))
    ]  # fmt: skip


def within_reach(targets: Sequence[str], params: Params) -> list[str]:
    """Return the stages, each table that lacks nets replaced by its possible scores; all stages if none is named."""
    if not targets:
        return everything(params)
    possible = set(scored(params))
    stages: list[str] = []
    for target in targets:
        if target in TITLES and lacking(target, params):
            needed = {need for row in rows(target, params) for need in row.needs()} & possible
            stages += ["prepare", *sorted(f"{mode}@{run}" for run, mode in needed)]
        else:
            stages.append(target)
    return list(dict.fromkeys(stages))


def stage_of(target: str) -> str:
    """Return the stage of a table that the user names by its number. Return any other name unchanged."""
    return check_table(target) if target.removeprefix("table").isdigit() else target


def check_net(net: str) -> str:
    """Return `net`. Raise UsageError, naming the nearest net and all nets, if there is none of this name."""
    if net not in NETS:
        raise UsageError(f"no net is called {net!r}. {nearest(net, list(NETS))}")
    return net


def check_mode(params: Params, mode: str, run: str, direct: bool = False) -> str:
    """Return `mode`. Raise UsageError if there is no such mode or if the graph does not have it for this run."""
    if mode not in MODES:
        raise UsageError(f"no mode is called {mode!r}. {nearest(mode, list(MODES))}")
    if not direct and run in params.runs and run not in runs_of(params, mode):
        raise UsageError(f"{run} is not in the list `{mode}` of params.yaml; put it there, or add --direct")
    return mode
