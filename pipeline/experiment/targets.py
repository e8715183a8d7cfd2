"""Checks of the names that a user may give (runs, nets, modes, tables), and the stages that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.errors import UsageError
from pipeline.experiment.modes import CENTRE_BOXES, MODES, WINDOWS, runs_of
from pipeline.experiment.other_sets import (
    DESCRIBED,
    NETS_OF,
    RESAMPLED,
    aggregation_stage,
    features_stage,
    sets_of,
    shown_stage,
    svm_stage,
    systems_of,
)
from pipeline.experiment.paper_tables import LOCALISATION, OTHER_SETS, TITLES, number_of, rows, tables_of
from pipeline.experiment.params import NETS, RANDOM, Import, Params, Run
from pipeline.experiment.run_names import kind_of, random_stage, score_stage, train_stage
from pipeline.experiment.server_sets import box_scores, class_scores, set_stages
from pipeline.experiment.validation import is_near, nearest, nearest_of

ILLUSTRATIONS, ILLUSTRATED = "illustrations", "D-jitter"  # the stage, and the run whose weights it needs
LOCATED = "localisation"  # the stage of the images with boxes


def check_run(params: Params, run: str) -> Run:
    """Return the row of `run`. Raise UsageError, naming the nearest run, those of its net or all, if there is none."""
    return _one_of(params, run, params.all_trained)


def _one_of(params: Params, run: str, runs: Mapping[str, Run]) -> Run:
    """Return the row of `run` in `runs`. Raise UsageError as `check_run`, naming these runs alone."""
    if run not in runs:
        net = run if run in NETS else run.rpartition("-")[0]
        of_net = [f"{name} ({_scale(row)})" for name, row in params.runs.items() if row.net == net]
        if of_net and not is_near(run, list(runs)):
            raise UsageError(f"unknown run {run!r}. Runs of net {net}: {', '.join(of_net)}")
        raise UsageError(f"unknown run {run!r}. {nearest(run, list(runs))}")
    return runs[run]


def check_grid_run(params: Params, run: str) -> Run:
    """Return the row of a run of the grid. Raise UsageError as `check_run`, or if the active profile adds the run."""
    if kind_of(run) and run in params.extra.runs:
        raise UsageError(f"{run} is not a run of the grid: profile {params.profile} adds it, to be trained here")
    if run in params.localisers:
        raise UsageError(f"{run} is a localiser, which is trained here")
    return _one_of(params, run, params.runs)


def check_classifier(params: Params, run: str) -> Run:
    """Return the row of a run with class scores. Raise UsageError as `check_run`, or if it is a localiser."""
    if run in params.localisers:
        raise UsageError(f"{run} predicts boxes; choose a network with class scores, such as its run "
                         f"{params.localisers[run].run}")  # fmt: skip
    return _one_of(params, run, params.all_runs)


def _scale(run: Run) -> str:
    low, high = run.scales
    layers = "" if run.layers == "all" else ", FC layers only"
    return f"S = {low}{layers}" if low == high else f"S in {low} to {high}{layers}"


def check_imported(params: Params, run: str) -> Import:
    """Return the row of `imports` for `run`. Raise UsageError, with the command that adds one, if there is none."""
    check_grid_run(params, run)
    if run not in params.imports:
        raise UsageError(f"no published net is imported for {run} yet: vgg-repro weights import {run} FILE")
    return params.imports[run]


def check_table(name: str) -> str:
    """Return the stage of the table that the user calls "4" or "table4". Raise UsageError if there is none."""
    stage = name if name in TITLES else f"table{number_of(name)}"
    if stage in TITLES:
        return stage
    names = [number_of(title) for title in TITLES]
    if number_of(stage).isdigit():
        raise UsageError(f"there is no table {name!r}: the paper has Tables 1 to 12. Available: {', '.join(names)}")
    raise UsageError(f"unknown table {name!r}. {nearest(name, names)}")


def scored(params: Params) -> Iterator[tuple[str, str]]:
    """Yield every score (run, mode) whose weights exist or can be made without a further import."""
    trained = params.weights == "trained"
    for mode in MODES:
        yield from ((run, mode) for run in runs_of(params, mode) if trained or run in params.imports)
        yield from ((run, mode) for run in added_to(params, mode) if trained)
    if params.localises:
        yield from _of_boxes(params)


def _of_boxes(params: Params) -> Iterator[tuple[str, str]]:
    """Yield every score (localiser, mode) of boxes."""
    yield from ((name, CENTRE_BOXES) for name in params.localisers)
    yield from ((name, WINDOWS) for name in params.windows)


def added_to(params: Params, mode: str) -> list[str]:
    """Return the runs of `extra` that are scored in `mode`."""
    return list(getattr(params.extra, mode))


def everything(params: Params) -> list[str]:
    """Return the stages to run if none is named: [] for DVC's whole graph, or those that nets and images allow."""
    if params.localises:
        return []
    if params.weights == "trained":
        known = [stage for stage in stages(params) if not stage.startswith("import@")]
        return [stage for stage in known if not _needs_boxes(stage, params)]
    scores = sorted(score_stage(*score) for score in scored(params))
    scores += [stage for table in OTHER_SETS for stage in classifying(table, params)]
    if all(is_possible(params, run) for run in DESCRIBED):
        scores += [aggregation_stage(name) for name in sets_of(params, "table11")]
    tested = [score for name in params.test_sets for score in class_scores(name)]
    scores += [score.stage for score in tested if is_possible(params, score.run)]
    shown = [ILLUSTRATIONS] * (ILLUSTRATED in params.imports)
    if all(is_possible(params, run) for run in DESCRIBED):
        shown += map(shown_stage, params.datasets)
    return ["prepare", *scores, *(name for name in tables_of(params) if not lacking(name, params)), *shown]


