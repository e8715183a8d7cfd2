"""The grid at a glance: how far each run is, from DVC's graph and from what runs that train say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.facts import Facts, read_facts, read_statistics
from pipeline.files import read_json
from pipeline.graph import Fate, fates
from pipeline.grid import MODES, TITLES, everything, in_part, rows
from pipeline.lock import holder
from pipeline.params import Params
from pipeline.paths import all_checkpoints, checkpoints, errors, shards_root, summary, table
from pipeline.paths import facts as facts_path
from pipeline.running import OldCheckpoint, Running, all_running, identity, old_checkpoints

Stand = Literal["waits", "ready", "training", "stopped", "cached", "trained", "published", "to import", "no net"]


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands."""

    name: str
    stand: Stand
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
    fate = {one.stage: one for one in fates(everything(params), params)}
    facts = read_facts(params.profile) if facts_path(params.profile).exists() else None
    old = old_checkpoints(_going_on(params, fate))
    begun = all_running(params, [one.folder for one in old]) if params.chosen.train else ()
    running = {one.run: (one, alive) for one, alive in begun}
    tables = {name: str(fate[name].what) for name in TITLES if name in fate}
    tables |= {name: "part" for name in in_part(params) if table(params.profile, name).exists()}
    done = {name: _runs_in(name, params) for name, what in tables.items() if what in ("done", "part")}
    return Status(
        params.profile,
        params.weights,
        facts,
        fate["prepare"].what != "run",
        next(filter(None, map(holder, shards_root().glob("*.lock"))), ""),
        [_run(params, name, fate, running.get(name), done, facts) for name in params.runs],
        tables,
        old,
    )


def _going_on(params: Params, fate: Mapping[str, Fate]) -> dict[str, Path | None]:
    """Return the folder that each run with a checkpoint goes on from; None if what it needs is not up to date."""
    found: dict[str, Path | None] = {}
    for run in {run for run, _ in all_checkpoints()} & set(params.runs):
        if mine := fate.get(f"train@{run}"):
            ready = all(fate[stage].what == "done" for stage in mine.needs)
            found[run] = checkpoints(run, identity(params, run, read_statistics())) if ready else None
    return found


def _run(
    params: Params,
    name: str,
    fate: Mapping[str, Fate],
    running: tuple[Running, bool] | None,
    done: Mapping[str, set[str]],
    facts: Facts | None,
) -> RunStatus:
    if params.weights == "published":
        stand = _imported(params, name, fate)
        return RunStatus(name, stand, "", None, None, _scores(params, name, fate), _tables(name, done))
    mine = fate[f"train@{name}"]
    waits = [one for one in sorted(mine.needs) if fate[one].what == "run" and not one.startswith("random@")]
    if mine.what == "done":
        stand = "trained"
    elif running:
        stand = "training" if running[1] else "stopped"
    elif mine.what == "cached":
        stand = "cached"
    else:
        stand = "waits" if waits else "ready"
    path = summary(params.profile, name)
    known = read_json(path, f"vgg-repro train {name}") if path.exists() else None
    if known and facts and known["data"] != facts.manifest:
        known = None  # of other images
    return RunStatus(
        name, stand, waits[-1].rpartition("@")[2] if waits else "", running[0] if running else None,
        known["centre_crop"]["top1"] if known else None, _scores(params, name, fate), _tables(name, done),
    )  # fmt: skip


def _imported(params: Params, name: str, fate: Mapping[str, Fate]) -> Stand:
    """How far a run is whose net is published."""
    if name not in params.imports:
        return "no net"
    return "published" if fate[f"import@{name}"].what == "done" else "to import"


def _scores(params: Params, name: str, fate: Mapping[str, Fate]) -> dict[str, float | None]:
    """A run's errors by mode, as far as they are up to date."""
    modes = [mode for mode in MODES if f"{mode}@{name}" in fate]
    return {mode: _score(params, name, mode) if fate[f"{mode}@{name}"].what == "done" else None for mode in modes}


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
