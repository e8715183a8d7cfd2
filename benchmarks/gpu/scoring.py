"""Part 3: scoring with net D: dense at Q = 256, 384 and 512, and 150 crops, in bfloat16 and partly in float32.

All goes through vgg.score.Scorer.posteriors, from uint8 images that lie on the device to posteriors on the CPU; an
image is Q x 4/3 Q pixels. Dense is whole images and their flips; 150 crops are 50 at each of the three scales. A row is
held against what its FLOPs would take at the rate that training reaches, measured in the same process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpu.findings import Findings
from gpu.machine import MEAN, SHIFT, Size, flops, initial, matrix_rate, neat, timed, use
from gpu.training import Ours
from vgg.cost import forward_flops
from vgg.images import Rescaled
from vgg.normalise import Normalise
from vgg.score import VIEWS, Scorer

AIM = 85  # per cent of the rate that FLOPs and training's share give, for dense
PAPER, TINY = (256, 384, 512), (64, 96, 128)  # Q in pixels
BATCH = 64  # images, as params.yaml has it in the profile paper
SHAPES = 24  # other shapes, each met for the first time


@dataclass
class Row:
    """One way of scoring."""

    name: str
    mode: str
    scales: tuple[int, ...]
    precision: str


def run(size: Size, findings: Findings) -> None:
    """Measure training's rate, then all rows, then images of shapes that are new to cuDNN."""
    product, training = matrix_rate("bfloat16", size), trained(size)
    findings.say(f"Net D trains at {training / product:.0%} of the matrix rate ({neat(training / 1e12)} TFLOP/s).")
    table = findings.table(
        "scoring with net D", "precision", "images/s", "GFLOP an image", "TFLOP/s", "of training's rate"
    )
    worst = np.inf
    for row in rows(size):
        scorer = scorer_of(row.precision, size)
        rate, work = images_per_second(row, scorer, size), work_of(row, scorer)
        share = rate * work / training
        table.row(row.name, row.precision, neat(rate), neat(work / 1e9), neat(rate * work / 1e12), f"{share:.0%}")
        findings.figure(f"images_per_second {row.name}, {row.precision}", rate)
        if row.mode == "dense" and row.precision == "bfloat16":
            worst = min(worst, share)
    findings.aim("dense scoring, worst row, of the rate that training reaches", 100 * float(worst), AIM, unit=" %")
    say_new_shapes(size, findings)


def rows(size: Size) -> list[Row]:
    """Return all ways of scoring."""
    scales = TINY if size.smoke else PAPER
    dense = [Row(f"dense at Q = {scale}", "dense", (scale,), "bfloat16") for scale in scales]
    crops = Row(f"150 crops at Q = {', '.join(map(str, scales))}", "crops", scales, "bfloat16")
    return [*dense, crops, Row(f"dense at Q = {scales[1]}", "dense", scales[1:2], "float32")]


def trained(size: Size) -> float:
    """Return the FLOP/s at which net D is trained."""
    one = Ours("D", size)
    one.turn(2)
    steps = max(2, round(size.seconds / (timed(lambda: one.turn(3), size.device) / 3)))
    seconds = statistics.median(timed(lambda: one.turn(steps), size.device) for _ in range(size.rounds))
    return steps * size.batch / seconds * flops("D", size)


def scorer_of(precision: str, size: Size) -> Scorer:
    """Return a scorer of net D."""
    use(precision)
    normalise = Normalise(MEAN, SHIFT, 58.0).to(size.device)
    return Scorer(initial("D", size), normalise, size.crop, size.device, precision == "bfloat16")


def work_of(row: Row, scorer: Scorer) -> int:
    """Return the FLOP of one image."""
    crop, net = scorer.crop, scorer.net
    if row.mode == "crops":
        return 50 * len(row.scales) * forward_flops(net, crop, crop)
    return 2 * forward_flops(net, *shape(row.scales[0]))


def shape(scale: int) -> tuple[int, int]:
    """Return the height and width of an image of smallest side `scale`."""
    return scale, round(scale * 4 / 3)


def images_per_second(row: Row, scorer: Scorer, size: Size) -> float:
    """Return the median rate over the rounds."""
    torch.backends.cudnn.benchmark = row.mode == "crops"  # as stages/common.py
    pixels = [noise(BATCH, *shape(scale), size) for scale in row.scales]
    score(scorer, row.mode, pixels)
    times = max(1, round(size.seconds / 2 / timed(lambda: score(scorer, row.mode, pixels), size.device)))
    seconds = [timed(lambda: score(scorer, row.mode, pixels, times), size.device) for _ in range(size.rounds)]
    return times * len(pixels[0]) / statistics.median(seconds)


def noise(images: int, height: int, width: int, size: Size) -> Tensor:
    """Return images of noise on the device, in DALI's layout."""
    images = 2 if size.smoke else images
    return torch.randint(256, (images, height, width, 3), dtype=torch.uint8, device=size.device).permute(0, 3, 1, 2)


def score(scorer: Scorer, mode: str, pixels: list[Tensor], times: int = 1) -> None:
    """Compute posteriors of each scale's batch, so many times."""
    for one in pixels:
        count = len(one)
        batches = (Rescaled(one, np.arange(k * count, (k + 1) * count)) for k in range(times))
        scorer.posteriors(batches, times * count, VIEWS[mode])


def dense_work(size: Size) -> Callable[[], None]:
    """Return the dense scoring of one batch at the smallest Q in bfloat16."""
    scorer = scorer_of("bfloat16", size)
    torch.backends.cudnn.benchmark = False
    pixels = [noise(BATCH, *shape((TINY if size.smoke else PAPER)[0]), size)]
    return lambda: score(scorer, "dense", pixels)


def say_new_shapes(size: Size, findings: Findings) -> None:
    """Measure what an image of a new shape costs beyond its arithmetic: cuDNN plans each layer anew."""
    scorer = scorer_of("bfloat16", size)
    torch.backends.cudnn.benchmark = False
    scale = (TINY if size.smoke else PAPER)[0]
    images = [noise(1, scale, scale + 3 * k, size) for k in range(4 if size.smoke else SHAPES)]
    first, second = (timed(lambda: score(scorer, "dense", images), size.device) / len(images) for _ in range(2))
    findings.say(
        f"Dense at Q = {scale}, one image each of {len(images)} shapes: {1000 * first:.1f} ms an image when its shape "
        f"is new, {1000 * second:.1f} ms afterwards."
    )
    findings.figure("ms a new shape", 1000 * (first - second))
