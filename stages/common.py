"""The set-up that several stages share: the device, a net of the profile's size, its input, its images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.dataset_key import is_asked_for
from pipeline.datasets.facts import PREPARE, Statistics, read_facts, read_statistics
from pipeline.datasets.prepare import read_prepared
from pipeline.datasets.shards import MAKE_SHARDS, Shards
from pipeline.errors import Failure
from pipeline.experiment.modes import MODES
from pipeline.experiment.params import Params, Precision
from pipeline.experiment.paths import CLASSIFICATION, DataSet, record, summary, weights
from pipeline.system.atomic_files import read_json, sha256, whole
from pipeline.system.decoders import DALI, decoder_in_use
from pipeline.system.devices import gpu_count
from pipeline.system.memory import keep_freed_memory
from pipeline.system.progress import Progress
from vgg.distributed import ALONE, Ranks
from vgg.images import Images, Rescaled, rescaled_batches
from vgg.nets import VGG
from vgg.normalise import Normalise, colour_components
from vgg.score import VIEWS, Scorer

SPARE = 0.1  # fraction of a GPU's memory left to DALI; without a limit torch would reserve all


def device(choice: str, threads: int, precision: Precision) -> torch.device:
    """Return the device that `choice` means, with a separate GPU for each of several processes.

    Limit torch to `threads` CPU threads and to `precision`, because GPUs would use TF32 for float32. Raise Failure if
    this process has no GPU of its own.
    """
    torch.set_num_threads(threads)
    place, gpus = int(os.environ.get("LOCAL_RANK", 0)), gpu_count(choice)
    if not gpus:
        keep_freed_memory()
        return torch.device("cpu")
    if place >= gpus:
        raise Failure(f"process {place + 1} of this machine has no GPU: there are only {gpus}; start one per GPU")
    where = torch.device("cuda", place)
    torch.cuda.set_device(where)
    torch.cuda.set_per_process_memory_fraction(1 - SPARE, where)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return where


def build(params: Params, net: str, classes: int) -> VGG:
    """Return `net` at the profile's size, its weights not yet set."""
    size = params.active.net
    return VGG(net, classes, *size.vgg_size, size.dropout)


def normaliser(params: Params, statistics: Statistics) -> Normalise:
    """Return the normalisation of the nets' input by the profile and the training set."""
    components = colour_components(np.array(statistics.covariance), params.active.training.colour)
    return Normalise(torch.tensor(statistics.mean_rgb), components, params.active.net.input_scale)


def published_normaliser(mean_rgb: Sequence[float], std_rgb: Sequence[float]) -> Normalise:
    """Return a published net's normalisation: minus mean, divided by standard deviation, (3,) grey levels each."""
    std = torch.tensor(std_rgb)
    scale = float(std[0]) if bool((std == std[0]).all()) else std
    return Normalise(torch.tensor(mean_rgb), torch.zeros(3, 3), scale)


def open_shards(params: Params, split: str, statistics: Statistics, data_set: DataSet = CLASSIFICATION) -> Shards:
    """Return a split of the prepared `data_set` that `statistics` describe.

    Raise Failure if its shards are missing on this machine or hold other images, or if `params` ask for other images.
    """
    folder, make = data_set.shards, f"{MAKE_SHARDS}{'' if data_set == CLASSIFICATION else f' {data_set.name}'}"
    shards = Shards(folder, split)
    made = read_prepared(folder)
    if (before := made.stored.get("decoder", DALI)) != (now := decoder_in_use(params.decoder)):
        raise Failure(
            f"the images were prepared with the decoder {before}, but decoder: {params.decoder} in params.yaml means "
            f"{now} here, and the two differ by a grey level. Set decoder: {before}, or prepare the images again and "
            f"repeat all runs: {PREPARE}"
        )
    if not is_asked_for(params, data_set):
        raise Failure(f"the prepared data set does not match params.yaml; {make}")
    if made.manifest != statistics.manifest:
        raise Failure(f"the shards in {folder} do not hold the images that were prepared last; {make}")
    return shards


def evaluated_images(params: Params, data_set: DataSet) -> tuple[Shards, str]:
    """Return the validation images, or those of another `data_set`, and the hash of their manifest.

    Raise Failure as `open_shards`.
    """
    asked = params if data_set == CLASSIFICATION else params.for_set(data_set.name)
    statistics = read_statistics(data_set)
    return open_shards(asked, "val", statistics, data_set), statistics.manifest


