"""Times training in 1, 2 and 4 processes: the same net and the same whole batch, shared among them (section 4.5).

Where there are several GPUs, a GPU a process: the full net D, batches of 256, bfloat16, compiled. Else on CPU cores,
one thread a process: a narrow D, batches of 64, float32, gradients exchanged by gloo. Processes are started and find
each other by stages/distributed.py, gradients are averaged by vgg.distributed and steps are vgg.fit's, as in
`vgg-repro train`; images lie ready in each. Numbers of processes take turns; speed-ups are medians over the rounds.
Prints Markdown for RESULTS.md. About three minutes on two idle cores; `--smoke` takes half a minute, and its figures
say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import torch
from gpu.machine import MEAN, RECIPE, SHIFT, Size, describe, full, initial, random_batch, use
from torch import nn

from stages.distributed import launch, team
from vgg.distributed import Ranks, data_parallel
from vgg.fit import Callbacks, State, StepConfig, fit, optimiser
from vgg.gpu import compiled, parts_that_fit
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.stream import Batch

PAPER = 3.75  # section 4.5: the speed-up on four GPUs
CPU = torch.device("cpu")
NARROW = Size(CPU, 64, 96, 1 / 8, 256, (), 0.0, 3, 0)  # as the profile mini has it


@dataclass(frozen=True)
class Work:
    """What each process is told: a round is `epochs` of so many `steps`, the first to warm up."""

    size: Size
    steps: int
    epochs: int


def main() -> None:
    """Train in so many processes, by turns; print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--cpu", action="store_true", help="on CPU cores, whatever GPUs there are")
    arguments.add_argument("--smoke", action="store_true")
    given = arguments.parse_args()
    gpus = 0 if given.cpu or given.smoke else torch.cuda.device_count()
    units = gpus if gpus > 1 else len(os.sched_getaffinity(0))
    work = Work(full(), 30, 4) if gpus > 1 else Work(NARROW, 6, 4)
    counts, rounds = sorted({1, *given.processes}), given.rounds
    if gpus > 1:
        counts = [count for count in counts if count <= gpus]  # each has one of its own
    if given.smoke:
        print("Smoke run: figures mean nothing.\n")
        work, counts, rounds = Work(replace(NARROW, batch=8, crop=32), 2, 2), [1, 2], 1
    print(f"{describe(work.size.device)}\n", flush=True)
    rates: Rates = {count: [] for count in counts}
    for _ in range(rounds):
        for count, found in rates.items():
            found.append(rate(count, work))
    print_rates(rates, work, units)


Rates = dict[int, list[tuple[float, float]]]  # by processes and round: images a second, images a CPU-second


def rate(count: int, work: Work) -> tuple[float, float]:
    """What `count` processes do together, in processes of their own each time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rates.json"
        launch(count, "scaling", train, str(file), work)
        rates, seconds = json.loads(file.read_text())
        return statistics.median(rates[1:]), work.steps * (work.epochs - 1) * work.size.batch / seconds


def train(file: str, work: Work) -> None:
    """One of the processes; the first one writes what came out."""
    size = work.size
    gpu = size.device.type == "cuda"
    where = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else CPU
    torch.set_num_threads(1)
    if gpu:
        torch.cuda.set_device(where)
    torch.backends.cudnn.benchmark = True
    use("bfloat16")
    with team(where) as ranks:
        state, cpu = trained(replace(size, device=where), work, ranks)
        seconds = ranks.summed(torch.tensor(cpu, device=where)).item()
        if ranks.first:
            Path(file).write_text(json.dumps([[row.images_per_second for row in state.rows], seconds]))


def trained(size: Size, work: Work, ranks: Ranks) -> tuple[State, float]:
    """The net trained on this process's part of one batch, as stages/trainer.py does it; CPU-seconds of it, of all
    epochs but the first.
    """
    net = initial("D", size)
    recipe, state = replace(RECIPE, epochs=work.epochs), State(learning_rate=RECIPE.learning_rate)
    sgd, bfloat16 = optimiser(net, recipe), size.device.type == "cuda"
    model, parts = made(net, size, bfloat16, ranks)
    moments: list[float] = []
    errors = lambda: (100.0 - state.step / 1e9, 100.0)  # never a plateau
    hooks = Callbacks(errors, lambda *_: None, lambda _: moments.append(time.process_time()))
    how = StepConfig(size.batch, size.device, bfloat16, parts, ranks)
    normalise = Normalise(MEAN, SHIFT, 58.0).to(size.device)
    fit(model, sgd, repeat(own_part(size, ranks)), normalise, recipe, state, work.steps, hooks, how)
    return state, moments[-1] - moments[0]


def made(net: VGG, size: Size, bfloat16: bool, ranks: Ranks) -> tuple[nn.Module, int]:
    """The net as it is trained, and in how many parts, as stages/trainer.py finds out."""
    model = data_parallel(net, size.device, ranks)
    if size.device.type != "cuda":
        return model, 1
    images = -(-size.batch // ranks.size)
    parts = ranks.maximum(parts_that_fit(net, images, size.crop, bfloat16), size.device)
    return compiled(model, net, -(-images // parts), size.crop, bfloat16, ranks, print), parts


def own_part(size: Size, ranks: Ranks) -> Batch:
    """This process's images of a whole batch of noise, which is the same in all."""
    torch.manual_seed(0)
    return Batch(*(values[ranks.rank :: ranks.size] for values in random_batch(size)))


def print_rates(rates: Rates, work: Work, units: int) -> None:
    """A row a number of processes; on cores that others use too, CPU-seconds say what sharing the work costs."""
    size, gpu = work.size, work.size.device.type == "cuda"
    net = f"net D at {size.width:g} of its width, crops of {size.crop} pixels, batches of {size.batch} in all"
    print(f"{units} {'GPUs' if gpu else 'cores, one thread a process'}; {net}; medians of {len(rates[1])} rounds.\n")
    print(
        f"| processes | images/s | lowest, highest | speed-up | efficiency |{'' if gpu else ' images a CPU-second |'}"
    )
    print(f"|--:|--:|--:|--:|--:|{'' if gpu else '--:|'}")
    gained = 1.0
    for count, found in rates.items():
        speeds, per_cpu = zip(*found, strict=True)
        gained = statistics.median(many / one for many, (one, _) in zip(speeds, rates[1], strict=True))
        row = [count, f"{statistics.median(speeds):,.0f}", f"{min(speeds):,.0f}, {max(speeds):,.0f}", f"{gained:.2f}"]
        row += [f"{gained / count:.0%}"] + [f"{statistics.median(per_cpu):,.0f}"] * (not gpu)
        print(f"| {' | '.join(map(str, row))} |")
    print()
    if max(rates) > units:
        print(f"There are {units} cores: more processes than that share them, and cannot be faster than {units}.")
    print(f"speed-up of {max(rates)}: {gained:.2f} (the paper's, four GPUs: {PAPER})")


if __name__ == "__main__":
    main()
