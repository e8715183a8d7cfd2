"""Times training on one GPU: nets A, D and E as this project trains them, beside torchvision's plain loop of VGG-16.

Ours are steps of vgg.fit.fit itself: normalising, dropout, loss, fused SGD and the loss's way to the CPU included. The
plain loop is torchvision's vgg16 as its reference recipe runs it, in bfloat16: no channels_last, no compiled code, SGD
with momentum, cross entropy, input that is normalised already. The contestants take turns; rates are medians over the
rounds, synchronised at both ends of each. Then net D on the real stream from JPEGs, where DALI is there. Shares are of
what the machine's own matrix products reach. Prints Markdown for RESULTS.md; the last line is the ratio of the two on
VGG-16. Needs torch and torchvision alone, DALI and tests/support/images.py's needs for the stream. Minutes on a GPU;
`--smoke` runs all of it on a CPU with tiny nets in half a minute, and its figures say nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from vgg.cost import training_flops  # noqa: E402
from vgg.distributed import ALONE  # noqa: E402
from vgg.fit import Callbacks, State, StepConfig, TrainingSchedule, fit, optimiser  # noqa: E402
from vgg.gpu import compiled, parts_that_fit  # noqa: E402
from vgg.images import Images  # noqa: E402
from vgg.initialise import randomise  # noqa: E402
from vgg.nets import DROPOUTS, VGG  # noqa: E402
from vgg.normalise import Normalise  # noqa: E402
from vgg.stream import Batch, StreamConfig, training_stream  # noqa: E402

CLASSES = 1000
GFLOP = {"A": 45.7, "D": 92.8, "E": 117.8}  # of one training image, worked out by hand from Table 1
# a rate that noise cannot blow up
RECIPE = TrainingSchedule(1e-4, 1, 0.9, 5e-4, drops=0, patience=1, first_drop=0, tail=0)
MEAN, SHIFT = torch.tensor([123.7, 116.8, 103.9]), 3.0 * torch.eye(3)
AIM_SHARE, AIM_RATIO = 0.5, 1.5
HEIGHT, WIDTH, SCALES, DISTINCT = 375, 500, (256, 512), 256  # of the photographs, in pixels
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "tf32": torch.float32}


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    device: torch.device
    batch: int
    crop: int  # pixels
    width: float
    fc: int
    sides: tuple[int, ...]  # of the square matrices
    seconds: float  # a turn
    rounds: int
    photographs: int

    @property
    def smoke(self) -> bool:
        """Whether its figures mean nothing."""
        return self.device.type == "cpu"


SMOKE = Size(torch.device("cpu"), 4, 64, 1 / 16, 64, (128, 256), 0.1, 1, 8)


def full(batch: int = 256, rounds: int = 5) -> Size:
    """The paper's, on the first GPU. SystemExit where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here; --smoke runs the whole script on a CPU")
    return Size(torch.device("cuda", 0), batch, 224, 1.0, 4096, (4096, 8192, 12288, 16384), 2.0, rounds, 4096)


def main() -> None:
    """Measure the matrix products, all contestants in turn and the stream; print tables and the ratio."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--nets", nargs="+", default=list(GFLOP), choices=list(GFLOP))
    arguments.add_argument("--batch", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--profile", action="store_true", help="print D's time by kernel, and nothing else")
    arguments.add_argument("--smoke", action="store_true")
    given = arguments.parse_args()
    size = begin(given.smoke, given.batch, given.rounds)
    check_flops()
    if given.profile or size.smoke:
        print_profile(Ours("D", size), 5)
    if given.profile:
        return
    products = {precision: matrix_rate(precision, size) for precision in PRECISIONS}
    print_products(products)
    contestants: list[Contestant] = [Ours(net, size) for net in given.nets]
    if "D" in given.nets:
        contestants += [
            Ours("D", size, "bfloat16", compiles=False),
            Ours("D", size, "float32"),
            Ours("D", size, "tf32"),
        ]
        contestants.append(Theirs(size))
    rates = in_turns(contestants, size)
    print_rates(rates, products, size)
    if "D" in given.nets:
        print_stream(contestants[given.nets.index("D")], size)
        print_verdict(rates, products["bfloat16"], size)


def begin(smoke: bool, batch: int = 256, rounds: int = 5) -> Size:
    """Set torch up as training has it, and say what the machine is."""
    import torch._dynamo  # which the processes that scaling.py starts do without

    torch.backends.cudnn.benchmark = True  # as stages/trainer.py
    # one forward function serves all nets here, and more compiled forms of it are wanted than torch usually keeps
    torch._dynamo.config.recompile_limit = 64
    if smoke:
        torch.compiler.set_stance("force_eager")  # compiling for a CPU takes longer than all else
        torch.set_num_threads(1)
        print("Smoke run: tiny nets on a CPU, nothing is compiled, and speeds mean nothing.\n")
    size = SMOKE if smoke else full(batch, rounds)
    print(f"{machine(size.device)}\n", flush=True)
    return size


def machine(device: torch.device) -> str:
    """The machine and what runs on it, in a line."""
    cores = len(os.sched_getaffinity(0))
    software = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {version('torchvision')}"
    if device.type != "cuda":
        return f"CPU, {cores} cores; {software}."
    ask = ["nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader", f"--id={device.index or 0}"]
    try:
        driver, power = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    except (OSError, subprocess.CalledProcessError, ValueError):
        driver, power = "unknown", "unknown power limit"
    cuda = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.cuda.get_device_name(device)} ({power}), driver {driver}, {cores} cores; {software}, {cuda}."


def neat(value: float) -> str:
    """With no more digits than are worth reading, however small a smoke run's may be."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 3}f}"


