"""What several stages set up the same way: the device, a net of the profile's size, its input, its images."""

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
from pipeline.datasets.facts import Statistics, read_facts
from pipeline.datasets.prepare import read_prepared
from pipeline.datasets.shards import MAKE_SHARDS, Shards
from pipeline.errors import Failure
from pipeline.experiment.params import Params, Precision
from pipeline.experiment.paths import CLASSIFICATION, record, summary, weights
from pipeline.system.atomic_files import read_json, sha256, whole
from pipeline.system.devices import gpu_count
from pipeline.system.progress import Progress
from vgg.distributed import ALONE, Ranks
from vgg.images import Images, Rescaled, rescaled_batches
from vgg.nets import VGG
from vgg.normalise import Normalise, colour_components
from vgg.score import MODES, Scorer

SPARE = 0.1  # of a GPU's memory is DALI's; torch by itself would come to keep it all


def device(choice: str, threads: int, precision: Precision) -> torch.device:
    """The device that `choice` means, a GPU of its own for each of several processes; torch is held to `threads` CPU
    threads and to `precision`, for GPUs would take TF32 for float32.
    """
    torch.set_num_threads(threads)
    place, gpus = int(os.environ.get("LOCAL_RANK", 0)), gpu_count(choice)
    if not gpus:
        return torch.device("cpu")
    if place >= gpus:
        raise Failure(f"process {place + 1} of this machine has no GPU, for there are {gpus}; start one process a GPU")
    where = torch.device("cuda", place)
    torch.cuda.set_device(where)
    torch.cuda.set_per_process_memory_fraction(1 - SPARE, where)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return where


def build(params: Params, net: str, classes: int) -> VGG:
    """`net` at the profile's size, its weights not yet set."""
    size = params.active.net
    return VGG(net, classes, size.crop, float(size.width_ratio), size.fc, size.dropout)


def normaliser(params: Params, statistics: Statistics) -> Normalise:
    """The nets' input as the profile and the training set have it."""
    components = colour_components(np.array(statistics.covariance), params.active.training.colour)
    return Normalise(torch.tensor(statistics.mean_rgb), components, params.active.net.input_scale)


def published_normaliser(mean_rgb: Sequence[float], deviation_rgb: Sequence[float]) -> Normalise:
    """A published net's input: minus the mean, divided by the deviation, three grey levels each."""
    deviation = torch.tensor(deviation_rgb)
    scale = float(deviation[0]) if bool((deviation == deviation[0]).all()) else deviation
    return Normalise(torch.tensor(mean_rgb), torch.zeros(3, 3), scale)


def open_shards(params: Params, split: str, statistics: Statistics) -> Shards:
    """A split of the prepared data that `statistics` are of.

    Failure if its shards are not on this machine, or others, or if `params` ask for other images.
    """
    folder = CLASSIFICATION.shards
    found = Shards(folder, split)
    if not is_asked_for(params, CLASSIFICATION):
        raise Failure(f"params.yaml asks for other images than those that are prepared; {MAKE_SHARDS}")
    if read_prepared(folder).manifest != statistics.manifest:
        raise Failure(f"the shards in {folder} are not of the images that were prepared last; {MAKE_SHARDS}")
    return found


def scorer_of(params: Params, run: str, statistics: Statistics, where: torch.device, ranks: Ranks = ALONE) -> Scorer:
    """The finished net of `run`, trained or published, as `params` have it. Failure if there is none that fits."""
    score, size = params.active.score, params.active.net
    file, published = weights(run, params.weights), params.weights == "published"
    make = maker(run, params.weights)
    if not published:
        check_trained_on(params, run, statistics)
    found = load_tensors(file, make)
    net = build(params, params.runs[run].net, statistics.classes)
    try:
        net.load_state_dict(found["weights"])
    except RuntimeError:
        mend = "import a net of these" if published else f"make it with: {make}"
        raise Failure(f"{file} is of {_misfit(net, found['weights'])}; {mend}") from None
    wnids = read_facts(params.profile).wnids if published and found["classes"] else []
    if wnids and found["classes"] != wnids:
        pairs = zip(found["classes"], wnids, strict=True)
        number, (theirs, ours) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise Failure(f"class {number} of {file} is {theirs}, and that of the images is {ours}: see --class-map")
    net.to(where).to(memory_format=torch.channels_last)
    normalise = published_normaliser(**found["input"]) if published else normaliser(params, statistics)
    return Scorer(net, normalise.to(where), size.crop, where, score.precision == "bfloat16", score.mean, ranks)


def posteriors_at(
    params: Params, scorer: Scorer, images: Images, mode: str, scale: int, progress: Progress
) -> NDArray[np.float32]:
    """Posteriors (images, K) of whole images in one mode at one Q, the paper's pixels. ValueError as the scorer's."""
    score, pixels = params.active.score, params.active.net.pixels(scale)
    rank, ranks = scorer.ranks.rank, scorer.ranks.size
    batches = rescaled_batches(images, pixels, score.batch, score.threads, scorer.device.index, rank, ranks)
    torch.backends.cudnn.benchmark = mode != "dense"  # pays where all shapes are one
    return scorer.posteriors(_counted(batches, progress, ranks), len(images), MODES[mode])


def _counted(batches: Iterator[Rescaled], progress: Progress, ranks: int) -> Iterator[Rescaled]:
    """The same batches, each counted once it is done with, and for what the other processes do meanwhile."""
    for batch in batches:
        yield batch
        progress.advance(len(batch.ids) * ranks)


def maker(run: str, origin: str) -> str:
    """The command that makes the weights of `run`, trained here or published."""
    return f"vgg-repro weights import {run} FILE" if origin == "published" else f"vgg-repro train {run}"


def read_record(run: str) -> dict[str, Any]:
    """What is known of a run's published weights. Failure says what makes them."""
    found: dict[str, Any] = read_json(record(run), maker(run, "published"))
    return found


def _misfit(net: VGG, found: Mapping[str, Tensor]) -> str:
    """Why weights do not fit: by their number of classes, or else their net."""
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    wrong = [name for name in wanted if name not in found or tuple(found[name].shape) != wanted[name]]
    if set(wrong) <= {"fc3.weight", "fc3.bias"} and "fc3.bias" in found:
        return f"{len(found['fc3.bias'])} classes, and the images are of {wanted['fc3.bias'][0]}"
    return "another size of net, or of other classes, than this profile's"


def check_trained_on(params: Params, run: str, statistics: Statistics) -> None:
    """Failure if it is known that the weights of `run` were trained on other images than `statistics` are of."""
    path = summary(params.profile, run)
    if not path.exists() or not weights(run).exists():
        return
    said = read_json(path, f"vgg-repro train {run}")
    if said["data"] != statistics.manifest and said["weights_sha256"] == sha256(weights(run)):
        raise Failure(f"{weights(run)} was trained on other images; make it again with: vgg-repro train {run}")


def save_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values; equal values give equal bytes, whatever the file's name."""
    with whole(path) as file:
        torch.save(values, file)


def load_tensors(path: Path, make: str) -> dict[str, Any]:
    """What `save_tensors` wrote, on the CPU; nothing in the file is run as code. Failure says what makes it."""
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Failure(f"{path} is not there; make it with: {make}") from None
    except Exception as error:  # torch raises a dozen kinds for a broken file
        raise Failure(f"{path} cannot be read ({error}); make it again with: {make}") from None
    return values


def weights_of(net: VGG) -> dict[str, Tensor]:
    """The net's weights on the CPU, in the memory's plain order."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in net.state_dict().items()}
