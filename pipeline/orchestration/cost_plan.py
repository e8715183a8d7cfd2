"""What a part of the graph would cost: images, iterations, arithmetic, memory and disk of every run and score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pipeline.datasets.facts import read_facts
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources import source_class
from pipeline.errors import Failure
from pipeline.experiment.grid import scales_of
from pipeline.experiment.params import Net, Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.orchestration.dvc_graph import StageForecast

SHAPE = 4 / 3  # the longer side of a photograph, of the shorter, where nobody has looked yet
VIEWS = {"dense": 2, "crops": 50, "centre": 1}  # forward passes an image and scale (section 3.2)
REFERENCE = "D"  # the net that a rate in images a second is of


@dataclass(frozen=True)
class Images:
    """How many images there are, and of which sizes those for validation are."""

    train: int
    val: int
    classes: int
    shapes: Mapping[float, int]  # longer side of the shorter, and how many images have it
    counted: bool  # they are prepared; else they are those that the source is known for
    bytes: int  # of the shards; 0 where nobody knows


@dataclass(frozen=True)
class Cost:
    """What a stage costs."""

    stage: str
    name: str  # the run's
    images: int  # trained on, or looked at, all epochs or scales
    iterations: int  # or forward passes of an image
    flops: int
    memory: int  # bytes that the net and what it keeps take at the least
    disk: int  # bytes that stay
    needs: frozenset[str]


@dataclass(frozen=True)
class CostPlan:
    """A part of the graph, what would become of its stages, and what those cost that would run."""

    profile: str
    forecasts: Sequence[StageForecast]
    images: Images
    training: Sequence[Cost]
    scoring: Sequence[Cost]
    nets: Mapping[str, int]  # arithmetic of one training image, by net

    def chain(self, seconds: Mapping[str, float]) -> list[str]:
        """The stages, one after the other, that take longest of all that wait for each other."""
        best: dict[str, tuple[float, list[str]]] = {}
        for forecast in self.forecasts:
            before = max((best[name] for name in forecast.needs if name in best), default=(0.0, []))
            best[forecast.stage] = before[0] + seconds.get(forecast.stage, 0.0), [*before[1], forecast.stage]
        longest = max(best.values(), default=(0.0, []))[1]
        return [name for name in longest if name in seconds]

    def waves(self) -> list[list[str]]:
        """The runs to train, those together that need not wait for each other, in the order of their turns."""
        running = {cost.stage: cost for cost in self.training}
        turn: dict[str, int] = {}
        for forecast in self.forecasts:
            turn[forecast.stage] = max((turn[n] for n in forecast.needs if n in turn), default=0) + (
                forecast.stage in running
            )
        count = max((turn[stage] for stage in running), default=0)
        return [[running[s].name for s in running if turn[s] == wave] for wave in range(1, count + 1)]


def plan(params: Params, forecasts: Sequence[StageForecast]) -> CostPlan:
    """The costs of what would run. Failure if nobody knows how many images there are."""
    from vgg.cost import training_flops

    images, net = count_images(params), params.active.net
    nets = {run.net for run in params.runs.values()} | {REFERENCE}
    return CostPlan(
        params.profile,
        forecasts,
        images,
        [
            _training(params, images, forecast)
            for forecast in forecasts
            if forecast.what == "run" and forecast.stage.startswith("train@")
        ],
        [
            _scoring(params, images, forecast)
            for forecast in forecasts
            if forecast.what == "run" and _mode(forecast.stage) in VIEWS
        ],
        {name: training_flops(_built(net, name, images.classes), net.crop) for name in sorted(nets)},
    )


def count_images(params: Params) -> Images:
    """The images that are prepared, or that the profile's source is known to have."""
    data = params.active.data
    if CLASSIFICATION.facts(params.profile).exists() and (found := read_facts(params.profile)).source == data.source:
        shapes, size = _shapes()
        train, val = (min(count, data.limit or count) for count in (found.train, found.val))
        counted = (train, val) == (found.train, found.val)
        return Images(train, val, len(found.classes), shapes, counted, size)
    known = source_class(data.source).known
    if known is None:
        raise Failure("nobody has counted these images yet; do that with: vgg-repro prepare")
    train, val, classes, size = known
    if "train" not in params.active.splits:
        train, size = 0, int(size * val / (train + val))
    train, val = (min(count, data.limit or count) for count in (train, val))
    return Images(train, val, classes, {SHAPE: val}, False, size)


def _shapes() -> tuple[dict[float, int], int]:
    """The shapes of the validation images, as far as they are on this machine, and the bytes of all shards."""
    try:
        val = Shards(CLASSIFICATION.shards, "val")
    except Failure:
        return {SHAPE: 1}, 0
    sides = np.sort(np.stack([val.heights, val.widths]), 0)
    found = Counter(np.round(sides[1] / sides[0], 2).tolist())
    return dict(found), sum(path.stat().st_size for path in CLASSIFICATION.shards.iterdir())


def _mode(stage: str) -> str:
    return stage.partition("@")[0]


def _training(params: Params, images: Images, forecast: StageForecast) -> Cost:
    from vgg.cost import training_bytes, training_flops, weights

    name = forecast.stage.partition("@")[2]
    run, profile = params.runs[name], params.active
    net, train, recipe = profile.net, profile.training, profile.recipes[run.recipe]
    if images.train < train.batch:
        raise Failure(f"{images.train} training images are fewer than one batch of {train.batch}: see train.batch")
    steps = images.train // train.batch * recipe.epochs
    built = _built(net, run.net, images.classes)
    checks = recipe.epochs * images.val * _forward(net, run.net, images.classes, net.crop, net.crop)
    flops = steps * train.batch * training_flops(built, net.crop, run.layers) + checks
    memory = training_bytes(built, net.crop, train.batch, train.precision == "bfloat16", run.layers)
    return Cost(forecast.stage, name, steps * train.batch, steps, flops, memory, 4 * weights(built), forecast.needs)


def _scoring(params: Params, images: Images, forecast: StageForecast) -> Cost:
    from vgg.cost import scoring_bytes

    mode, name = forecast.stage.split("@")
    run, net = params.runs[name], params.active.net
    scales = scales_of(run, mode)
    flops = memory = 0
    total = sum(images.shapes.values())
    for scale in scales:
        for ratio, count in images.shapes.items():
            height = net.pixels(scale)
            sides = (height, round(height * ratio)) if mode == "dense" else (net.crop, net.crop)
            flops += VIEWS[mode] * images.val * count * _forward(net, run.net, images.classes, *sides) // total
            batch = params.active.score.batch
            built = _built(net, run.net, images.classes)
            memory = max(memory, scoring_bytes(built, *sides, batch, params.active.score.precision == "bfloat16"))
    looked = images.val * len(scales)
    disk = 4 * looked * images.classes
    return Cost(forecast.stage, name, looked, looked * VIEWS[mode], flops, memory, disk, forecast.needs)


@cache
def _built(net: Net, name: str, classes: int) -> Any:
    """A net without memory for its weights."""
    import torch

    from vgg.nets import VGG

    with torch.device("meta"):
        return VGG(name, classes, net.crop, float(net.width_ratio), net.fc)


@cache
def _forward(net: Net, name: str, classes: int, height: int, width: int) -> int:
    from vgg.cost import forward_flops

    return forward_flops(_built(net, name, classes), height, width)
