"""The cost of a part of the graph: images, iterations, arithmetic, memory and disk of every run and score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline.datasets.facts import read_facts
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources import open_source
from pipeline.datasets.sources.ilsvrc.reference import BOXED
from pipeline.errors import Failure
from pipeline.experiment.modes import ALL_MODES, MODES, PROTOCOLS, WINDOWS, scales_of
from pipeline.experiment.other_sets import FEATURES, described_by
from pipeline.experiment.other_sets import PROTOCOLS as SETS
from pipeline.experiment.params import Net, Params, Profile
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.experiment.run_names import work_of
from pipeline.experiment.server_sets import server_score
from pipeline.orchestration.dvc_graph import StageForecast
from pipeline.system.atomic_files import read_json

if TYPE_CHECKING:
    from vgg.nets import VGG

SHAPE = 4 / 3  # assumed aspect ratio (longer side over shorter) of images that have not been measured
VIEWS = 2  # of a described image: itself and its flip
REFERENCE = "D"  # the net whose speed is given in images per second


@dataclass(frozen=True)
class ImageCounts:
    """The numbers of images, and the aspect ratios of the validation images."""

    train: int
    val: int
    classes: int
    shapes: Mapping[float, int]  # aspect ratio (longer side over shorter) to number of images
    counted: bool  # True if they are prepared; otherwise the numbers are those known for the source
    boxed: int  # training images with boxes
    bytes: int  # of the shards; 0 if unknown


@dataclass(frozen=True)
class Cost:
    """The cost of a stage."""

    stage: str
    name: str  # of the run
    images: int  # trained on or scored, added up over all epochs or scales
    iterations: int  # or, in scoring, forward passes of an image
    flops: int
    memory: int  # lower bound in bytes for the net and the values that it keeps
    disk: int  # bytes that are kept
    needs: frozenset[str]


@dataclass(frozen=True)
class Totals:
    """The costs of all stages that would run."""

    training: int  # FLOPs
    scoring: int
    weights: int  # bytes that are kept
    scores: int
    checkpoint: int  # bytes of the largest, while its run trains: weights and momentum
    memory: int  # bytes of the stage that needs most


@dataclass(frozen=True)
class CostPlan:
    """A part of the graph: the forecasts of its stages, and the costs of those that would run."""

    profile: str
    forecasts: Sequence[StageForecast]
    images: ImageCounts
    training: Sequence[Cost]
    scoring: Sequence[Cost]
    nets: Mapping[str, int]  # FLOPs of one training image, by net

    @property
    def totals(self) -> Totals:
        """Return the sums of the costs, and the largest checkpoint and memory."""
        return Totals(
            training=sum(cost.flops for cost in self.training),
            scoring=sum(cost.flops for cost in self.scoring),
            weights=sum(cost.disk for cost in self.training),
            scores=sum(cost.disk for cost in self.scoring),
            checkpoint=max((2 * cost.disk for cost in self.training), default=0),
            memory=max((cost.memory for cost in (*self.training, *self.scoring)), default=0),
        )

    def chain(self, seconds: Mapping[str, float]) -> list[str]:
        """Return the chain of dependent stages that takes longest, in order. `seconds` has the time of each stage."""
        best: dict[str, tuple[float, list[str]]] = {}
        for forecast in self.forecasts:
            before = max((best[name] for name in forecast.needs if name in best), default=(0.0, []))
            best[forecast.stage] = before[0] + seconds.get(forecast.stage, 0.0), [*before[1], forecast.stage]
        longest = max(best.values(), default=(0.0, []))[1]
        return [name for name in longest if name in seconds]

    def waves(self) -> list[list[str]]:
        """Return the runs to train in consecutive waves. The runs of one wave need not wait for each other."""
        running = {cost.stage: cost for cost in self.training}
        turn: dict[str, int] = {}
        for forecast in self.forecasts:
            turn[forecast.stage] = max((turn[n] for n in forecast.needs if n in turn), default=0) + (
                forecast.stage in running
            )
        count = max((turn[stage] for stage in running), default=0)
        return [[running[s].name for s in running if turn[s] == wave] for wave in range(1, count + 1)]


def plan(params: Params, forecasts: Sequence[StageForecast]) -> CostPlan:
    """Return the costs of what would run. Raise Failure if the number of images is unknown."""
    from vgg.cost import training_flops

    images, net = count_images(params), params.active.net
    nets = {run.net for run in params.all_runs.values()} | {REFERENCE}
    running = [forecast for forecast in forecasts if forecast.what == "run"]
    trained = [forecast for forecast in running if work_of(forecast.stage)[0] in ("train", "localiser")]
    return CostPlan(
        params.profile,
        forecasts,
        images,
        [_training(params, images, forecast) for forecast in trained],
        [cost for forecast in running if (cost := _score_cost(params, images, forecast))],
        {name: training_flops(_built(net, name, images.classes), net.crop) for name in sorted(nets)},
    )


def _score_cost(params: Params, images: ImageCounts, forecast: StageForecast) -> Cost | None:
    """Return the cost of a stage that applies a trained net to images; None for any other stage."""
    work, name = work_of(forecast.stage)
    if work in PROTOCOLS:
        return _scoring(params, images, forecast, work, name)
    if work == FEATURES:
        return _describing(params, forecast)
    if score := server_score(params, forecast.stage):
        return _scoring(params, _of_test_set(params, images, score.data_set), forecast, score.mode, score.run)
    return None


def count_images(params: Params) -> ImageCounts:
    """Return the counts of the prepared images, or those known for the source. Raise Failure if there are neither."""
    data = params.active.data
    if CLASSIFICATION.facts(params.profile).exists() and (facts := read_facts(params.profile)).source == data.source:
        shapes, size = _shapes()
        train, val = (min(count, data.limit or count) for count in (facts.train, facts.val))
        counted = (train, val) == (facts.train, facts.val)
        return ImageCounts(train, val, len(facts.classes), shapes, counted, _boxed(train, data.source), size)
    counts = open_source(params.active).known
    if counts is None:
        raise Failure("the images have not been counted yet; count them with: vgg-repro prepare")
    train, val, classes, size = counts
    if "train" not in params.active.splits:
        train, size = 0, int(size * val / (train + val))
    train, val = (min(count, data.limit or count) for count in (train, val))
    return ImageCounts(train, val, classes, {SHAPE: val}, False, _boxed(train, data.source), size)


def _boxed(train: int, source: str) -> int:
    """Return how many of the training images have boxes: as counted, or as known of ILSVRC; else all."""
    if CLASSIFICATION.boxes.exists():
        counts = read_json(CLASSIFICATION.boxes, "dvc repro truth").get("train", {})
        if counts.get("images") == train:
            return int(counts["with_boxes"])
    return min(train, BOXED) if source == "ilsvrc2012" else train


def _shapes() -> tuple[dict[float, int], int]:
    """Return the aspect ratios of the validation images, if they are on this machine, and the bytes of all shards."""
    try:
        val = Shards(CLASSIFICATION.shards, "val")
    except Failure:
        return {SHAPE: 1}, 0
    sides = np.sort(np.stack([val.heights, val.widths]), 0)
    counts = Counter(np.round(sides[1] / sides[0], 2).tolist())
    return dict(counts), sum(path.stat().st_size for path in CLASSIFICATION.shards.iterdir())


def _training(params: Params, images: ImageCounts, forecast: StageForecast) -> Cost:
    from vgg.cost import training_bytes, training_flops, weight_count

    _, name = work_of(forecast.stage)
    run, profile = params.all_trained[name], params.active
    net, train, recipe = profile.net, profile.training, profile.recipes[run.recipe]
    used = images.boxed if name in params.localisers else images.train
    if used < train.batch:
        raise Failure(f"{used} training images are fewer than one batch of {train.batch}: see train.batch")
    steps = used // train.batch * recipe.epochs
    outputs = _outputs(params, name, images.classes)
    built = _built(net, run.net, outputs)
    checks = recipe.epochs * images.val * _forward(net, run.net, outputs, net.crop, net.crop)
    flops = steps * train.batch * training_flops(built, net.crop, run.layers) + checks
    memory = training_bytes(built, net.crop, train.batch, train.precision == "bfloat16", run.layers)
    return Cost(
        forecast.stage, name, steps * train.batch, steps, flops, memory, 4 * weight_count(built), forecast.needs
    )


def _scoring(params: Params, images: ImageCounts, forecast: StageForecast, work: str, name: str) -> Cost:
    """Return the cost of a score of the run `name` in the mode `work`, of the validation images of `images`."""
    from vgg.boxes import BOX
    from vgg.cost import scoring_bytes
    from vgg.errors import top_k

    mode, run, net = ALL_MODES[work], params.all_trained[name], params.active.net
    scales = params.windows[name].scales if work == WINDOWS else scales_of(run, work)
    outputs = _outputs(params, name, images.classes)
    nets = 1 + (work == WINDOWS)  # a classification net of the same layers rates the boxes
    flops = memory = cells = 0
    total = sum(images.shapes.values())
    score = params.active.score
    ceil = mode.whole_images and score.remainder == "ceil"
    for scale in scales:
        for ratio, count in images.shapes.items():
            sides = _seen(params.active, scale, ratio) if mode.whole_images else (net.crop, net.crop)
            forward = _forward(net, run.net, outputs, *sides, ceil)
            cells += mode.views * images.val * count * _cells(params.active, sides) // total
            flops += nets * mode.views * images.val * count * forward // total
            built = _built(net, run.net, outputs)
            memory = max(memory, scoring_bytes(built, *sides, score.batch, score.precision == "bfloat16", ceil))
    scored = images.val * len(scales)
    boxes = cells * top_k(images.classes) * (BOX + 1) if work == WINDOWS else scored * BOX
    disk = 4 * (scored * images.classes if work in MODES else boxes)
    return Cost(forecast.stage, name, scored, scored * mode.views, flops, memory, disk, forecast.needs)


def _describing(params: Params, forecast: StageForecast) -> Cost:
    """Return the cost of the features of another data set: all its images, and boxes, at each Q."""
    from vgg.cost import scoring_bytes

    name, run = described_by(forecast.stage)
    net, score, row = params.active.net, params.active.score, params.datasets[name]
    images, layers = _of_set(params, name), params.runs[run].net
    ceil, flops, memory = score.remainder == "ceil", 0, 0
    for scale in row.scales:
        sides = _seen(params.active, scale, SHAPE)
        flops += VIEWS * images * _forward(net, layers, 1, *sides, ceil)
        built = _built(net, layers, 1)
        memory = max(memory, scoring_bytes(built, *sides, score.batch, score.precision == "bfloat16", ceil))
    counted, size = images * len(row.scales), np.dtype(params.active.transferring.dtype).itemsize
    return Cost(forecast.stage, run, counted, counted * VIEWS, flops, memory, size * counted * net.fc, forecast.needs)


def _of_set(params: Params, name: str) -> int:
    """Return the number of images and boxes of a data set: as prepared, or as known; 0 if unknown."""
    return _images_of(params, name) * (1 + SETS[params.datasets[name].source].boxed)


def _of_test_set(params: Params, images: ImageCounts, name: str) -> ImageCounts:
    """Return the counts with the images of a data set without labels in the place of the validation images."""
    return replace(images, val=_images_of(params, name), shapes={SHAPE: 1})


def _images_of(params: Params, name: str) -> int:
    """Return the number of images of a data set: as prepared, or as known; 0 if unknown."""
    if (data_set := DataSet(name)).facts(params.profile).exists():
        return read_facts(params.profile, data_set).val
    known = open_source(params.for_set(name).active).known
    return known.val if known else 0


def _cells(profile: Profile, sides: tuple[int, int]) -> int:
    """Return the number of windows of an image of these sides in pixels."""
    from vgg.localise import map_sides

    height, width = map_sides(*sides, profile.net.crop, profile.score.remainder)
    return height * width


def _outputs(params: Params, name: str, classes: int) -> int:
    """Return the number of outputs of a run's last layer: the classes, or a localiser's boxes."""
    row = params.localisers.get(name)
    return row.outputs(classes) if row else classes


def _seen(profile: Profile, scale: int, ratio: float) -> tuple[int, int]:
    """Return the sides in pixels that the net sees of a whole image with this aspect ratio, the shorter side first."""
    from vgg.score import seen_side

    short, crop, remainder = profile.net.pixels(scale), profile.net.crop, profile.score.remainder
    return seen_side(short, crop, remainder), seen_side(round(short * ratio), crop, remainder)


def _built(net: Net, name: str, classes: int) -> VGG:
    """Return a net without values at a profile's size."""
    from vgg.cost import bare_net

    return bare_net(name, classes, *net.vgg_size)


@cache
def _forward(net: Net, name: str, classes: int, height: int, width: int, ceil: bool = False) -> int:
    from vgg.cost import forward_flops

    return forward_flops(_built(net, name, classes), height, width, ceil)
