"""The boxes of the prepared images, and what localisers need of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.facts import Statistics
from pipeline.datasets.shards import Shards
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, errors, posteriors, weights
from pipeline.experiment.run_names import score_stage
from pipeline.experiment.server_sets import ServerScore
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, whole, write_json
from pipeline.system.decoders import decoder_in_use
from pipeline.system.devices import in_use
from stages.common import scorer_of
from vgg.distributed import Ranks
from vgg.draws import Floats, Ints, rescaled
from vgg.score import Scorer


class BoxedImages:
    """Some of the images of `shards`, by their numbers, with their boxes."""

    def __init__(self, shards: Shards, numbers: Ints) -> None:
        self.shards, self.numbers = shards, numbers
        self.heights: Ints = shards.heights[numbers]
        self.widths: Ints = shards.widths[numbers]
        self.labels: Ints = shards.labels[numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, image: int) -> NDArray[np.uint8]:
        return self.shards[int(self.numbers[image])]

    def boxes_of(self, image: int) -> NDArray[np.float32]:
        """Return an image's boxes (n, 4), as `Shards.boxes_of`."""
        return self.shards.boxes_of(int(self.numbers[image]))


def with_boxes(shards: Shards) -> Ints:
    """Return the numbers of the images that have boxes."""
    return np.flatnonzero([len(shards.boxes_of(image)) for image in range(len(shards))])


def true_boxes(images: Shards | BoxedImages) -> tuple[Floats, Ints]:
    """Return all boxes (m, 4) of the images, in pixels of the stored images, and each one's image (m,)."""
    found = [images.boxes_of(image) for image in range(len(images))]
    boxes = np.concatenate([np.zeros((0, 4)), *found]).astype(np.float64)
    return boxes, np.repeat(np.arange(len(found)), [len(boxes) for boxes in found])


def localiser_of(params: Params, name: str, statistics: Statistics, where: torch.device, ranks: Ranks) -> Scorer:
    """Return a scorer of the finished localiser `name`. Raise Failure as `scorer_of`."""
    outputs = params.localisers[name].outputs(statistics.classes)
    return scorer_of(params.for_run(name), name, statistics, where, ranks, outputs)


def sizes_of(images: Shards | BoxedImages, scale: int) -> tuple[Ints, Ints]:
    """Return the sizes (images, 2), height and width, of images rescaled to `scale` pixels, and of stored ones."""
    new = rescaled(images.heights, images.widths, scale)
    return np.stack(new, 1), np.stack([images.heights, images.widths], 1)


class BoxScores(NamedTuple):
    """The files of a localiser's boxes in one mode."""

    params: Params
    name: str
    mode: str
    manifest: str  # the hash of the manifest of the images
    where: torch.device
    data_set: DataSet = CLASSIFICATION

    def write(self, arrays: Mapping[str, Any], images: int, started: float, processes: int) -> None:
        """Write arrays, their record and its provenance; `started` is when the work began, by the monotonic clock."""
        params, name, mode, score = self.params, self.name, self.mode, self.params.active.score
        weights_hash, path = sha256(weights(name)), posteriors(name, mode, self.data_set)
        with whole(path) as file:
            np.savez(file, allow_pickle=False, **arrays, weights=np.array(weights_hash))
        record = {
            "profile": params.profile,
            "run": name,
            "mode": mode,
            "images": images,
            "weights_sha256": weights_hash,
            "precision": in_use(score.precision, self.where.type),
            "data": self.manifest,
            "posteriors_sha256": sha256(path),
        }
        write_json(errors(name, mode, self.data_set), record)
        seconds = time.monotonic() - started
        of_others = self.data_set != CLASSIFICATION
        stage = ServerScore(self.data_set.name, name, mode).stage if of_others else score_stage(name, mode)
        record_provenance(
            stage, errors(name, mode, self.data_set), str(self.where), score.threads, seconds, processes,
            decoder_in_use(params.decoder),
        )  # fmt: skip
