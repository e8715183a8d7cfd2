"""Stage illustrations: what one trained net sees in one image, and training crops of another."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.datasets.facts import Statistics, read_facts, read_statistics
from pipeline.datasets.shards import Shards
from pipeline.experiment.modes import scales_of
from pipeline.experiment.params import Params
from pipeline.experiment.paths import illustrations, posteriors, summary, weights
from pipeline.experiment.targets import ILLUSTRATED as RUN
from pipeline.experiment.targets import ILLUSTRATIONS
from pipeline.results.array_file import arrays_in
from pipeline.results.illustrations import (
    WHOLE,
    CentralCrop,
    CropSeries,
    Draw,
    Grid,
    Illustrations,
    NetField,
    OfClasses,
    Places,
    ReceptiveFields,
    ScoredImage,
    ScoreMap,
    StackField,
    TrainingCrops,
    crop_name,
    encoded,
    scale_name,
    write_illustrations,
)
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import read_json, sha256
from pipeline.system.decoders import decoder_in_use
from pipeline.system.progress import Progress
from stages.common import device, maker, normaliser, open_shards, posteriors_at, scorer_of
from stages.images import ChosenImages, as_received
from vgg.draws import Draws, epoch_words, order
from vgg.images import rescaled_batches
from vgg.maps import cell_starts, posteriors_by_place, score_map
from vgg.nets import NETS
from vgg.receptive import net_field, stack_field
from vgg.score import Scorer, central, grid
from vgg.stream import StreamConfig, crops_of, steps_per_epoch

TRIED = 256  # images that dense evaluation gets right are scored at the centre crop, until it gets one wrong
TOGETHER = 16  # of them at once
LONG = 2  # aspect ratio above which an image is not chosen: its map would be long
EPOCHS = 10
TRAINING_SCALES = ((256, 256), (384, 384), (256, 512))  # section 3.1
SCALES = (256, 512)
STACKS, SEEN = ((3,), (3, 3), (3, 3, 3), (7,)), 9  # section 2.3: kernels, and the side of their input, pixels
LARGEST, CROP = 360, 112  # sides of the stored images, pixels


Pair = tuple[int, int]  # numbers of the true and the other class


class Chosen(NamedTuple):
    """The validation image that is shown, with its posteriors (K,) dense and at the centre crop."""

    number: int
    label: int
    other: int  # the class for which the centre crop takes it
    dense: NDArray[np.float32]
    centre: NDArray[np.float32]


def main(params: Params) -> None:
    """Compute and write the illustrations of the net of RUN, from the posteriors and the images that are prepared."""
    started, score = time.monotonic(), params.active.score
    facts, statistics = read_facts(params.profile), read_statistics()
    where = device(score.device, score.threads, "float32")
    scorer = replace(scorer_of(params, RUN, statistics, where), bfloat16=False)
    seed = 0 if params.weights == "published" else read_json(summary(RUN), maker(RUN, "trained"))["seed"]
    scored, images = _scored(params, scorer, open_shards(params, "val", statistics), seed)
    training, crops = None, dict[str, bytes]()
    if params.weights == "trained":
        training, crops = _training(params, open_shards(params, "train", statistics), statistics, seed)
    write_illustrations(
        Illustrations(
            profile=params.profile,
            run=RUN,
            manifest=statistics.manifest,
            weights_sha256=sha256(weights(RUN, params.weights)),
            classes=[facts.classes[label] for label in (scored.label, scored.other)],
            crop=scorer.crop,
            scored=scored,
            training=training,
            fields=receptive_fields(),
            images={**images, **crops},
        )
    )
    record_provenance(
        ILLUSTRATIONS, illustrations(params.profile), str(where), score.threads, time.monotonic() - started,
        decoder=decoder_in_use(params.decoder),
    )  # fmt: skip


def receptive_fields() -> ReceptiveFields:
    """Return the fields of the stacks that section 2.3 compares, and of every net's last convolution."""
    stacks = [StackField(list(kernels), stack_field(kernels, SEEN).tolist()) for kernels in STACKS]
    return ReceptiveFields(stacks, [NetField(net, *net_field(net)) for net in NETS])


