"""The chain behind one number of a table: its images, its runs from their first weights on, its scores, its code."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.datasets.facts import PREPARE
from pipeline.experiment.modes import CENTRE_BOXES, scales_of
from pipeline.experiment.paper_tables import windows_key
from pipeline.experiment.params import RANDOM, Params, Run
from pipeline.experiment.paths import (
    CLASSIFICATION,
    errors,
    errors_of,
    history,
    reported,
    summary,
    table,
    weights,
)
from pipeline.experiment.run_names import random_stage, score_stage, seeded, train_stage, work_of
from pipeline.results.lock_file import LockFile
from pipeline.results.provenance import known_provenance
from pipeline.results.row_choice import RowName
from pipeline.system.atomic_files import read_json
from vgg.errors import error_of_rate

SINGLE = ("table3", "shallow", "initialisation")  # tables of one test scale (section 4.1)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class ExplainedImages:
    """The images that a table was computed from."""

    manifest: str
    source: str
    val: int
    classes: int
    facts: Record  # what is known of them besides; empty if the facts here are of other images
    are_prepared: bool | None  # now, on this machine; None if nothing is prepared


@dataclass(frozen=True)
class FirstWeights:
    """The random weights from which a chain of runs starts."""

    name: str  # random-A
    seed: int | None
    values: Record  # the profile's block `net` that they were drawn with; empty if it is not known


@dataclass(frozen=True)
class ExplainedRun:
    """A trained run of the chain. What is not known is None or empty."""

    name: str
    row: Run  # as it was trained; of a run that is missing, as params.yaml has it
    missing: bool  # there is no summary of it
    seed: int | None = None
    steps: int | None = None
    epochs: int | None = None
    drops: int | None = None
    learning_rate: float | None = None
    error: float | None = None  # validation top-1 error in per cent at the end, at a centre crop
    best: float | None = None  # the lowest of all epochs
    best_epoch: int | None = None
    weights: str = ""  # SHA-256 of the finished weights
    values: Record = field(
        default_factory=dict
    )  # the precision, and what dvc.lock has recorded besides: batch, momentum, ...
    continued: bool | None = None  # it started from the weights that `init` has now; None if that is not known


@dataclass(frozen=True)
class ExplainedScore:
    """A score file that the number is averaged from."""

    stage: str
    run: str
    mode: str
    scales: tuple[int, ...]  # Q, the averaged ones
    errors: Mapping[str, Record]  # by Q; empty if there is no record of the score
    posteriors: str  # SHA-256 of those that the table was computed from; empty if the table does not have them
    precision: str | None
    again: bool  # there are other posteriors now than the table was computed from
    other_weights: bool  # the run has other weights now than were scored


@dataclass(frozen=True)
class Measure:
    """An error with its interval, the paper's, and the verdict on their difference if there is one."""

    k: int
    ours: Record | None  # error, low, high, wrong, images; None if it is not run
    paper: float | None
    paper_test: float | None
    judged: Record | None
    spread: Record | None  # over the seeds: by_seed, mean, std


@dataclass(frozen=True)
class ExplainedSet:
    """A number of Table 11 or 12: a data set, how it is described and classified."""

    name: str  # empty if params.yaml did not have it
    stage: str  # of the SVMs; empty as the name
    variant: str  # what is described: image only, or image and bounding box
    about: Record  # the data set as the table has it; empty as the name
    ours: Record | None  # the measure, with its splits; None if it is not run
    paper: Record  # value, std; empty if the paper does not have it
    record: Record  # of the SVMs that the number is of; empty if it is not here
    again: bool  # the SVMs were trained again since


@dataclass(frozen=True)
class Explanation:
    """Everything known of one number of a table."""

    profile: str
    table: str
    row: RowName
    stage: str  # that computed the number: the table's, or `seeds`
    comparable: bool
    images: ExplainedImages
    chains: Mapping[str, tuple[str, ...]]  # by averaged run: what it comes from, the first weights first
    first: tuple[FirstWeights, ...]
    runs: tuple[ExplainedRun, ...]
    published: Mapping[str, Record]  # by averaged run with published weights
    not_imported: tuple[str, ...]  # averaged runs whose published nets are not there
    scores: tuple[ExplainedScore, ...]
    measures: tuple[Measure, ...]
    threshold: float | None  # of merging, for rows whose boxes are merged
    rule: Record | None  # by which the errors are judged
    to_do: tuple[str, ...]  # the commands that make the scores that are missing
    made: Mapping[str, Record | None]  # by stage: where, when and with what; None if that is not recorded
    recorded: bool  # dvc.lock holds this very table
    outdated: Mapping[str, str] | None  # stages that are older than params.yaml; None if the profile is not active
    of_set: ExplainedSet | None = None  # of Tables 11 and 12


