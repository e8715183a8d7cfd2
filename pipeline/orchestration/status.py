"""The state of the grid: how far each run is, from DVC's graph and from the progress files of runs that train."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.datasets.facts import Facts, read_facts, read_statistics
from pipeline.experiment.other_sets import NETS_OF, classified_by
from pipeline.experiment.paper_tables import OTHER_SETS, rows, tables_of
from pipeline.experiment.params import Params
from pipeline.experiment.paths import (
    CLASSIFICATION,
    all_checkpoints,
    checkpoints,
    classified,
    errors_of,
    shards_root,
    summary,
    table,
)
from pipeline.experiment.run_names import score_stage, starting_from, train_stage, work_of
from pipeline.experiment.targets import classifying, everything, in_part
from pipeline.orchestration.dvc_graph import StageForecast, forecasts
from pipeline.orchestration.heartbeat import OldCheckpoint, Running, all_running, identity, old_checkpoints, stalled_run
from pipeline.system.atomic_files import read_json
from pipeline.system.locks import holder
from vgg.stalling import did_not_learn, has_stalled

EVALUATIONS = {  # a column of the state to the mode that it shows and the tables that may have its error
    "dense, one Q": ("dense", ("table3",)),
    "dense, three Q": ("dense", ("table4",)),
    "50 crops, three Q": ("crops", ("table5",)),
    "centre crop": ("centre", ("shallow", "initialisation")),
}
Scored = Literal["scored", "to do"]
RunState = Literal["waits", "ready", "training", "stopped", "cached", "trained", "published", "to import", "no net"]


@dataclass(frozen=True)
class RunStatus:
    """The state of a run."""

    name: str
    state: RunState
    after: str  # the run or stage that it waits for
    running: Running | None
    error: float | None  # validation top-1 error in per cent at the end of its training, centre crop
    scores: Mapping[str, float | Scored]  # by evaluation, a finished table's top-1 error in per cent, or how far it is
    tables: tuple[str, ...]  # finished tables that contain this run
    stalled: bool = False  # its loss stays at that of a blind guess


@dataclass(frozen=True)
class Status:
    """The state of the whole grid."""

    profile: str
    weights: str  # which nets are scored: trained or published
    facts: Facts | None  # of the prepared images
    prepared: bool
    preparing: str  # who is preparing images now
    runs: list[RunStatus]  # of the grid, then those that the profile adds
    tables: Mapping[str, str]  # by stage: done, committed (in git alone), part (of a table's nets), cached or run
    old: Sequence[OldCheckpoint] = ()  # checkpoints of other parameters or data
    from_stalled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # a stalled run to those that need it
    claims: str = ""  # how far the tests of the paper's claims are, as in `tables`; an empty string if there are none


def status(params: Params) -> Status:
    """Return the current state of everything; other processes may be at work meanwhile."""
    forecast = {stage.stage: stage for stage in forecasts(everything(params), params)}
    facts = read_facts(params.profile) if CLASSIFICATION.facts(params.profile).exists() else None
    old = old_checkpoints(_going_on(params, forecast))
    begun = all_running(params, [checkpoint.folder for checkpoint in old]) if params.active.train else ()
    running = {run.run: (run, alive) for run, alive in begun}
    tables = {name: str(forecast[name].what) for name in tables_of(params) if name in forecast}
    committed = {name for name, what in tables.items() if what == "done" and not _has_scores(forecast[name])}
    tables |= dict.fromkeys(committed, "committed")
    tables |= {name: "part" for name in in_part(params) if table(params.profile, name).exists()}
    done = {name: _runs_in(name, params) for name, what in tables.items() if what in ("done", "part")}
    shown = {name: read_json(table(params.profile, name), f"dvc repro {name}") for name in done}
    runs = [_run(params, name, forecast, running.get(name), done, shown) for name in _shown(params)]
    trained = params.all_trained if params.localises else params.all_runs
    starts = {name: run.init for name, run in trained.items()}
    return Status(
        params.profile,
        params.weights,
        facts,
        forecast["prepare"].what != "run",
        next(filter(None, map(holder, shards_root().glob("*.lock"))), ""),
        runs,
        tables,
        old,
        {run.name: starting_from(starts, run.name) for run in runs if run.stalled},
        _claims(forecast, committed),
    )


def stalled_runs(params: Params) -> list[str]:
    """Return the trained runs whose summaries say that their nets did not learn."""
    return [run for run in params.all_runs if stalled_run(run)]


def _shown(params: Params) -> list[str]:
    """Return the runs of the grid and, if nets are trained, those that the profile adds and the localisers."""
    added = [*params.extra.runs] if params.weights == "trained" else []
    return [*params.runs, *added, *(params.localisers if params.localises else ())]


def _going_on(params: Params, forecast: Mapping[str, StageForecast]) -> dict[str, Path | None]:
    """Return the folder that each run with a checkpoint resumes from; None if what the run needs is not up to date."""
    folders: dict[str, Path | None] = {}
    for run in {run for run, _ in all_checkpoints()} & set(params.all_trained):
        if training := forecast.get(train_stage(run)):
            ready = all(forecast[stage].what == "done" for stage in training.needs)
            folders[run] = checkpoints(run, identity(params, run, read_statistics())) if ready else None
    return folders


def _run(
    params: Params,
    name: str,
    forecast: Mapping[str, StageForecast],
    running: tuple[Running, bool] | None,
    done: Mapping[str, set[str]],
    shown: Mapping[str, Any],
) -> RunStatus:
    scores, tables = _scores(params, name, forecast, shown), _tables(name, done)
    if params.weights == "published":
        state = _imported(params, name, forecast)
        return RunStatus(name, state, "", None, None, scores, tables)
    training = forecast[train_stage(name)]
    waits = [
        stage for stage in sorted(training.needs) if forecast[stage].what == "run" and work_of(stage)[0] != "random"
    ]
    if training.what == "done":
        state = "trained"
    elif running:
        state = "training" if running[1] else "stopped"
    elif training.what == "cached":
        state = "cached"
    else:
        state = "waits" if waits else "ready"
    error = None
    stalled = running is not None and has_stalled(running[0].at_chance, running[0].epoch, finished=False)
    if state == "trained":
        finished = read_json(summary(name), f"vgg-repro train {name}")
        error, stalled = finished["centre_crop"]["top1"], did_not_learn(finished)
    after = waits[-1].rpartition("@")[2] if waits else ""
    return RunStatus(name, state, after, running[0] if running else None, error, scores, tables, stalled)


def _has_scores(forecast: StageForecast) -> bool:
    """Return True unless a score that the table is made from is not here, so that the table is the one in git."""
    if (name := forecast.stage) in OTHER_SETS:
        return all(classified(name, *classified_by(stage)).exists() for stage in forecast.needs if "@" in stage)
    return all(errors_of(stage).exists() for stage in forecast.needs if "@" in stage)


def _claims(forecast: Mapping[str, StageForecast], committed: Collection[str]) -> str:
    """Return how far the claims are. With tables that are only committed, so are the claims on their scores."""
    what = str(forecast["claims"].what) if "claims" in forecast else ""
    return "committed" if what == "done" and committed else what


def _imported(params: Params, name: str, forecast: Mapping[str, StageForecast]) -> RunState:
    """Return the state of a run whose net is published."""
    if name not in params.imports:
        return "no net"
    return "published" if forecast[f"import@{name}"].what == "done" else "to import"


def _scores(
    params: Params, name: str, forecast: Mapping[str, StageForecast], shown: Mapping[str, Any]
) -> dict[str, float | Scored]:
    """Return a run's errors as the finished tables have them, by evaluation, and how far the others are."""
    scores: dict[str, float | Scored] = {}
    for evaluation, (mode, tables) in EVALUATIONS.items():
        if stage := forecast.get(score_stage(name, mode)):
            rows = [row for name in tables for row in shown.get(name, {"rows": ()})["rows"]]
            error = _error(rows, stage.stage) if stage.what == "done" else None
            scores[evaluation] = ("scored" if stage.what == "done" else "to do") if error is None else error
    return scores


def _error(rows: Sequence[Mapping[str, Any]], stage: str) -> float | None:
    """Return the top-1 error of the row that is made from this score alone; None if there is none."""
    for row in rows:
        if row["scores"] == [stage] and row["ours"]:
            error: float = row["ours"]["top1"]["error"]
            return error
    return None


def _tables(name: str, done: Mapping[str, set[str]]) -> tuple[str, ...]:
    return tuple(table for table, runs in done.items() if name in runs)


def _runs_in(table: str, params: Params) -> set[str]:
    if table in OTHER_SETS:
        return {run for stage in classifying(table, params) for run in NETS_OF[classified_by(stage)[1]]}
    return {run for row in rows(table, params) for run in row.runs}