def _scored(params: Params, scorer: Scorer, shards: Shards, seed: int) -> tuple[ScoredImage, dict[str, bytes]]:
    """Return what the net makes of one validation image, and its images by name."""
    scale = scales_of(params.runs[RUN], "dense")[-1]
    chosen = _chosen(params, scorer, shards, scale, seed)
    pair = (chosen.label, chosen.other)
    pixels = _rescaled(params, scorer, shards, chosen.number, scale)
    scores, (height, width) = score_map(scorer, pixels), pixels.shape[2:]
    tops, lefts = cell_starts(height, scores.shape[1], scorer), cell_starts(width, scores.shape[2], scorer)
    sizes = {size: _rescaled(params, scorer, shards, chosen.number, size) for size in SCALES}
    values = ScoredImage(
        id=shards.ids[chosen.number],
        label=chosen.label,
        other=chosen.other,
        test_scale=scale,
        height=height,
        width=width,
        dense=_of_classes(chosen.dense, pair),
        centre=_of_classes(chosen.centre, pair),
        dense_right=int(chosen.dense.argmax()) == chosen.label,
        centre_right=int(chosen.centre.argmax()) == chosen.label,
        map=_map(scores, tops, lefts, pair),
        cut=_places(scorer, pixels, tops, lefts, pair),
        grid=_places(scorer, pixels, grid(height - scorer.crop), grid(width - scorer.crop), pair),
        scales=[_central(size, whole, scorer.crop) for size, whole in sizes.items()],
    )
    crops = {scale_name(size): central(whole, scorer.crop, scorer.crop) for size, whole in sizes.items()}
    return values, {WHOLE: _jpeg(pixels, LARGEST), **{name: _jpeg(crop, 2 * CROP) for name, crop in crops.items()}}


def _chosen(params: Params, scorer: Scorer, shards: Shards, scale: int, seed: int) -> Chosen:
    """Return the first image, in the seed's order, that dense evaluation gets right and the centre crop wrong.

    If TRIED images have none, return the first of these images. Long images are not tried, unless all are long.
    """
    with arrays_in(posteriors(RUN, "dense"), f"make it with: vgg-repro score dense {RUN}") as arrays:
        dense, labels = arrays[str(scale)], arrays["labels"]
    numbers = _usual(shards, order(epoch_words(seed, 0, len(labels))))
    right = numbers[dense[numbers].argmax(1) == labels[numbers]]
    tried, first = (right if len(right) else numbers)[:TRIED], None
    with Progress(f"centre crops {RUN}", len(tried), "images") as progress:
        for start in range(0, len(tried), TOGETHER):
            part = tried[start : start + TOGETHER]
            centred = posteriors_at(params, scorer, ChosenImages(shards, part), "centre", scale, progress)
            wrong = centred.argmax(1) != labels[part]
            place = int(wrong.argmax())  # of the first that is wrong; 0 if none is
            found = _with_other(int(part[place]), int(labels[part[place]]), dense[part[place]], centred[place])
            if wrong.any():
                return found
            first = first or found
    assert first is not None, "there are images"
    return first


