"""Times the training stream against torchvision's loader, and prepare against a loop of Pillow's, on the same JPEGs.

Both are timed with each decoder.

The work is the same: S drawn from [256, 512], a 224 crop, a flip, the colours shifted, the mean subtracted, float32.
Rates are images a CPU-second, the contestants taking turns; the ratios are medians over the rounds. Prints Markdown
for RESULTS.md; the last line is the training stream's ratio. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from statistics import median

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.measuring import PREPARE  # noqa: E402
from pipeline.datasets.facts import Statistics, read_statistics  # noqa: E402
from pipeline.datasets.shards import Shards  # noqa: E402
from pipeline.experiment.params import Params  # noqa: E402
from pipeline.experiment.paths import CLASSIFICATION  # noqa: E402
from pipeline.experiment.validation import load  # noqa: E402
from pipeline.system.decoders import DALI, PILLOW  # noqa: E402
from stages.common import normaliser  # noqa: E402
from tests.support.images import jpeg, photograph  # noqa: E402
from vgg.images import Decoder  # noqa: E402
from vgg.stream import StreamConfig, training_stream  # noqa: E402

HEIGHT, WIDTH, CROP, SCALES, BATCH = 375, 500, 224, (256, 512), 64
OURS, THEIRS = "our stream, by DALI", "torchvision: ImageFolder, Pillow, v2, DataLoader"
BARE = "bare decoding of whole images by DALI"
DISTINCT = 256  # photographs; more files are copies of them


def main() -> None:
    """Make the JPEGs, time all contestants in turn, print the tables and the ratio."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=8192, help="files for prepare")
    arguments.add_argument("--steps", type=int, default=12, help=f"batches of {BATCH} a round")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="that share prepare")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kilobytes = make_jpegs(Path("images"), given.images)
        print(
            f"{given.images} JPEGs of {WIDTH} x {HEIGHT}, {kilobytes:.0f} KB on average; {given.processes} processes.\n"
        )
        params = own_params(given.processes)
        time_prepare(given.rounds, given.processes)
        subprocess.run(PREPARE, check=True, stdout=subprocess.DEVNULL)
        time_loading(params, read_statistics(), given.steps, given.rounds)


def make_jpegs(root: Path, images: int) -> float:
    """Write `images` photograph-like JPEGs in two classes, one more for validation; their mean size in KB."""
    random = np.random.default_rng(0)
    encoded = [jpeg(photograph(random, HEIGHT, WIDTH), int(random.integers(88, 97))) for _ in range(DISTINCT)]
    for number in range(images):
        folder = root / "train" / f"class-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.jpg").write_bytes(encoded[number % DISTINCT])
    (root / "val" / "class-0").mkdir(parents=True)
    (root / "val" / "class-0" / "one.jpg").write_bytes(encoded[0])
    return float(np.mean([len(one) for one in encoded])) / 1e3


def own_params(processes: int) -> Params:
    """The repository's parameters at the paper's sizes, for the folder `images`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    profile = values["profiles"][values["profile"]]
    profile["data"] |= {"source": "imagefolder", "path": "images"}
    profile["prepare"] |= {"shared": "keep", "processes": processes, "shard_images": 1024}
    profile["net"] |= {"size_ratio": 1, "input_scale": 1.0}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return load(Path("params.yaml"))


def cpu_seconds() -> float:
    """Of this process and of those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """The wall and CPU seconds of `work`."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


# Prepare


def time_prepare(rounds: int, processes: int) -> None:
    """Prepare against the loop, each from the start of its program to its end."""
    images = sum(1 for path in Path("images").rglob("*.jpg"))
    loop = [sys.executable, str(ROOT / "benchmarks" / "pillow_loop.py"), "images", "loop", str(processes)]
    ours, others, theirs = [], [], []
    for number in range(rounds):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VGG_REPRO_SHARDS": f"shards-{number}"}
        theirs.append(timed(lambda: subprocess.run(loop, env=environment, check=True)))  # noqa: B023
        for decoder, times in ((PILLOW, others), (DALI, ours)):
            choose(decoder)
            times.append(timed(lambda: subprocess.run(PREPARE, env=environment, check=True, stdout=subprocess.DEVNULL)))  # noqa: B023
    rows = [("`vgg-repro prepare`, by DALI", ours), ("the same by simplejpeg", others), ("a loop of Pillow's", theirs)]
    print("| prepare | images a second | images a CPU-second |\n|:--|--:|--:|")
    for name, times in rows:
        walls, cpus = zip(*times, strict=True)
        print(f"| {name} | {images / median(walls):.0f} | {images / median(cpus):.0f} |")
    wall, cpu = (median(b[k] / a[k] for a, b in zip(ours, theirs, strict=True)) for k in (0, 1))
    print(f"\nprepare over the loop: {wall:.2f} by wall, {cpu:.2f} by CPU-seconds\n")


def choose(decoder: str) -> None:
    """Write the decoder to params.yaml."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**values, "decoder": decoder}))