def scorer_of(
    params: Params,
    run: str,
    statistics: Statistics | None,
    where: torch.device,
    ranks: Ranks = ALONE,
    outputs: int | None = None,
) -> Scorer:
    """Return a scorer of the finished net of `run`, trained or published by `params`. Raise Failure if none fits.

    `statistics` are those of the images that it classifies; None for a published net whose classes are of no interest.
    `outputs` are those of the net's last layer if they are not the classes.
    """
    score, size = params.active.score, params.active.net
    file, published = weights(run, params.weights), params.weights == "published"
    make = maker(run, params.weights)
    if not published:
        statistics = statistics or read_statistics()
        check_trained_on(params, run, statistics)
    stored = load_tensors(file, make)
    classes = statistics.classes if statistics else len(stored["weights"]["fc3.bias"])
    net = build(params, params.runs[run].net, outputs or classes)
    try:
        net.load_state_dict(stored["weights"])
    except RuntimeError:
        fix = "import a matching net, or this one with --class-map" if published else f"make it with: {make}"
        raise Failure(f"{file} has {_misfit(net, stored['weights'])}; {fix}") from None
    wnids = read_facts(params.profile).wnids if published and statistics and stored["classes"] else []
    if wnids and stored["classes"] != wnids:
        pairs = zip(stored["classes"], wnids, strict=True)
        number, (theirs, ours) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise Failure(f"class {number} is {theirs} in {file} but {ours} in the images: see --class-map")
    net.to(where).to(memory_format=torch.channels_last)
    normalise = (
        normaliser(params, statistics) if statistics and not published else published_normaliser(**stored["input"])
    )
    bfloat16 = score.precision == "bfloat16"
    return Scorer(net, normalise.to(where), size.crop, where, bfloat16, score.mean, ranks, score.remainder)


def posteriors_at(
    params: Params, scorer: Scorer, images: Images, mode: str, scale: int, progress: Progress, resize: str | None = None
) -> NDArray[np.float32]:
    """Return posteriors (images, K) of whole images in one mode at one Q, the paper's pixels.

    `resize` is a filter other than that of `params`. Raise the ValueErrors of `Scorer.posteriors`.
    """
    batches = batches_at(params, scorer, images, scale, progress, resize)
    torch.backends.cudnn.benchmark = not MODES[mode].whole_images  # pays if all shapes are equal
    return scorer.posteriors(batches, len(images), VIEWS[mode])


def batches_at(
    params: Params, scorer: Scorer, images: Images, scale: int, progress: Progress, resize: str | None = None
) -> Iterator[Rescaled]:
    """Yield this process's images at one Q, the paper's pixels, for `scorer`, and count them as they are done.

    `resize` is a filter other than that of `params`.
    """
    score, pixels = params.active.score, params.active.net.pixels(scale)
    gpu, rank, ranks = scorer.device.index, scorer.ranks.rank, scorer.ranks.size
    resize, decoder = resize or score.resize, decoder_in_use(params.decoder)
    batches = rescaled_batches(images, pixels, score.batch, score.threads, gpu, rank, ranks, resize, decoder)
    return counted(batches, progress, ranks)


def counted(batches: Iterator[Rescaled], progress: Progress, ranks: int) -> Iterator[Rescaled]:
    """Yield the same batches; count each when it is done, together with those of the other processes."""
    for batch in batches:
        yield batch
        progress.advance(len(batch.ids) * ranks)


def maker(run: str, origin: str) -> str:
    """Return the command that makes the weights of `run`, trained here or published."""
    return f"vgg-repro weights import {run} FILE" if origin == "published" else f"vgg-repro train {run}"


def read_record(run: str) -> dict[str, Any]:
    """Return the record of a run's published weights. Raise Failure, with the command that makes them, if missing."""
    values: dict[str, Any] = read_json(record(run), maker(run, "published"))
    return values


def _misfit(net: VGG, tensors: Mapping[str, Tensor]) -> str:
    """Return why the weights do not fit: their number of classes, or else their net."""
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    wrong = [name for name in wanted if name not in tensors or tuple(tensors[name].shape) != wanted[name]]
    if set(wrong) <= {"fc3.weight", "fc3.bias"} and "fc3.bias" in tensors:
        return f"{len(tensors['fc3.bias'])} classes, but the images have {wanted['fc3.bias'][0]}"
    return "a net of another size, or with other classes, than this profile's"


def check_trained_on(params: Params, run: str, statistics: Statistics) -> None:
    """Raise Failure if the summary of `run` shows that its weights were trained on other images than `statistics`."""
    path = summary(run)
    if not path.exists() or not weights(run).exists():
        return
    trained = read_json(path, f"vgg-repro train {run}")
    if trained["data"] != statistics.manifest and trained["weights_sha256"] == sha256(weights(run)):
        raise Failure(f"{weights(run)} was trained on other images; make it again with: vgg-repro train {run}")


def save_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values; equal values give equal bytes under any file name."""
    with whole(path) as file:
        torch.save(values, file)


def load_tensors(path: Path, make: str) -> dict[str, Any]:
    """Return what `save_tensors` wrote, on the CPU; run nothing in the file as code.

    Raise Failure, with the command `make`, if the file is missing or cannot be read.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Failure(f"{path} does not exist; make it with: {make}") from None
    except Exception as error:  # torch raises a dozen types for a broken file
        raise Failure(f"{path} cannot be read ({error}); make it again with: {make}") from None
    return values


def weights_of(net: VGG) -> dict[str, Tensor]:
    """Return the net's weights on the CPU, in contiguous memory layout."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in net.state_dict().items()}