def _usual(shards: Shards, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the images whose longer side is at most LONG times the shorter; all if there are none."""
    sides = np.sort([shards.heights[numbers], shards.widths[numbers]], 0)
    usual = numbers[sides[1] <= LONG * sides[0]]
    return usual if len(usual) else numbers


def _with_other(number: int, label: int, dense: NDArray[np.float32], centred: NDArray[np.float32]) -> Chosen:
    """Return the image with its other class: the likeliest at the centre crop that is not the true one."""
    return Chosen(number, label, int(next(k for k in (-centred).argsort(kind="stable") if k != label)), dense, centred)


def _rescaled(params: Params, scorer: Scorer, shards: Shards, image: int, scale: int) -> Tensor:
    """Return one whole image (1, 3, H, W) uint8 at a scale in the paper's pixels."""
    score, pixels = params.active.score, params.active.net.pixels(scale)
    gpu, chosen = scorer.device.index, ChosenImages(shards, [image])
    (batch,) = rescaled_batches(chosen, pixels, 1, 1, gpu, resize=score.resize, decoder=decoder_in_use(params.decoder))
    return batch.pixels.cpu().clone()


def _of_classes(values: NDArray[np.float32], pair: Pair) -> OfClasses:
    return OfClasses(*(float(values[label]) for label in pair))


def _map(scores: Tensor, tops: list[int], lefts: list[int], pair: Pair) -> ScoreMap:
    """Return both classes' part of a score map (K, h, w)."""
    softmax = scores.softmax(0)
    grids = (values[label].double().tolist() for values in (scores, softmax) for label in pair)
    return ScoreMap(tops, lefts, *grids)


def _places(scorer: Scorer, pixels: Tensor, tops: list[int], lefts: list[int], pair: Pair) -> Places:
    """Return both classes' posteriors of crops of one image (1, 3, H, W) at all places."""
    found = posteriors_by_place(scorer, pixels, tops, lefts)
    return Places(tops, lefts, *(_grid(found[:, :, label]) for label in pair))


def _grid(values: NDArray[np.float32]) -> Grid:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def _central(scale: int, pixels: Tensor, crop: int) -> CentralCrop:
    """Return where the central crop is in an image (1, 3, H, W), as `central` cuts it."""
    height, width = pixels.shape[2:]
    return CentralCrop(scale, height, width, (height - crop) // 2, (width - crop) // 2)


def _jpeg(pixels: Tensor, largest: int) -> bytes:
    """Return an image (1, 3, H, W) uint8, encoded."""
    return encoded(pixels[0].permute(1, 2, 0).numpy(), largest)


def _training(
    params: Params, shards: Shards, statistics: Statistics, seed: int
) -> tuple[TrainingCrops, dict[str, bytes]]:
    """Return the first epochs' crops of one training image, and their images by name."""
    size, batch, decoder = params.active.net, params.active.training.batch, decoder_in_use(params.decoder)
    image, normalise = _always_used(len(shards), seed, batch), normaliser(params, statistics)
    series, images = [], dict[str, bytes]()
    for number, scales in enumerate(TRAINING_SCALES):
        plan = StreamConfig(seed, batch, size.crop, (size.pixels(scales[0]), size.pixels(scales[1])))
        pixels, draws = crops_of(shards, plan, image, range(EPOCHS), decoder)
        colour = torch.from_numpy(draws.colour).float()
        shifts = colour @ normalise.components  # (EPOCHS, 3)
        series.append(CropSeries(list(scales), [_draw(draws, shifts, epoch) for epoch in range(EPOCHS)]))
        received, plain = as_received(normalise, pixels, colour), as_received(normalise, pixels)
        for epoch in range(EPOCHS):
            images[crop_name(number, epoch)] = encoded(received[epoch], CROP)
            if number == 0:
                images[crop_name(number, epoch, plain=True)] = encoded(plain[epoch], CROP)
    return TrainingCrops(shards.ids[image], int(shards.labels[image]), seed, series), images


def _always_used(images: int, seed: int, batch: int) -> int:
    """Return the first image of the first epoch that is in a whole batch of each epoch."""
    used = steps_per_epoch(images, batch) * batch
    first, *later = (order(epoch_words(seed, epoch, images))[:used] for epoch in range(EPOCHS))
    return int(next(image for image in first if all(image in epoch for epoch in later)))


def _draw(draws: Draws, shifts: Tensor, epoch: int) -> Draw:
    height, width, top, left = (int(values[epoch]) for values in (draws.height, draws.width, draws.top, draws.left))
    return Draw(height, width, top, left, bool(draws.flip[epoch]), shifts[epoch].tolist())