# The training stream


def time_loading(params: Params, statistics: Statistics, steps: int, rounds: int) -> None:
    """The stream and bare decoding by both decoders, and torchvision twice, in turns."""
    mean = torch.tensor(statistics.mean_rgb)
    components = normaliser(params, statistics).components
    streams: dict[str, Iterator[object]] = {
        OURS: our_batches(params, statistics, DALI),
        "our stream, by simplejpeg and Pillow": our_batches(params, statistics, PILLOW),
        THEIRS: chain.from_iterable(repeat(their_loader(mean, components))),
        "the same with v2 on tensors": chain.from_iterable(repeat(their_loader(mean, components, tensors=True))),
        BARE: decoded(DALI),
        "the same by simplejpeg": decoded(PILLOW),
    }  # without end, so that what one has in store when a round ends is there when the next begins
    rates: dict[str, list[float]] = {name: [] for name in streams}
    for number in range(rounds + 1):
        for name, batches in streams.items():
            rate = steps * BATCH / timed(lambda: exhaust(batches, steps))[1]  # noqa: B023
            if number:  # the first round warms up
                rates[name].append(rate)
    print("| training batches | images a CPU-second | of the bare decode rate |\n|:--|--:|--:|")
    for name, found in rates.items():
        share = median(a / b for a, b in zip(found, rates[BARE], strict=True))
        print(f"| {name} | {median(found):.0f} | {share:.0%} |")
    ratio = median(a / b for a, b in zip(rates[OURS], rates[THEIRS], strict=True))
    print(f"\nratio: {ratio:.2f}")


def exhaust(batches: Iterator[object], steps: int) -> None:
    """Take so many batches."""
    assert sum(1 for _ in islice(batches, steps)) == steps


def our_batches(params: Params, statistics: Statistics, decoder: str) -> Iterator[Tensor]:
    """Batches (64, 3, 224, 224) as training has them, float32 with the mean subtracted and the colours shifted."""
    normalise = normaliser(params, statistics)
    images = Shards(CLASSIFICATION.shards, "train")
    for batch in training_stream(images, StreamConfig(0, BATCH, CROP, SCALES), decoder=decoder):
        yield normalise(batch.pixels, batch.colour)


def their_loader(mean: Tensor, components: Tensor, tensors: bool = False) -> DataLoader[tuple[Tensor, Tensor]]:
    """The usual recipe; in this process, which spares it the way between processes."""
    shortest = v2.RandomShortestSize(list(range(SCALES[0], SCALES[1] + 1)), antialias=True)
    shape = [shortest, v2.RandomCrop(CROP), v2.RandomHorizontalFlip()]
    steps = [v2.ToImage(), *shape] if tensors else [*shape, v2.ToImage()]
    shift = v2.Lambda(lambda pixels: pixels + (torch.randn(3) @ components)[:, None, None])
    colours = [v2.ToDtype(torch.float32), v2.Normalize(mean.tolist(), [1.0, 1.0, 1.0]), shift]
    return DataLoader(ImageFolder("images/train", v2.Compose([*steps, *colours])), BATCH, shuffle=True, drop_last=True)


def decoded(name: str) -> Iterator[object]:
    """Batches of images decoded whole, and nothing else."""
    decoder = Decoder(BATCH, decoder=name)
    files = sorted(Path("images/train").rglob("*.jpg"))
    for first in cycle(range(0, len(files) - BATCH + 1, BATCH)):
        yield decoder([np.frombuffer(path.read_bytes(), np.uint8) for path in files[first : first + BATCH]])


if __name__ == "__main__":
    main()
