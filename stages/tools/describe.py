"""Descriptors of any folder's images (appendix B), by the code of the stage `features`. Not a DVC stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.datasets.any_folder import FolderFiles, files_below, parts_of_folder
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.other_sets import Aggregation
from pipeline.experiment.params import Params
from pipeline.experiment.paths import weights
from pipeline.results.vector_file import AddRows, check_vector_file, vector_file
from pipeline.system.atomic_files import sha256
from pipeline.system.decoders import decoder_in_use
from pipeline.system.devices import check_choice, in_use
from pipeline.system.process_lifetime import stopped_by_sigterm
from pipeline.system.progress import Progress, gigabytes
from stages.common import device
from stages.features import activations, descriptor_scorer
from vgg.descriptors import aggregated, last_hidden
from vgg.score import Scorer


class DescriptorChoice(NamedTuple):
    """How images are described: at which Q, the paper's pixels, how these become one, and how they are stored."""

    scales: tuple[int, ...]
    aggregate: Aggregation
    dtype: str


class DescribedImages(NamedTuple):
    """The numbers of images in a file of descriptors and of those that were skipped, and the numbers per image."""

    images: int
    skipped: int
    numbers: int


def main(
    params: Params, run: str, folder: Path, file: Path, choice: DescriptorChoice, follow_links: bool = False
) -> DescribedImages:
    """Write the descriptors of the images below `folder`, sorted by path, by the net of `run`.

    Print the images that cannot be read. Raise Failure, and write no file, if none can be; Interrupted on Ctrl-C.
    """
    check_vector_file(file)
    score, params = params.active.score, params.for_run(run)
    check_choice(score.device, params.active.net.full_size)
    files = files_below(folder, follow_links)
    where = device(score.device, score.threads, score.precision)
    scorer = descriptor_scorer(params, run, where)
    numbers = last_hidden(scorer.net).out_channels * (len(choice.scales) if choice.aggregate == "stack" else 1)
    count = len(files.images)
    size = gigabytes(count * numbers * np.dtype(choice.dtype).itemsize)
    print(f"{run}: {count:,} file{'s' * (count > 1)}, {numbers:,} numbers each in {choice.dtype}: {size}", flush=True)
    try:
        with stopped_by_sigterm(), vector_file(file, numbers, choice.dtype, _about(params, run, choice, where)) as add:
            images, skipped = _describe(params, scorer, files, choice, add)
            if not images:
                raise Failure(f"none of the images in {folder} can be read")
    except KeyboardInterrupt:
        raise Interrupted(f"features stopped; {file} is not written") from None
    return DescribedImages(images, skipped, numbers)


def _describe(
    params: Params, scorer: Scorer, files: FolderFiles, choice: DescriptorChoice, add: AddRows
) -> tuple[int, int]:
    """Add the descriptors of all images. Return the numbers of images and of those that were skipped."""
    images, skipped = 0, len(files.skipped)
    with Progress("features", len(files.images) * len(choice.scales), "images") as progress:
        _say(progress, files.skipped)
        for part in parts_of_folder(params, files):
            _say(progress, part.unreadable)
            progress.advance((part.files - len(part.shards)) * len(choice.scales))
            if len(part.shards):
                scales = [activations(params, scorer, part.shards, scale, progress) for scale in choice.scales]
                add(part.shards.ids, aggregated(scales, choice.aggregate, params.active.transferring.normalise))
            images, skipped = images + len(part.shards), skipped + len(part.unreadable)
    return images, skipped


def _say(progress: Progress, skipped: Sequence[tuple[str, str]]) -> None:
    """Print skipped images and the reasons."""
    for path, reason in skipped:
        progress.say(f"skipped: {path}: {reason}")


def _about(params: Params, run: str, choice: DescriptorChoice, where: torch.device) -> dict[str, Any]:
    """Return what the vectors are made by."""
    profile, transfer = params.active, params.active.transferring
    return {
        "run": run,
        "net": params.runs[run].net,
        "weights": params.weights,
        "weights_sha256": sha256(weights(run, params.weights)),
        "scales": list(choice.scales),
        "pixels": [profile.net.pixels(scale) for scale in choice.scales],
        "aggregate": choice.aggregate,
        "activations": transfer.activations,
        "normalise": transfer.normalise,
        "precision": in_use(profile.score.precision, where.type),
        "decoder": decoder_in_use(params.decoder),
    }