class Files:
    """The newest files of a profile: those of this machine if they are of this profile, else the copies in git."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.lock = LockFile(profile)
        self._known: dict[Path, Record] = {}  # contents read so far

    def path(self, path: Path) -> Path:
        """Return `path`, or its copy in git if it is missing or of another profile."""
        here = self._read(path, "dvc repro").get("profile") == self.profile
        return path if here else reported(self.profile, path)

    def json(self, path: Path, make: str = "vgg-repro report") -> Record:
        """Return the newest content of a JSON file; empty if there is none."""
        return self._read(self.path(path), make)

    def _read(self, path: Path, make: str) -> Record:
        if path not in self._known:
            self._known[path] = read_json(path, make) if path.exists() else {}
        return self._known[path]

    def rates_and_errors(self, run: str) -> list[tuple[float, float]]:
        """Return the learning rate and the validation top-1 error of each epoch; empty if there is no history."""
        path = history(run) if self.path(summary(run)) == summary(run) else reported(self.profile, history(run))
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return [(float(row["learning_rate"]), float(row["top1"])) for row in csv.DictReader(file)]


@dataclass(frozen=True)
class _Asked:
    """A row of a table, of the tables' seed or a further one, and what the table's files say of it."""

    params: Params
    profile: str
    values: Record  # of the table
    seeds: Record  # of the table's images; empty if there are none
    row: RowName

    @property
    def entry(self) -> Record:
        """Return the row's values in the table."""
        entry: Record = next(entry for entry in self.values["rows"] if entry["label"] == self.row.label)
        return entry

    @property
    def over_seeds(self) -> Record | None:
        """Return the row's values over the seeds; None if its runs are not repeated."""
        asked = (self.values["table"], self.row.label)
        return next((row for row in self.seeds.get("rows", ()) if (row["table"], row["label"]) == asked), None)

    @property
    def stage(self) -> str:
        """Return the stage that computed the number."""
        return self.values["table"] if self.row.seed is None else "seeds"

    @property
    def scores(self) -> list[str]:
        """Return the stages of the scores that the number is averaged from."""
        stages: list[str] = self.entry["scores"]
        if self.row.seed is None:
            return stages
        return [score_stage(seeded(run, self.row.seed), mode) for mode, run in map(work_of, stages)]

    @property
    def runs(self) -> list[str]:
        """Return the averaged runs."""
        return [run if self.row.seed is None else seeded(run, self.row.seed) for run in self.row.runs]

    @property
    def published(self) -> dict[str, Record]:
        """Return the averaged runs with published weights, each with its record."""
        records = self.values.get("published", {})
        return {run: records[run] for run in self.runs if run in records}

    @property
    def not_imported(self) -> tuple[str, ...]:
        """Return the averaged runs whose published nets are not there, though published nets are scored."""
        scored = self.params.weights == "published" and self.profile == self.params.profile and self.row.seed is None
        return tuple(run for run in self.runs if scored and run not in self.published)

    @property
    def to_do(self) -> tuple[str, ...]:
        """Return the commands that make the missing scores."""
        if self.row.seed is None:
            return tuple(self.entry["missing"])
        return tuple(f"vgg-repro score {mode} {run}" for mode, run in map(work_of, self.scores))


