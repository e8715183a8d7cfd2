"""What is known of a stage's work from outside: what shapes its results, where they are, how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.dataset_key import request_hash, shards_key
from pipeline.datasets.facts import read_statistics
from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.other_sets import features_stage
from pipeline.experiment.paper_tables import GUESSING
from pipeline.experiment.params import ROUNDING, Params, Split
from pipeline.experiment.paths import (
    CLASSIFICATION,
    DataSet,
    checkpoints,
    errors,
    features,
    history,
    posteriors,
    shards_root,
    summary,
    weights,
)
from pipeline.experiment.run_names import score_stage, train_stage
from pipeline.experiment.server_sets import ServerScore
from pipeline.orchestration.heartbeat import LOCK, identity
from pipeline.system.atomic_files import digest, sha256


class StageFacts(NamedTuple):
    """What is known of a stage's work from outside."""

    stage: str
    key: str  # hash of everything that shapes its results
    outputs: Sequence[Path]
    mark: str | None = None  # of how far it is; None if it cannot resume
    lock: Path | None = None  # that it holds
    splits: tuple[Split, ...] = ()  # of the prepared images that it reads


def train_facts(params: Params, run: str) -> StageFacts:
    """Return the facts of a run's training. Raise Failure if no images are prepared."""
    key = identity(params, run, read_statistics())
    folder = checkpoints(run, key)
    outputs = (weights(run), summary(run), history(run))
    saved = _mark([folder / "last.pt"])
    return StageFacts(train_stage(run), key, outputs, saved, folder / LOCK, params.active.splits)


def score_facts(params: Params, run: str, mode: str, data_set: DataSet = CLASSIFICATION) -> StageFacts:
    """Return the facts of a run's or a localiser's scoring in one mode.

    Of a `data_set` without labels, the shards are read where they are, not from a node's copy.
    """
    asked = params.for_run(run)
    windows, method = params.windows.get(run), params.method
    score = params.active.score.model_dump(exclude=set(ROUNDING))
    values = [mode, asked.weights, asked.runs[run], asked.active.net, score, method.score, method.localise]
    inputs = [*dict.fromkeys((CLASSIFICATION.statistics, data_set.statistics)), weights(run, asked.weights)]
    if mode == WINDOWS and windows:
        guesses = [posteriors(*guess, data_set) for guess in GUESSING.needs()]
        inputs += [CLASSIFICATION.boxes, weights(windows.scores), *guesses]
        values += [windows, params.active.localising]
    key = digest([*map(str, values), *(sha256(path) for path in inputs if path.exists())])
    outputs = (posteriors(run, mode, data_set), errors(run, mode, data_set))
    if data_set != CLASSIFICATION:
        return StageFacts(ServerScore(data_set.name, run, mode).stage, key, outputs)
    splits: tuple[Split, ...] = ("train", "val") if mode == WINDOWS else ("val",)
    return StageFacts(score_stage(run, mode), key, outputs, splits=splits)


def features_facts(params: Params, name: str, run: str) -> StageFacts:
    """Return the facts of the features of the data set `name` by the net of `run`. Its shards are read where they are.

    They cannot resume.
    """
    data_set, transfer, method = DataSet(name), params.active.transferring, params.method
    score = params.active.score.model_dump(exclude=set(ROUNDING))
    values: list[object] = [params.datasets[name].scales, params.weights, params.runs[run], params.active.net, score]
    values += [transfer.activations, transfer.dtype, method.score, method.transfer]
    inputs = (data_set.statistics, data_set.examples, weights(run, params.weights))
    key = digest([*map(str, values), *(sha256(path) for path in inputs if path.exists())])
    path = features(name, run)
    return StageFacts(features_stage(name, run), key, (path, path.with_suffix(".json")))


def prepare_facts(params: Params) -> StageFacts:
    """Return the facts of the preparation of the active profile's images."""
    name, data = shards_key(params), CLASSIFICATION
    key = digest([name, request_hash(params)])
    outputs = (data.manifest, data.shards_record, data.statistics, data.facts(params.profile))
    partial = shards_root() / f"{name}.partial"
    return StageFacts("prepare", key, outputs, _mark(sorted(partial.glob("*.npz"))))


def _mark(files: Sequence[Path]) -> str:
    """Return a text that changes when the work saves more: the number of its files and the time of the last one."""
    times = [path.stat().st_mtime_ns for path in files if path.exists()]
    return f"{len(times)} {max(times, default=0)}"