def check_flops() -> None:
    """The sums by hand against those counted from the modules."""
    for net, expected in GFLOP.items():
        assert abs(flops(net) / 1e9 / expected - 1) < 0.01, f"{net}: {flops(net) / 1e9:.1f} GFLOP, not {expected}"


def flops(net: str, size: Size | None = None) -> int:
    """Of one training image, of the full net if no size is given."""
    with torch.device("meta"):
        found = VGG(net, CLASSES, size.crop, size.width, size.fc) if size else VGG(net, CLASSES)
    return training_flops(found, size.crop if size else 224)


def use(precision: str) -> None:
    """What float32 means to a GPU from now on, as stages/common.py sets it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def synchronise(device: torch.device) -> None:
    """Wait until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """The seconds of `work`, with the GPU idle before and after."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


# Matrix products


def matrix_rate(precision: str, size: Size) -> float:
    """FLOP a second of the best square product of random numbers; products of zeros would be faster, and no measure."""
    use(precision)
    best = 0.0
    for side in size.sides:
        one, other = (torch.randn(side, side, device=size.device, dtype=PRECISIONS[precision]) for _ in range(2))
        product = torch.empty_like(one)
        multiply = lambda: torch.mm(one, other, out=product)  # noqa: B023
        multiply()
        times = max(1, round(size.seconds / 4 / timed(multiply, size.device)))  # long enough for the clock to settle
        for _ in range(3):
            seconds = timed(lambda: [multiply() for _ in range(times)], size.device)  # noqa: B023
            best = max(best, times * 2 * side**3 / seconds)
    return best


def print_products(products: dict[str, float]) -> None:
    print("| square matrix products, best of several sizes | TFLOP/s |\n|:--|--:|")
    for precision, rate in products.items():
        print(f"| {precision} | {neat(rate / 1e12)} |")
    print(flush=True)


# Contestants


class Contestant(Protocol):
    """What takes turns."""

    name: str
    net: str
    precision: str
    note: str

    def turn(self, steps: int) -> object:
        """Train so many steps."""


class Ours:
    """A net as stages/trainer.py trains it, on one batch that lies on the device."""

    def __init__(self, net: str, size: Size, precision: str = "bfloat16", compiles: bool = True) -> None:
        self.net, self.size, self.precision = net, size, precision
        self.name = f"{net}, {precision}, {'compiled' if compiles else 'eager'}"
        use(precision)
        self.vgg = initial(net, size)
        self.sgd = optimiser(self.vgg, RECIPE)
        bfloat16 = precision == "bfloat16"
        self.parts = 1 if size.smoke else parts_that_fit(self.vgg, size.batch, size.crop, bfloat16)
        self.model: nn.Module = self.vgg
        self.note = ""
        if compiles:
            self.model = compiled(self.vgg, self.vgg, -(-size.batch // self.parts), size.crop, bfloat16, ALONE, print)
            if self.model is self.vgg:
                self.note = ", not compiled after all"
        if self.parts > 1:
            self.note += f", in {self.parts} parts"
        self.how = StepConfig(size.batch, size.device, bfloat16, self.parts)
        self.batch = random_batch(size)
        self.normalise = Normalise(MEAN, SHIFT, 58.0).to(size.device)

    def turn(self, steps: int) -> State:
        """Train so many steps on the one batch."""
        state = self.fit(repeat(self.batch), steps, 1)
        self.sgd.zero_grad()  # leaves the memory to the others
        return state

    def fit(self, batches: Iterator[Batch], steps: int, epochs: int) -> State:
        """Train on `batches`, without validation."""
        use(self.precision)
        recipe, state = replace(RECIPE, epochs=epochs), State(learning_rate=RECIPE.learning_rate)
        # never a plateau
        hooks = Callbacks(lambda: (100.0 - state.step / 1e9, 100.0), lambda *_: None, lambda *_: None)
        fit(self.model, self.sgd, batches, self.normalise, recipe, state, steps, hooks, self.how)
        return state


class Theirs:
    """torchvision's vgg16 and the loop of its reference recipe, on one batch that lies on the device."""

    name, net, precision, note = "torchvision's vgg16, bfloat16, plain loop", "D", "bfloat16", ""

    def __init__(self, size: Size) -> None:
        import torchvision  # here, for the scripts that do without it

        self.size = size
        self.vgg = torchvision.models.vgg16(num_classes=CLASSES, init_weights=not size.smoke)
        if size.smoke:
            self.vgg.classifier = nn.Linear(512 * 7 * 7, CLASSES)
        self.vgg.to(size.device)
        self.sgd = torch.optim.SGD(self.vgg.parameters(), RECIPE.learning_rate, momentum=0.9, weight_decay=5e-4)
        self.x = torch.randn(size.batch, 3, size.crop, size.crop, device=size.device)
        self.labels = torch.randint(CLASSES, (size.batch,), device=size.device)
        self.loss = nn.CrossEntropyLoss()

    def turn(self, steps: int) -> None:
        """Train so many steps; like theirs, each asks for its loss."""
        self.vgg.train()
        for _ in range(steps):
            with torch.autocast(self.size.device.type, torch.bfloat16):
                loss = self.loss(self.vgg(self.x), self.labels)
            self.sgd.zero_grad()
            loss.backward()
            self.sgd.step()
            loss.item()
        self.sgd.zero_grad()