def explain(
    params: Params, files: Files, values: Record, seeds: Record, row: RowName, outdated: Mapping[str, str] | None
) -> Explanation:
    """Return the chain behind a row of a table of a profile, whose values and values over the seeds are given.

    `outdated` has the stages that are older than params.yaml, each with the reason; None if the profile is not active.
    Only files are read: those of this machine, else those in git.
    """
    profile = files.profile
    asked = _Asked(params, profile, values, seeds, row)
    trained_here = [run for run in asked.runs if run not in {*asked.published, *asked.not_imported}]
    chains = {run: chain_of(files, params, run) for run in trained_here}
    runs, firsts = explained_runs(files, params, chains), first_names(chains)
    scores = tuple(_score(files, asked, stage) for stage in asked.scores)
    measures, paths = _measures(asked), dict(_paths(files, asked.stage, runs, scores))
    involved = {"prepare", *paths, *(random_stage(name.removeprefix(RANDOM)) for name in firsts)}
    involved |= {f"import@{run}" for run in asked.published}
    return Explanation(
        profile=profile,
        table=values["table"],
        row=row,
        stage=asked.stage,
        comparable=values["comparable"],
        images=_images(profile, values),
        chains=chains | {run: (file["file"], run) for run, file in asked.published.items()},
        first=tuple(first_weights(files, name, runs) for name in firsts),
        runs=runs,
        published=asked.published,
        not_imported=asked.not_imported,
        scores=scores,
        measures=measures,
        threshold=_threshold(asked),
        rule=asked.entry.get("rule") if row.seed is None else None,
        to_do=() if measures[0].ours else asked.to_do,
        made=known_provenance(profile, {stage: path for stage, path in paths.items() if path.exists()}),
        recorded=files.lock.made(asked.stage, paths[asked.stage], paths[asked.stage]),
        outdated=None if outdated is None else {stage: why for stage, why in outdated.items() if stage in involved},
    )


def _images(profile: str, values: Record) -> ExplainedImages:
    """Return the images of a table, with the facts here if these are of the same images."""
    prepared = CLASSIFICATION.facts(profile)
    copies = [path for path in (prepared, reported(profile, prepared)) if path.exists()]
    facts = [read_json(path, PREPARE) for path in copies]
    same: Record = next((known for known in facts if known["manifest"] == values["manifest"]), {})
    are_prepared = facts[0]["manifest"] == values["manifest"] if prepared.exists() else None
    return ExplainedImages(values["manifest"], values["data"], values["images"], values["classes"], same, are_prepared)


def chain_of(files: Files, params: Params, run: str) -> tuple[str, ...]:
    """Return the names from a run's first weights to itself: random-A, A-256, D-256."""
    names: list[str] = []
    name = run
    while name not in names:
        names.append(name)
        row = _row(files, params, name)
        if row is None:
            break
        name = row.init
    return tuple(reversed(names))


def _row(files: Files, params: Params, name: str) -> Run | None:
    """Return a run's row as it was trained, else as params.yaml has it; None for random weights."""
    if trained := files.json(summary(name)):
        return Run.model_validate({key: trained[key] for key in Run.model_fields if key in trained})
    return params.all_trained.get(name)


