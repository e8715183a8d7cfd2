"""The speed of training and scoring on this machine: a few seconds per net, for the plan. Not a stage of the graph."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import numpy as np
import torch
from torch import nn

from pipeline.datasets.facts import Statistics, read_statistics
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.orchestration.cost_plan import REFERENCE, CostPlan
from pipeline.system.decoders import decoder_in_use
from pipeline.system.devices import check_choice
from stages.common import build, device, normaliser, open_shards
from vgg.cost import forward_flops, training_flops
from vgg.distributed import ALONE
from vgg.fit import StepConfig, TrainingSchedule, gradients, optimiser
from vgg.gpu import compiled, parts_that_fit
from vgg.images import Rescaled
from vgg.initialise import randomise
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.score import Scorer, dense
from vgg.stream import Batch, StreamConfig, training_stream

SECONDS = 2.0  # measured for each net, after a first step
STEP = 3e11  # most operations of one step on a CPU, where a few images give the same rate as 256
LONGER = 4 / 3


def training_rates(params: Params, plan: CostPlan) -> tuple[dict[str, float], bool]:
    """Return images per second in training, by net, and True if they were real images, not random pixels."""
    nets = sorted({str(params.all_runs[cost.name].net) for cost in plan.training})
    statistics = _statistics(params)
    return {net: _training_rate(params, net, plan.images.classes, statistics) for net in nets}, statistics is not None


def scoring_rate(params: Params, classes: int) -> float:
    """Return the operations per second of a dense forward pass of net D at Q = 256."""
    score, size = params.active.score, params.active.net
    check_choice(score.device, size.full_size)
    where = device(score.device, score.threads, score.precision)
    net = build(params, REFERENCE, classes).to(where).to(memory_format=torch.channels_last)
    height = size.pixels(256)
    width = round(height * LONGER)
    flops = 2 * forward_flops(net, height, width)
    batch = _batch(score.batch, flops, where)
    scorer = Scorer(net, lambda pixels: pixels.float(), size.crop, where, score.precision == "bfloat16", score.mean)
    pixels = torch.zeros((batch, 3, height, width), dtype=torch.uint8, device=where)

    def step() -> None:
        scorer.posteriors([Rescaled(pixels, np.arange(batch))], batch, dense)

    return batch * flops / _seconds(step, where)


def _statistics(params: Params) -> Statistics | None:
    """Return the statistics of the prepared images if those are on this machine, else None."""
    try:
        statistics = read_statistics()
        open_shards(params, "train", statistics)
        return statistics
    except Failure:
        return None


def _training_rate(params: Params, name: str, classes: int, statistics: Statistics | None) -> float:
    train, size = params.active.training, params.active.net
    where = device(train.device, train.threads, train.precision)
    net = build(params, name, classes).to(where)
    randomise(net, size.init, size.std, size.last_std, train.seed)
    net.to(memory_format=torch.channels_last)
    sgd = optimiser(net, TrainingSchedule(1e-9, 1, train.momentum, train.weight_decay, 0, 1, 0, 0))
    batch = _batch(train.batch, training_flops(net, size.crop), where)
    batches = _batches(params, batch, statistics, where)
    normalise = normaliser(params, statistics) if statistics else Normalise(torch.zeros(3), torch.zeros(3, 3))
    bfloat16 = train.precision == "bfloat16"
    model, parts = _model(net, batch, size.crop, bfloat16, where)
    normalise, config = normalise.to(where), StepConfig(batch, where, bfloat16, parts)
    torch.backends.cudnn.benchmark = True  # as in training

    def step() -> None:
        sgd.zero_grad()
        gradients(model, next(batches), normalise, config)
        sgd.step()

    model.train()
    return batch / _seconds(step, where)


def _model(net: VGG, batch: int, crop: int, bfloat16: bool, where: torch.device) -> tuple[nn.Module, int]:
    """Return the module that training would use, compiled on a GPU, and the number of parts of a batch."""
    if where.type != "cuda":
        return net, 1
    torch.compiler.reset()  # the nets share their code, which torch compiles anew only a few times
    parts = parts_that_fit(net, batch, crop, bfloat16)
    return compiled(net, net, -(-batch // parts), crop, bfloat16, ALONE, partial(print, file=sys.stderr)), parts


def _batches(params: Params, batch: int, statistics: Statistics | None, where: torch.device) -> Iterator[Batch]:
    """Return the training batches: of the prepared images, or one batch of random pixels repeated without end."""
    train, size = params.active.training, params.active.net
    if statistics:
        plan = StreamConfig(train.seed, batch, size.crop, (size.pixels(256), size.pixels(256)))
        images, decoder = open_shards(params, "train", statistics), decoder_in_use(params.decoder)
        return training_stream(images, plan, threads=train.threads, gpu=where.index, decoder=decoder)
    pixels = torch.randint(256, (batch, 3, size.crop, size.crop), dtype=torch.uint8, device=where)
    zeros, keys = torch.zeros(batch, dtype=torch.int64), torch.randint(2**62, (batch, 2))
    return repeat(Batch(pixels, zeros, torch.zeros(batch, 3), keys, zeros.numpy()))


def _batch(batch: int, flops: int, where: torch.device) -> int:
    return batch if where.type == "cuda" else max(1, min(batch, int(STEP / flops)))


def _seconds(step: Callable[[], None], where: torch.device) -> float:
    """Return the seconds that a step takes: the mean over SECONDS, after a first step."""

    def finish() -> None:
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    step()
    finish()
    steps, started = 0, time.perf_counter()
    while not steps or time.perf_counter() - started < SECONDS:
        step()
        steps += 1
    finish()
    return (time.perf_counter() - started) / steps
