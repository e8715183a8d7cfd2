"""The grid at a glance: how far each run is, from DVC's graph and from what runs that train say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.datasets.facts import Facts, read_facts, read_statistics
from pipeline.experiment.grid import MODES, TITLES, rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, all_checkpoints, checkpoints, errors, shards_root, summary, table
from pipeline.experiment.targets import everything, in_part
from pipeline.orchestration.dvc_graph import StageForecast, forecasts
from pipeline.orchestration.heartbeat import OldCheckpoint, Running, all_running, identity, old_checkpoints
from pipeline.system.atomic_files import read_json
from pipeline.system.locks import holder

RunState = Literal["waits", "ready", "training", "stopped", "cached", "trained", "published", "to import", "no net"]


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands."""

    name: str
    state: RunState
    after: str  # the run or stage that it waits for
    running: Running | None
    error: float | None  # validation top-1 in per cent at the end of the last training, centre crop
    scores: Mapping[str, float | None]  # by mode, top-1 in per cent at the run's best Q; None: not scored
    tables: tuple[str, ...]  # that are done and have this run in them


@dataclass(frozen=True)
class Status:
    """Where the whole stands."""

    profile: str
    weights: str  # whose are scored: trained, or published
    facts: Facts | None  # of the prepared images
    prepared: bool
    preparing: str  # who does so just now
    runs: list[RunStatus]
    tables: Mapping[str, str]  # done, part (of a table's nets), cached or run, by stage
    old: Sequence[OldCheckpoint] = ()  # of other parameters or data


def status(params: Params) -> Status:
    """Where everything stands, now; others may be at work meanwhile."""
    forecast = {one.stage: one for one in forecasts(everything(params), params)}
    facts = read_facts(params.profile) if CLASSIFICATION.facts(params.profile).exists() else None
    old = old_checkpoints(_going_on(params, forecast))
    begun = all_running(params, [one.folder for one in old]) if params.active.train else ()
    running = {one.run: (one, alive) for one, alive in begun}
    tables = {name: str(forecast[name].what) for name in TITLES if name in forecast}
    tables |= {name: "part" for name in in_part(params) if table(params.profile, name).exists()}
    done = {name: _runs_in(name, params) for name, what in tables.items() if what in ("done", "part")}
    return Status(
        params.profile,
        params.weights,
        facts,
        forecast["prepare"].what != "run",
        next(filter(None, map(holder, shards_root().glob("*.lock"))), ""),
        [_run(params, name, forecast, running.get(name), done, facts) for name in params.runs],
        tables,
        old,
    )


def _going_on(params: Params, forecast: Mapping[str, StageForecast]) -> dict[str, Path | None]:
    """Return the folder that each run with a checkpoint goes on from; None if what it needs is not up to date."""
    found: dict[str, Path | None] = {}
    for run in {run for run, _ in all_checkpoints()} & set(params.runs):
        if mine := forecast.get(f"train@{run}"):
            ready = all(forecast[stage].what == "done" for stage in mine.needs)
            found[run] = checkpoints(run, identity(params, run, read_statistics())) if ready else None
    return found


def _run(
    params: Params,
    name: str,
    forecast: Mapping[str, StageForecast],
    running: tuple[Running, bool] | None,
    done: Mapping[str, set[str]],
    facts: Facts | None,
) -> RunStatus:
    if params.weights == "published":
        state = _imported(params, name, forecast)
        return RunStatus(name, state, "", None, None, _scores(params, name, forecast), _tables(name, done))
    mine = forecast[f"train@{name}"]
    waits = [one for one in sorted(mine.needs) if forecast[one].what == "run" and not one.startswith("random@")]
    if mine.what == "done":
        state = "trained"
    elif running:
        state = "training" if running[1] else "stopped"
    elif mine.what == "cached":
        state = "cached"
    else:
        state = "waits" if waits else "ready"
    path = summary(params.profile, name)
    known = read_json(path, f"vgg-repro train {name}") if path.exists() else None
    if known and facts and known["data"] != facts.manifest:
        known = None  # of other images
    return RunStatus(
        name, state, waits[-1].rpartition("@")[2] if waits else "", running[0] if running else None,
        known["centre_crop"]["top1"] if known else None, _scores(params, name, forecast), _tables(name, done),
    )  # fmt: skip


def _imported(params: Params, name: str, forecast: Mapping[str, StageForecast]) -> RunState:
    """How far a run is whose net is published."""
    if name not in params.imports:
        return "no net"
    return "published" if forecast[f"import@{name}"].what == "done" else "to import"


def _scores(params: Params, name: str, forecast: Mapping[str, StageForecast]) -> dict[str, float | None]:
    """A run's errors by mode, as far as they are up to date."""
    modes = [mode for mode in MODES if f"{mode}@{name}" in forecast]
    return {mode: _score(params, name, mode) if forecast[f"{mode}@{name}"].what == "done" else None for mode in modes}


def _tables(name: str, done: Mapping[str, set[str]]) -> tuple[str, ...]:
    return tuple(table for table, runs in done.items() if name in runs)


def _score(params: Params, name: str, mode: str) -> float | None:
    """The lowest top-1 error over a run's test scales."""
    path = errors(params.profile, name, mode)
    if not path.exists():
        return None
    values: dict[str, dict[str, float]] = read_json(path, f"vgg-repro score {mode} {name}")["errors"]
    return min(one["top1"] for one in values.values())


def _runs_in(table: str, params: Params) -> set[str]:
    return {run for row in rows(table, params) for run in row.runs}