def initial(net: str, size: Size) -> VGG:
    """`net` with random weights, on its device and in its layout."""
    made = VGG(net, CLASSES, size.crop, size.width, size.fc)
    randomise(made, "he", 0.01, 0.01, 0)
    return made.to(size.device).to(memory_format=torch.channels_last)


def random_batch(size: Size) -> Batch:
    """Noise, on the device already."""
    pixels = torch.randint(256, (size.batch, size.crop, size.crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels, colour = torch.randint(CLASSES, (size.batch,)), torch.randn(size.batch, 3)
    keys = torch.randint(2**62, (size.batch, DROPOUTS))
    there = [one.to(size.device) for one in (pixels, labels, colour, keys)]
    return Batch(*there, np.arange(size.batch))


Rates = dict[str, tuple[Contestant, list[float]]]


def in_turns(contestants: Sequence[Contestant], size: Size) -> Rates:
    """Images a second of each contestant in each round, after a warm-up of its own."""
    steps = {}
    for one in contestants:
        one.turn(2)
        steps[one.name] = max(2, round(size.seconds / (timed(lambda: one.turn(3), size.device) / 3)))  # noqa: B023
    rates: Rates = {one.name: (one, []) for one in contestants}
    for _ in range(size.rounds):
        for name, (one, found) in rates.items():
            count = steps[name]
            found.append(count * size.batch / timed(lambda: one.turn(count), size.device))  # noqa: B023
    return rates


def print_rates(rates: Rates, products: dict[str, float], size: Size) -> None:
    """A row a contestant; torchvision's net is costed as D, which it is."""
    print(
        f"{size.batch} crops of {size.crop} pixels at a time, already on the device; medians of {size.rounds} rounds."
    )
    print()
    print("| training | images/s | lowest, highest | ms a step | TFLOP/s | of the matrix rate |")
    print("|:--|--:|--:|--:|--:|--:|")
    for name, (one, found) in rates.items():
        rate = statistics.median(found)
        done = rate * flops(one.net, size)
        print(
            f"| {name}{one.note} | {rate:,.0f} | {min(found):,.0f}, {max(found):,.0f} | {1000 * size.batch / rate:.1f} "
            f"| {neat(done / 1e12)} | {done / products[one.precision]:.0%} |"
        )
    print(flush=True)


def print_verdict(rates: Rates, product: float, size: Size) -> None:
    """The aims, and the ratio on the last line."""
    (_, ours), (_, theirs) = rates["D, bfloat16, compiled"], rates[Theirs.name]
    share = statistics.median(ours) * flops("D", size) / product
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"Net D is trained at {share:.0%} of the matrix rate; the aim is {AIM_SHARE:.0%} or more.")
    print(f"That is {ratio:.2f} times the plain loop's rate; the aim is {AIM_RATIO} or more.")
    if size.smoke:
        print("A smoke run: both figures mean nothing.")
    print()
    print(f"ratio: {ratio:.2f}")


# The real stream


def print_stream(ours: Contestant, size: Size) -> None:
    """Net D trained from JPEGs that DALI decodes, and how long it waits for them."""
    assert isinstance(ours, Ours)
    try:
        images = photographs(size)
    except ImportError as missing:
        print(f"The real stream is left out: {missing}.\n")
        return
    threads = len(os.sched_getaffinity(0))
    ways: dict[str, int | None] = {f"JPEGs, decoded by {threads} CPU threads": None}
    if size.device.type == "cuda":
        ways[f"JPEGs, decoded by the GPU and {threads} CPU threads"] = size.device.index
    print("| D, bfloat16, compiled, trained on | the stream alone, images/s | trained, images/s | waits for images |")
    print("|:--|--:|--:|--:|")
    print_stream_row("one batch on the device", "", ours, repeat(ours.batch), size)
    for name, gpu in ways.items():
        batches = training_stream(images, StreamConfig(0, size.batch, size.crop, SCALES), threads=threads, gpu=gpu)
        print_stream_row(name, f"{stream_rate(batches, size):,.0f}", ours, batches, size)
    print(flush=True)


def print_stream_row(name: str, alone: str, ours: Ours, batches: Iterator[Batch], size: Size) -> None:
    """Medians over epochs of so many steps, the first apart, as the run's history would have them."""
    rows = ours.fit(batches, 2 if size.smoke else 30, size.rounds + 1).rows[1:]
    rate, waited = (statistics.median(getattr(row, what) for row in rows) for what in ("images_per_second", "waited"))
    print(f"| {name} | {alone} | {rate:,.0f} | {waited:.1f} % |", flush=True)


def stream_rate(batches: Iterator[Batch], size: Size) -> float:
    """Images a second of the stream when nobody trains, each batch brought to the device."""
    take = lambda count: [batch.pixels.to(size.device).sum() for batch in islice(batches, count)]
    take(3)  # what it has in store
    steps = 2 if size.smoke else 30
    return steps * size.batch / timed(lambda: take(steps), size.device)


def photographs(size: Size) -> Images:
    """Photograph-like JPEGs in memory. ImportError where DALI, or what makes them, is not there."""
    import nvidia.dali  # noqa: F401

    from tests.support.images import Pictures, jpeg, photograph

    random = np.random.default_rng(0)
    distinct = min(DISTINCT, size.photographs)
    encoded = [jpeg(photograph(random, HEIGHT, WIDTH), int(random.integers(88, 97))) for _ in range(distinct)]
    labels = random.integers(0, CLASSES, size.photographs)
    return Pictures([encoded[number % distinct] for number in range(size.photographs)], labels.tolist())


# By kernel


def print_profile(ours: Ours, steps: int) -> None:
    """The fifteen kernels that took most of the time of some steps; operators on a CPU, where there are none."""
    gpu = ours.size.device.type == "cuda"
    ours.turn(3)
    activities = [torch.profiler.ProfilerActivity.CUDA if gpu else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        ours.turn(steps)
        synchronise(ours.size.device)
    spent = [(kernel_seconds(event, gpu), event.count, event.key) for event in profiler.key_averages()]
    total = sum(seconds for seconds, *_ in spent)
    print(f"{ours.name}, batch {ours.size.batch}, by {'kernel' if gpu else 'operator'}:\n")
    print("| ms a step | share | calls a step | kernel |\n|--:|--:|--:|:--|")
    for seconds, calls, name in sorted(spent, reverse=True)[:15]:
        print(f"| {1000 * seconds / steps:.2f} | {seconds / total:.1%} | {calls / steps:.0f} | `{name[:100]}` |")
    print(f"\nall {'kernels' if gpu else 'operators'}: {1000 * total / steps:.1f} ms a step\n", flush=True)


def kernel_seconds(event: Any, gpu: bool) -> float:
    """An event's own time; what is an operator or somebody's note, and not a kernel, has none on a GPU."""
    if not gpu:
        return float(event.self_cpu_time_total) / 1e6
    kernel = event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    return float(event.self_device_time_total) / 1e6 if kernel else 0.0


if __name__ == "__main__":
    main()
