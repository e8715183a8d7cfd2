"""Times dense scoring on a CPU against the bare forward passes that it contains, at the size of the mini profile.

The scoring pass is that of the stage: drawn images are decoded, rescaled to Q, normalised, and scored with their flips.
The bare passes are of ready tensors of the same shapes and number, each shape at the best of some batch sizes. Both
are in one process with one thread, in turns; figures are medians over the rounds. `share` is by CPU seconds of the
process. `share, own thread` is by those of the thread that scores: DALI decodes and rescales in a thread of its own, so
that this is the share by wall time where a second core is idle. Prints Markdown for RESULTS.md; the last line has the
totals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pipeline.datasets.sources.digits import Digits  # noqa: E402
from pipeline.experiment.params import Params  # noqa: E402
from pipeline.experiment.validation import load  # noqa: E402
from pipeline.system.decoders import decoder_in_use  # noqa: E402
from stages.common import build, device  # noqa: E402
from tests.support.images import Pictures  # noqa: E402
from vgg.draws import rescaled  # noqa: E402
from vgg.images import rescaled_batches  # noqa: E402
from vgg.initialise import randomise  # noqa: E402
from vgg.nets import VGG  # noqa: E402
from vgg.normalise import Normalise  # noqa: E402
from vgg.score import Scorer, dense, whole_cells  # noqa: E402

BATCHES = (16, 32, 64, 128)  # of the bare passes
CLASSES = 10
PASSES = 4  # bare forward passes that are timed for each shape and batch size


class Seconds(NamedTuple):
    """The seconds of one measurement."""

    wall: float
    cpu: float  # of the process
    thread: float  # CPU seconds of this thread


def main() -> None:
    """Measure each net at each Q in turns, and print the table and the totals."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--nets", nargs="+", default=["A", "D"])
    arguments.add_argument("--scales", nargs="+", type=int, default=[224, 256, 384, 512])
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    params = load(ROOT / "params.yaml")
    score = params.active.score
    device("cpu", 1, score.precision)
    images = drawn(params, given.images)
    print(f"{given.images} images, batches of {score.batch}, {score.precision}, remainder {score.remainder}.\n")
    print("| net | Q | images/s | scoring, CPU s | bare, CPU s | share | scoring, own thread, s | share, own thread |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    rows = [row(params, images, net, scale, given.rounds) for net in given.nets for scale in given.scales]
    scored, own, bare = (sum(values) for values in zip(*rows, strict=True))
    print(f"\nshare of all rows: {bare / scored:.0%} by CPU seconds, {bare / own:.0%} by those of the scoring thread")


def drawn(params: Params, count: int) -> Pictures:
    """So many images of the embedded source, encoded, in memory."""
    source = Digits.of(params.active)
    entries = [entry for split in source.listing().entries.values() for entry in split][:count]
    return Pictures([source.read(entry).data for entry in entries], [entry.label for entry in entries])


def row(params: Params, images: Pictures, name: str, scale: int, rounds: int) -> tuple[float, float, float]:
    """Measure and print one row; its CPU seconds of scoring, of the scoring thread, and of the bare passes."""
    net, size = build(params, name, CLASSES), params.active.net
    randomise(net, size.init, size.std, size.last_std, 0)
    net.eval().to(memory_format=torch.channels_last)
    shapes = seen(params, images, scale)
    best = {shape: min(BATCHES, key=lambda batch: bare_pass(params, net, shape, batch).cpu) for shape in shapes}
    scored, bare = list[Seconds](), list[float]()
    for _ in range(rounds):
        scored.append(timed(lambda: score_all(params, net, images, scale)))
        passes = [2 * count * bare_pass(params, net, shape, best[shape]).cpu for shape, count in shapes.items()]
        bare.append(sum(passes))
    wall, cpu, own = (median(values) for values in zip(*scored, strict=True))
    alone = median(bare)
    print(
        f"| {name} | {scale} | {len(images) / wall:,.0f} | {cpu:.2f} | {alone:.2f} | {alone / cpu:.0%} "
        f"| {own:.2f} | {alone / own:.0%} |",
        flush=True,
    )
    return cpu, own, alone


def seen(params: Params, images: Pictures, scale: int) -> Counter[tuple[int, int]]:
    """The heights and widths that the net sees of the images, and how many images have them."""
    sides = np.stack(rescaled(images.heights, images.widths, params.active.net.pixels(scale)), 1)
    if params.active.score.remainder == "even":
        sides = np.vectorize(lambda side: whole_cells(side, params.active.net.crop))(sides)
    return Counter((height, width) for height, width in sides.tolist())


def score_all(params: Params, net: VGG, images: Pictures, scale: int) -> None:
    """Score all images densely, as the stage does."""
    profile = params.active
    normalise = Normalise(torch.tensor([128.0, 128.0, 128.0]), torch.zeros(3, 3), profile.net.input_scale)
    scorer = Scorer(
        net, normalise, profile.net.crop, torch.device("cpu"), profile.score.precision == "bfloat16",
        profile.score.mean, remainder=profile.score.remainder,
    )  # fmt: skip
    batches = rescaled_batches(
        images, profile.net.pixels(scale), profile.score.batch, resize=profile.score.resize,
        decoder=decoder_in_use(params.decoder),
    )  # fmt: skip
    scorer.posteriors(batches, len(images), dense)


@torch.inference_mode()
def bare_pass(params: Params, net: VGG, shape: tuple[int, int], batch: int) -> Seconds:
    """The time per image of forward passes of `batch` ready tensors, after a first one."""
    score = params.active.score
    kind = torch.bfloat16 if score.precision == "bfloat16" else torch.float32
    ready = torch.randn(batch, 3, *shape).to(kind).contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        for _ in range(PASSES):
            net(ready, ceil=score.remainder == "ceil")

    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        net(ready, ceil=score.remainder == "ceil")
        times = timed(forward)
    return Seconds(*(seconds / PASSES / batch for seconds in times))


def timed(work: Callable[[], object]) -> Seconds:
    """The seconds that `work` takes."""
    wall, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu, time.thread_time() - thread)


if __name__ == "__main__":
    main()