def first_names(chains: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the random weights that the chains start from."""
    return list(dict.fromkeys(chain[0] for chain in chains.values() if chain[0].startswith(RANDOM)))


def explained_runs(files: Files, params: Params, chains: Mapping[str, tuple[str, ...]]) -> tuple[ExplainedRun, ...]:
    """Return all runs of the chains, each once and after the one that it starts from."""
    names = dict.fromkeys(name for chain in chains.values() for name in chain)
    rows = {name: _row(files, params, name) for name in names}
    return tuple(_run(files, name, row) for name, row in rows.items() if row)


def _run(files: Files, name: str, row: Run) -> ExplainedRun:
    trained = files.json(summary(name))
    if not trained:
        return ExplainedRun(name, row, missing=True)
    stage, epochs = train_stage(name), files.rates_and_errors(name)
    recorded = files.lock.made(stage, summary(name), files.path(summary(name)))
    best = min((error, epoch) for epoch, (_, error) in enumerate(epochs, 1)) if epochs else (None, None)
    maker = random_stage(row.init.removeprefix(RANDOM)) if row.init.startswith(RANDOM) else train_stage(row.init)
    return ExplainedRun(
        name,
        row,
        missing=False,
        seed=trained["seed"],
        steps=trained["steps"],
        epochs=trained["epochs"],
        drops=trained["drops"],
        learning_rate=epochs[0][0] if epochs else None,
        error=trained["centre_crop"]["top1"],
        best=best[0],
        best_epoch=best[1],
        weights=trained["weights_sha256"],
        values=(_flat(files.lock.values(stage)) if recorded else {}) | {"precision": trained["precision"]},
        continued=files.lock.passed_on(maker, stage, weights(row.init)) if recorded else None,
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of training by their own names: train.batch and those of the recipe, among others."""
    blocks = {key: value for key, value in values.items() if key.startswith("recipes.")}
    named = {key.removeprefix("train."): value for key, value in values.items() if key.startswith("train.")}
    return named | {key: value for block in blocks.values() for key, value in block.items()}


def first_weights(files: Files, name: str, runs: tuple[ExplainedRun, ...]) -> FirstWeights:
    """Return random weights as dvc.lock has recorded them, if the first run was trained from these."""
    stage = random_stage(name.removeprefix(RANDOM))
    users = [run for run in runs if run.row.init == name]
    values = files.lock.values(stage) if any(run.continued for run in users) else {}
    added: Record = next((value for key, value in values.items() if key.startswith("extra.random.")), {})
    own = next((files.json(summary(run.name)).get("initialisation") for run in users), None)
    net = {**values.get("net", {}), **(own or {})}
    return FirstWeights(name, added.get("seed", values.get("train.seed")), net)


def _score(files: Files, asked: _Asked, stage: str) -> ExplainedScore:
    mode, run = work_of(stage)
    score, trained = files.json(errors(run, mode)), files.json(summary(run))
    recorded = (asked.values if asked.row.seed is None else asked.seeds)["scores"].get(stage, "")
    row = _row(files, asked.params, run)
    rates = score.get("errors", {})
    scales = scales_of(row, mode, asked.values["table"] in SINGLE) if row else tuple(map(int, rates))
    scales = tuple(asked.entry.get("scales", {}).get(run, scales))
    origin = score.get("published", trained)
    return ExplainedScore(
        stage=stage,
        run=run,
        mode=mode,
        scales=scales,
        errors={scale: rates[scale] for scale in map(str, scales) if scale in rates},
        posteriors=recorded,
        precision=score.get("precision"),
        again=bool(score and recorded and score["posteriors_sha256"] != recorded),
        other_weights=bool(score and origin and score["weights_sha256"] != origin["weights_sha256"]),
    )


def _measures(asked: _Asked) -> tuple[Measure, ...]:
    """Return the top-1 error, and the top-k error if there is one: of the true class's box there is one guess."""
    entry, spread, k = asked.entry, asked.over_seeds, asked.values["k"]
    guesses = 1 if any(work_of(stage)[0] == CENTRE_BOXES for stage in asked.scores) else k
    judged = entry.get("judged", {}) if asked.row.seed is None else {}
    return tuple(
        Measure(
            k=count,
            ours=_error(asked, name),
            paper=entry["paper"].get(f"{printed}_val"),
            paper_test=entry["paper"].get(f"{printed}_test"),
            judged=judged.get(f"{printed}_val"),
            spread=spread[name] if spread else None,
        )
        for name, count, printed in [("top1", 1, "top1"), *[("topk", k, "top5")] * (guesses > 1)]
    )


def _threshold(asked: _Asked) -> float | None:
    """Return the threshold by which a row's boxes are merged; None if it has none."""
    key = windows_key(asked.entry.get("scales", {}))
    threshold: float | None = asked.values.get("localisation", {}).get("thresholds", {}).get(key)
    return threshold


def _error(asked: _Asked, name: str) -> Record | None:
    if asked.row.seed is None:
        error: Record | None = asked.entry["ours"][name] if asked.entry["ours"] else None
        return error
    rates, images = (asked.over_seeds or {name: {"by_seed": {}}})[name]["by_seed"], asked.values["images"]
    rate = rates.get(str(asked.row.seed))
    return None if rate is None else error_of_rate(rate, images)._asdict()


def _paths(
    files: Files, own: str, runs: tuple[ExplainedRun, ...], scores: tuple[ExplainedScore, ...]
) -> Iterator[tuple[str, Path]]:
    """Yield the stages of a chain, each with the file that its provenance is of."""
    yield from ((train_stage(run.name), files.path(summary(run.name))) for run in runs)
    yield from ((score.stage, files.path(errors_of(score.stage))) for score in scores)
    yield own, table(files.profile, own)
