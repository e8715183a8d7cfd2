"""Stage score: the posteriors of one run in one mode at every Q of the grid, and their errors (section 3.2)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.facts import read_statistics
from pipeline.errors import Failure
from pipeline.experiment.modes import scales_of
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, errors, posteriors, weights
from pipeline.experiment.run_names import score_stage
from pipeline.experiment.server_sets import ServerScore
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, whole, write_json
from pipeline.system.decoders import decoder_in_use
from pipeline.system.devices import in_use
from pipeline.system.progress import Progress
from stages.common import evaluated_images, posteriors_at, read_record, scorer_of
from stages.distributed import shared
from vgg.distributed import Ranks
from vgg.errors import error, top_k


def main(params: Params, name: str, mode: str, data_set: DataSet = CLASSIFICATION) -> None:
    """Score the run `name` in `mode` on the validation images, in the number of processes that `params` set.

    Another `data_set` has no labels: its posteriors are kept without labels and errors.
    """
    params = params.for_run(name)
    shared(params, params.active.score, f"{mode} {name}", _score, name, mode, data_set)


def _score(params: Params, name: str, mode: str, data_set: DataSet, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`."""
    started = time.monotonic()
    run, score = params.runs[name], params.active.score
    statistics = read_statistics()
    images, manifest = evaluated_images(params, data_set)
    scored = weights(name, params.weights)
    weights_hash = sha256(scored) if scored.exists() else ""
    scorer = scorer_of(params, name, statistics, where, ranks)
    by_scale: dict[str, Any] = {}
    scales = scales_of(run, mode)
    with Progress(f"{mode} {name}", len(images) * len(scales), "images") as progress:
        for scale in scales:
            try:
                by_scale[str(scale)] = posteriors_at(params, scorer, images, mode, scale, progress)
            except ValueError as reason:
                raise Failure(f"{name} cannot be scored at Q = {scale}: {reason}") from None
    if not ranks.first:
        return
    k, labelled = top_k(statistics.classes), data_set == CLASSIFICATION
    labels = {"labels": images.labels} if labelled else {}
    rates = {scale: _error_rates(values, images.labels, k) for scale, values in by_scale.items()} if labelled else {}
    path, record = posteriors(name, mode, data_set), errors(name, mode, data_set)
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **by_scale, **labels, weights=np.array(weights_hash))
    write_json(
        record,
        {
            "profile": params.profile,
            "run": name,
            "mode": mode,
            "k": k,
            "images": len(images),
            "errors": rates,
            "weights_sha256": weights_hash,
            "precision": in_use(score.precision, where.type),
            **_published(params, name),
            "data": manifest,
            "posteriors_sha256": sha256(path),
        },
    )
    seconds = time.monotonic() - started
    stage = score_stage(name, mode) if labelled else ServerScore(data_set.name, name, mode).stage
    record_provenance(
        stage, record, str(where), score.threads, seconds, ranks.size, decoder_in_use(params.decoder)
    )  # fmt: skip
    shown = ", ".join(f"Q {scale}: {rate['top1']:.1f} %" for scale, rate in rates.items())
    print(f"{name} {mode}: top-1 error {shown}" if labelled else f"{name} {mode}: {len(images):,} images scored")


def _published(params: Params, name: str) -> dict[str, Any]:
    """Return the entry that marks the numbers of a published net."""
    return {"published": read_record(name)} if params.weights == "published" else {}


def _error_rates(posteriors: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> dict[str, float]:
    return {"top1": error(posteriors, labels, 1).error, "topk": error(posteriors, labels, k).error}