def _needs_boxes(stage: str, params: Params) -> bool:
    """Return True if a stage needs boxes: those of localisation alone, and the claims if they depend on Table 8."""
    if stage == "claims":
        return params.located in LOCALISATION
    if any(stage == score.stage for name in params.test_sets for score in box_scores(name)):
        return True
    return stage in ("truth", "threshold", LOCATED, *LOCALISATION) or stage.partition("@")[2] in params.localisers


def lacking(table: str, params: Params) -> list[str]:
    """Return the runs of a table whose published nets are not imported; an empty list if nets are trained."""
    if table in OTHER_SETS:
        return [run for run in DESCRIBED if sets_of(params, table) and not is_possible(params, run)]
    possible = set(scored(params))
    return list(dict.fromkeys(need[0] for row in rows(table, params) for need in row.needs() if need not in possible))


def is_possible(params: Params, run: str) -> bool:
    """Return True if the weights of `run` exist or can be made without a further import."""
    return params.weights == "trained" or run in params.imports


def classifying(table: str, params: Params) -> list[str]:
    """Return the stages of SVMs of a table's data sets whose nets exist or can be made without a further import."""
    systems = [system for system in systems_of(table) if all(is_possible(params, run) for run in NETS_OF[system])]
    return [svm_stage(name, system) for name in sets_of(params, table) for system in systems]


def in_part(params: Params) -> list[str]:
    """Return the tables that lack nets but have at least one row of ours."""
    possible = set(scored(params))
    return [
        name for name in TITLES
        if lacking(name, params)
        and (
            classifying(name, params)
            or any(row.runs and all(need in possible for need in row.needs()) for row in rows(name, params))
        )
    ]  # fmt: skip


def within_reach(targets: Sequence[str], params: Params) -> list[str]:
    """Return the stages, each table that lacks nets replaced by its possible scores; all stages if none is named."""
    if not targets:
        return everything(params)
    possible = set(scored(params))
    stages: list[str] = []
    for target in targets:
        if target in OTHER_SETS and lacking(target, params):
            stages += classifying(target, params)
        elif target in TITLES and lacking(target, params):
            needed = {need for row in rows(target, params) for need in row.needs()} & possible
            stages += ["prepare", *sorted(score_stage(*score) for score in needed)]
        else:
            stages.append(target)
    return list(dict.fromkeys(stages))


