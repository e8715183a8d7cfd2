"""What a person may name, checked: runs, nets, modes and tables, and the stages that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.errors import UsageError
from pipeline.experiment.grid import MODES, TITLES, rows
from pipeline.experiment.params import NETS, Import, Params, Run
from pipeline.experiment.validation import nearest

LATER = {
    8: "localisation (appendix A)",
    9: "localisation (appendix A)",
    10: "localisation (appendix A)",
    11: "other data sets (appendix B)",
    12: "action classification (appendix B)",
}


def check_run(params: Params, run: str) -> Run:
    """The row of `run`; UsageError names the nearest and all."""
    if run not in params.runs:
        raise UsageError(f"no run is called {run!r}. {nearest(run, list(params.runs))}")
    return params.runs[run]


def check_imported(params: Params, run: str) -> Import:
    """The row of `imports` for `run`; UsageError says how one comes there."""
    check_run(params, run)
    if run not in params.imports:
        raise UsageError(f"{run} has no published net yet: vgg-repro weights import {run} FILE")
    return params.imports[run]


def check_table(name: str) -> str:
    """The stage of the table a person calls "4" or "table4"; UsageError for one that is not there."""
    stage = name if name == "shallow" else f"table{name.removeprefix('table')}"
    if stage in TITLES:
        return stage
    number = stage.removeprefix("table")
    if number.isdigit() and int(number) in LATER:
        raise UsageError(
            f"Table {number} is not there yet: {LATER[int(number)]} is not built. There are 1 to 7, shallow"
        )
    raise UsageError(f"there is no table {name!r}. {nearest(name, [*map(str, range(1, 8)), 'shallow'])}")


def scored(params: Params) -> Iterator[tuple[str, str]]:
    """Every score (run, mode) of the grid that has weights, or can have them without another's work being imported."""
    for mode, runs in (("dense", params.runs), ("crops", params.crops), ("centre", params.centre)):
        yield from ((run, mode) for run in runs if params.weights == "trained" or run in params.imports)


def everything(params: Params) -> list[str]:
    """The stages that a person means who names none: DVC's whole graph, or what published nets are enough for."""
    if params.weights == "trained":
        return []
    scores = sorted(f"{mode}@{run}" for run, mode in scored(params))
    return ["prepare", *scores, *(name for name in TITLES if not lacking(name, params))]


def lacking(table: str, params: Params) -> list[str]:
    """The runs in a table whose published nets nobody has imported; none where nets are trained."""
    there = set(scored(params))
    return list(dict.fromkeys(need[0] for row in rows(table, params) for need in row.needs() if need not in there))


def in_part(params: Params) -> list[str]:
    """The tables that lack nets and have a row of ours all the same."""
    there = set(scored(params))
    return [
        name for name in TITLES
        if lacking(name, params)
        and any(row.runs and all(need in there for need in row.needs()) for row in rows(name, params))
    ]  # fmt: skip


def within_reach(targets: Sequence[str], params: Params) -> list[str]:
    """The same stages, but for a table that lacks nets the scores that it can have; everything, if none is named."""
    if not targets:
        return everything(params)
    there = set(scored(params))
    found: list[str] = []
    for target in targets:
        if target in TITLES and lacking(target, params):
            needed = {need for row in rows(target, params) for need in row.needs()} & there
            found += ["prepare", *sorted(f"{mode}@{run}" for run, mode in needed)]
        else:
            found.append(target)
    return list(dict.fromkeys(found))


def stage_of(target: str) -> str:
    """The stage that a person may call by its table's number; any other name as it is."""
    return check_table(target) if target.removeprefix("table").isdigit() else target


def check_net(net: str) -> str:
    """`net` itself; UsageError names the nearest and all."""
    if net not in NETS:
        raise UsageError(f"no net is called {net!r}. {nearest(net, list(NETS))}")
    return net


def check_mode(params: Params, mode: str, run: str, direct: bool = False) -> str:
    """`mode` itself; UsageError for one that is none, or that the graph does not have for this run."""
    if mode not in MODES:
        raise UsageError(f"no mode is called {mode!r}. {nearest(mode, MODES)}")
    listed = params.runs if mode == "dense" else getattr(params, mode)
    if not direct and run in params.runs and run not in listed:
        raise UsageError(f"{run} is not in the list `{mode}` of params.yaml; put it there, or add --direct")
    return mode
