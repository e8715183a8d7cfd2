"""Times scoring with net D on one GPU: dense at Q = 256, 384 and 512, and 150 crops, in bfloat16 and in float32.

All goes through vgg.score.Scorer.posteriors, from uint8 images that lie on the GPU to posteriors on the CPU; an image
is Q x 4/3 Q pixels. Dense is whole images and their flips; 150 crops are 50 at each of the three scales. Each row is at
the best of some batch sizes; rates are medians over rounds in turns. A row is held against what its FLOPs would take at
the share of the matrix rate that training reaches, measured in the same run by gpu_training.py. Prints Markdown for
RESULTS.md; the last line is the worst dense row's. Needs torch and torchvision alone. Minutes on a GPU;
`--smoke` runs all of it on a CPU with tiny nets in half a minute, and its figures say nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from gpu_training import CLASSES, MEAN, SHIFT, Ours, Size, begin, flops, initial, matrix_rate, neat, timed, use
from torch import Tensor

from vgg.cost import forward_flops
from vgg.images import Rescaled
from vgg.normalise import Normalise
from vgg.score import VIEWS, Scorer

AIM = 0.85  # of the rate that FLOPs and training's share give, for dense
PAPER, TINY = (256, 384, 512), (64, 96, 128)  # Q in pixels
BATCHES = {"dense": (8, 16, 32, 64), "crops": (32, 64, 128)}


@dataclass
class Row:
    """One way of scoring, and what it was found to be worth."""

    mode: str
    scales: tuple[int, ...]
    scorer: Scorer
    precision: str
    searched: bool  # whether cudnn tries its algorithms for each shape, as it does for crops (stages/common.py)
    batch: int = 0
    rates: list[float] = field(default_factory=list)  # images a second

    @property
    def name(self) -> str:
        """What it is called in the table."""
        if self.mode == "crops":
            return f"150 crops at Q = {', '.join(map(str, self.scales))}"
        return f"dense at Q = {self.scales[0]}"

    @property
    def flops(self) -> int:
        """Of one image."""
        crop, net = self.scorer.crop, self.scorer.net
        if self.mode == "crops":
            return 50 * len(self.scales) * forward_flops(net, crop, crop)
        return 2 * forward_flops(net, *shape(self.scales[0]))


def main() -> None:
    """Measure training's share, then all rows in turns; print the table and the worst dense row."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument(
        "--precisions", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "tf32", "float32"]
    )
    # what cudnn has once chosen for a shape it keeps until the process ends, so that both are not measured in one
    arguments.add_argument("--search", action="store_true", help="have cudnn try its algorithms in dense too")
    arguments.add_argument("--smoke", action="store_true")
    given = arguments.parse_args()
    size = begin(given.smoke, rounds=given.rounds)
    expected = {precision: trained(precision, size) for precision in given.precisions}
    found = [row for precision in given.precisions for row in scoring_rows(precision, given.search, size)]
    for row in found:
        choose(row, size)
    for _ in range(size.rounds):
        for row in found:
            row.rates.append(rate(row, row.batch, size))
    print_rows(found, expected, size)


def trained(precision: str, size: Size) -> float:
    """The FLOP a second at which net D is trained; said, with the matrix rate beside it."""
    product, one = matrix_rate(precision, size), Ours("D", size, precision)
    one.turn(2)
    steps = max(2, round(size.seconds / (timed(lambda: one.turn(3), size.device) / 3)))
    seconds = statistics.median(timed(lambda: one.turn(steps), size.device) for _ in range(size.rounds))
    reached = steps * size.batch / seconds * flops("D", size)
    print(f"{one.name}{one.note}: trained at {reached / product:.0%} of the matrix rate.", flush=True)
    return reached


def scoring_rows(precision: str, search: bool, size: Size) -> Iterator[Row]:
    """All ways of scoring in one precision, by one net."""
    normalise = Normalise(MEAN, SHIFT, 58.0).to(size.device)
    scorer = Scorer(initial("D", size), normalise, size.crop, size.device, precision == "bfloat16")
    scales = TINY if size.smoke else PAPER
    for scale in scales:
        yield Row("dense", (scale,), scorer, precision, search)
    yield Row("crops", scales, scorer, precision, searched=True)


def shape(scale: int) -> tuple[int, int]:
    """The height and width of an image of smallest side `scale`."""
    return scale, round(scale * 4 / 3)


def choose(row: Row, size: Size) -> None:
    """Find the row's best batch size; each is tried twice, for the first time is the slower one."""
    tried = (1, 2) if size.smoke else BATCHES[row.mode]
    best = 0.0
    for batch in tried:
        found = max(rate(row, batch, size) for _ in range(2))
        if found > best:
            best, row.batch = found, batch
    print(f"{row.name}, {row.precision}: batches of {row.batch}", flush=True)


def rate(row: Row, batch: int, size: Size) -> float:
    """Images a second of the row in batches of so many."""
    use(row.precision)
    torch.backends.cudnn.benchmark = row.searched
    row.scorer.room = np.inf  # what did not fit in another row may fit in this one
    pixels = [torch.randint(256, (batch, 3, *shape(q)), dtype=torch.uint8, device=size.device) for q in row.scales]
    pixels = [one.contiguous(memory_format=torch.channels_last) for one in pixels]  # as DALI has it
    times = 1
    while (seconds := timed(lambda: score(row, pixels, times), size.device)) < size.seconds / 2:  # noqa: B023
        times *= 2
    return times * batch / seconds


def score(row: Row, pixels: list[Tensor], times: int) -> None:
    """Posteriors of each scale's batch, so many times over."""
    for one in pixels:
        count = len(one)
        batches = (Rescaled(one, np.arange(k * count, (k + 1) * count)) for k in range(times))
        row.scorer.posteriors(batches, times * count, VIEWS[row.mode])


def print_rows(found: list[Row], expected: dict[str, float], size: Size) -> None:
    """The table, and the worst of the dense rows as they are used."""
    searched = ", cudnn.benchmark in dense too" * found[0].searched
    print(f"\nNet D, {CLASSES} classes; medians of {size.rounds} rounds{searched}.\n")
    print("| scoring | precision | batch | images/s | GFLOP an image | TFLOP/s | of training's rate |")
    print("|:--|:--|--:|--:|--:|--:|--:|")
    worst = dict.fromkeys(expected, np.inf)
    for row in found:
        images = statistics.median(row.rates)
        reached = images * row.flops
        share = reached / expected[row.precision]
        if row.mode == "dense":
            worst[row.precision] = min(worst[row.precision], share)
        print(
            f"| {row.name} | {row.precision} | {row.batch} | {neat(images)} | {neat(row.flops / 1e9)}",
            end=" ",
        )
        print(f"| {neat(reached / 1e12)} | {share:.0%} |")
    said = ", ".join(f"{share:.0%} in {precision}" for precision, share in worst.items())
    print(f"\n{'A smoke run, which means nothing. ' if size.smoke else ''}The aim for dense is {AIM:.0%} or more.")
    print(f"worst dense row: {said}")


if __name__ == "__main__":
    main()