def stage_of(params: Params, target: str) -> str:
    """Return the stage that the user names: a table by its number, a run for its training, or a stage.

    Raise UsageError, naming the nearest, if there is no such stage or group of stages.
    """
    if number_of(target).isdigit():
        return check_table(target)
    if target in params.all_trained:
        published = params.weights == "published" and target in params.runs
        return f"import@{target}" if published else train_stage(target)
    group, at, _ = target.partition("@")
    known = stages(params)
    if target in known or (not at and any(stage.startswith(f"{group}@") for stage in known)):
        return target
    if target in NETS or target.rpartition("-")[0] in NETS:
        check_run(params, target)
    hint = nearest_of(target, [*known, *params.all_trained])
    raise UsageError(f"unknown stage {target!r}. {hint}`dvc stage list` lists all")


def stages(params: Params) -> list[str]:
    """Return the names of all stages of dvc.yaml."""
    runs = params.all_runs
    inits = {run.init for run in runs.values() if run.init.startswith(RANDOM)}
    made = [random_stage(init.removeprefix(RANDOM)) for init in sorted(inits)]
    trained, imported = map(train_stage, params.all_trained), (f"import@{run}" for run in params.imports)
    scores = [score_stage(run, mode) for mode in MODES for run in (*runs_of(params, mode), *added_to(params, mode))]
    scores += [score_stage(*score) for score in _of_boxes(params)]
    others = (
        "fingerprint",
        "prepare",
        "extra",
        "truth",
        "threshold",
        "sets",
        RESAMPLED,
        "seeds",
        "claims",
        ILLUSTRATIONS,
        LOCATED,
    )
    return [*others, *made, *trained, *imported, *scores, *_set_stages(params), *TITLES]


def _set_stages(params: Params) -> Iterator[str]:
    """Yield the stages of the other data sets, and of those without labels."""
    for name in params.datasets:
        yield from (f"source@{name}", f"dataset@{name}")
        yield from (features_stage(name, run) for run in DESCRIBED)
        yield from (svm_stage(name, system) for system in NETS_OF)
        yield aggregation_stage(name)
        yield shown_stage(name)
    for name in params.test_sets:
        yield from set_stages(name)
        yield from (score.stage for score in (*class_scores(name), *box_scores(name)))


def check_net(net: str) -> str:
    """Return `net`. Raise UsageError, naming the nearest net and all nets, if there is none of this name."""
    if net not in NETS:
        raise UsageError(f"unknown net {net!r}. {nearest(net, list(NETS))}")
    return net


def check_profile(params: Params, profile: str) -> str:
    """Return `profile`. Raise UsageError, naming the nearest profile and all profiles, if there is none."""
    if profile not in params.profiles:
        raise UsageError(f"unknown profile {profile}. {nearest(profile, list(params.profiles))}")
    return profile


def check_mode(params: Params, mode: str, run: str = "", direct: bool = False) -> str:
    """Return `mode`. Raise UsageError if there is no such mode or if the graph does not have it for `run`."""
    if run in params.localisers:
        made = f"{CENTRE_BOXES}@{run}" + (f", {WINDOWS}@{run}" if run in params.windows else "")
        raise UsageError(f"{run} predicts boxes and has no class scores; stages of its boxes, for dvc repro: {made}")
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}. {nearest(mode, list(MODES))}")
    if not direct and run in params.runs and run not in runs_of(params, mode):
        raise UsageError(f"{run} is not in the list `{mode}` of params.yaml; add it there, or use --direct")
    if not direct and run in params.extra.runs and run not in added_to(params, mode):
        modes = ", ".join(mode for mode in MODES if run in added_to(params, mode))
        raise UsageError(f"{run} is scored in {modes} alone; for another mode, use --direct")
    return mode
