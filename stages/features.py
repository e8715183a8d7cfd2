"""Stage features: a data set's images, and boxes, as a net's activations before its last layer (appendix B).

They are kept for each Q, so that every aggregation is arithmetic on what is kept.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.readers.base import WHOLE, Examples, read_examples
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.other_sets import features_stage
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, features, weights
from pipeline.results.other_sets import BOXES
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, whole, write_json
from pipeline.system.decoders import decoder_in_use
from pipeline.system.devices import in_use
from pipeline.system.progress import Progress, gigabytes
from stages.common import batches_at, open_shards, read_record, scorer_of
from stages.distributed import shared
from stages.divisions import divisions
from stages.regions import Regions
from vgg.descriptors import described, last_hidden, without_last
from vgg.distributed import ALONE, Ranks
from vgg.images import Images
from vgg.score import Scorer


def main(params: Params, name: str, run: str) -> None:
    """Describe the data set `name` by the net of `run`, in the number of processes that `params` set."""
    shared(params, params.active.score, features_stage(name, run), _describe, name, run)


def _describe(params: Params, name: str, run: str, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`."""
    started, data_set, choices = time.monotonic(), DataSet(name), params.active.transferring
    statistics, scales = read_statistics(data_set), params.datasets[name].scales
    shards = open_shards(params.for_set(name), "val", statistics, data_set)
    examples = read_examples(data_set.examples, f"vgg-repro prepare {name}")
    divisions(params, name, examples)  # so that it fails now if the SVMs would fail
    described_images: dict[str, Images] = {"": shards}
    if (examples.boxes != WHOLE).any():
        described_images[BOXES] = _regions(shards, examples, decoder_in_use(params.decoder))
    scorer = descriptor_scorer(params, run, where, ranks)
    count, numbers = sum(map(len, described_images.values())), last_hidden(scorer.net).out_channels
    size = gigabytes(count * len(scales) * numbers * np.dtype(choices.dtype).itemsize)
    kept = f"{numbers:,} numbers each in {choices.dtype}: {size}"
    what = "images and boxes" if BOXES in described_images else "images"
    print(f"{name}: {count:,} {what}, {len(scales)} Q, {kept}", flush=True)
    arrays: dict[str, Any] = {}
    with Progress(features_stage(name, run), count * len(scales), "images x Q") as progress:
        for kind, images in described_images.items():
            for scale in scales:
                arrays[f"{kind}{scale}"] = kept_as(choices.dtype, activations(params, scorer, images, scale, progress))
    if ranks.first:
        _write(params, name, run, arrays, where, time.monotonic() - started, ranks.size)


def _regions(shards: Shards, examples: Examples, decoder: str) -> Regions:
    """Return the box of each example as an image."""
    return Regions(shards, examples.images, examples.corners(shards), decoder)


def descriptor_scorer(params: Params, run: str, where: torch.device, ranks: Ranks = ALONE) -> Scorer:
    """Return a scorer whose net is that of `run` without its last layer. Raise Failure if there is no such net."""
    scorer = scorer_of(params, run, None, where, ranks)
    without_last(scorer.net, params.active.transferring.activations == "before_relu")
    torch.backends.cudnn.benchmark = False  # shapes differ
    return scorer


def activations(params: Params, scorer: Scorer, images: Images, scale: int, progress: Progress) -> NDArray[np.float32]:
    """Return the activations (images, F) at one Q, the paper's pixels. Raise Failure if an image is too small."""
    try:
        return described(scorer, batches_at(params, scorer, images, scale, progress), len(images))
    except ValueError as reason:
        raise Failure(f"the images cannot be described at Q = {scale}: {reason}") from None


def kept_as(dtype: str, values: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return values in the type in which they are kept. Raise Failure if they are too large for float16."""
    largest, limit = float(np.abs(values).max(initial=0)), float(np.finfo(dtype).max)
    if np.isfinite(largest) and largest > limit:
        raise Failure(
            f"an activation of {largest:g} is above {limit:g}, the largest number of {dtype}: set `transfer.dtype` of "
            "the active profile in params.yaml to float32"
        )
    return values.astype(dtype)


def _write(
    params: Params, name: str, run: str, arrays: dict[str, Any], where: torch.device, seconds: float, processes: int
) -> None:
    """Write the features, their record and its provenance."""
    path, score = features(name, run), params.active.score
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
    record: dict[str, Any] = {
        "profile": params.profile,
        "run": run,
        "data": read_statistics(DataSet(name)).manifest,
        "weights_sha256": sha256(weights(run, params.weights)),
        "precision": in_use(score.precision, where.type),
        "activations": params.active.transferring.activations,
        "features_sha256": sha256(path),
    }
    if params.weights == "published":
        record["published"] = read_record(run)
    write_json(path.with_suffix(".json"), record)
    record_provenance(
        features_stage(name, run), path.with_suffix(".json"), str(where), score.threads, seconds, processes,
        decoder_in_use(params.decoder),
    )  # fmt: skip
