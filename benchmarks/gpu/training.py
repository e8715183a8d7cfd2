"""Part 2: nets A, D and E trained as this project trains them, beside torchvision's plain loop of VGG-16.

Ours are steps of vgg.fit.fit itself: normalising, dropout, loss, fused SGD and the loss's way to the CPU included. The
plain loop is torchvision's vgg16 as its reference recipe runs it, in bfloat16: no channels_last, no compiled code, SGD
with momentum, cross entropy, input that is normalised already. The contestants take turns; rates are medians over the
rounds, synchronised at both ends of each. Shares are of what the machine's own matrix products reach.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Protocol

import torch
from torch import nn

from gpu.findings import Findings
from gpu.machine import (
    CLASSES,
    MEAN,
    PRECISIONS,
    RECIPE,
    SHIFT,
    Size,
    flops,
    initial,
    matrix_rate,
    neat,
    random_batch,
    timed,
    use,
)
from vgg.distributed import ALONE
from vgg.fit import Callbacks, State, StepConfig, fit, optimiser
from vgg.gpu import compiled, parts_that_fit
from vgg.normalise import Normalise
from vgg.stream import Batch

NETS = ("D", "A", "E")
AIM_SHARE, AIM_RATIO = 0.5, 1.5


def run(size: Size, findings: Findings) -> None:
    """Measure the matrix products and all contestants in turn."""
    products = {precision: matrix_rate(precision, size) for precision in PRECISIONS}
    table = findings.table("square matrix products, best of several sizes", "TFLOP/s")
    for precision, rate in products.items():
        table.row(precision, neat(rate / 1e12))
        findings.figure(f"matrix_rate_{precision}", rate)
    table = findings.table("ready to train", "seconds until its first steps are done")
    contestants: list[Contestant] = []
    for make in (lambda: Ours("D", size), lambda: Theirs(size), lambda: Ours("A", size), lambda: Ours("E", size),
                 lambda: Ours("D", size, compiles=False)):  # fmt: skip
        started = time.perf_counter()
        contestants.append(make())
        contestants[-1].turn(2)
        table.row(contestants[-1].name, neat(time.perf_counter() - started))
    if not size.smoke:
        findings.check("all nets are compiled", not any("not compiled" in one.note for one in contestants))
    say_rates(in_turns(contestants, size), products["bfloat16"], size, findings)


def say_rates(rates: Rates, product: float, size: Size, findings: Findings) -> None:
    """Write a row a contestant and hold net D against the aims; torchvision's net is costed as D, which it is."""
    findings.say(
        f"Batches of {size.batch} crops of {size.crop} pixels that are already on the device, in bfloat16; medians of "
        f"{size.rounds} round{'s' * (size.rounds != 1)}."
    )
    table = findings.table(
        "training", "images/s", "lowest, highest", "ms a step", "TFLOP/s", "of the matrix rate", "peak memory, GB"
    )
    for name, (one, found) in rates.items():
        rate = statistics.median(found)
        done = rate * flops(one.net, size)
        table.row(
            f"{name}{one.note}", f"{rate:,.0f}", f"{min(found):,.0f}, {max(found):,.0f}",
            f"{1000 * size.batch / rate:.1f}", neat(done / 1e12), f"{done / product:.0%}", neat(one.memory / 1e9),
        )  # fmt: skip
        findings.figure(f"images_per_second {name}", rate)
    for net in ("A", "D", "E"):
        findings.figure(f"images_per_second_{net}", statistics.median(rates[f"{net}, compiled"][1]))
    (_, ours), (_, theirs) = rates["D, compiled"], rates[Theirs.name]
    share = statistics.median(ours) * flops("D", size) / product
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    findings.figure("share", share)
    findings.aim("net D trains at this share of the bfloat16 matrix rate", 100 * share, 100 * AIM_SHARE, unit=" %")
    findings.aim("net D trains this many times as fast as torchvision's plain loop", ratio, AIM_RATIO)


class Contestant(Protocol):
    """What takes turns."""

    name: str
    net: str
    note: str
    memory: int  # bytes, at most, in a turn

    def turn(self, steps: int) -> object:
        """Train so many steps."""


class Ours:
    """A net as stages/trainer.py trains it, on one batch that lies on the device."""

    def __init__(self, net: str, size: Size, precision: str = "bfloat16", compiles: bool = True) -> None:
        self.net, self.size, self.precision = net, size, precision
        what = "compiled" if compiles else "eager"
        self.name = f"{net}, {what}" if precision == "bfloat16" else f"{net}, {precision}, {what}"
        use(precision)
        self.vgg = initial(net, size)
        self.sgd = optimiser(self.vgg, RECIPE)
        bfloat16 = precision == "bfloat16"
        self.parts = 1 if size.smoke else parts_that_fit(self.vgg, size.batch, size.crop, bfloat16)
        self.model: nn.Module = self.vgg
        self.note, self.memory = "", 0
        if compiles:
            self.model = compiled(self.vgg, self.vgg, -(-size.batch // self.parts), size.crop, bfloat16, ALONE, print)
            if self.model is self.vgg:
                self.note = ", not compiled after all"
        if self.parts > 1:
            self.note += f", in {self.parts} parts"
        self.how = StepConfig(size.batch, size.device, bfloat16, self.parts, ahead=not size.smoke)
        self.batch = random_batch(size)
        self.normalise = Normalise(MEAN, SHIFT, 58.0).to(size.device)

    def turn(self, steps: int) -> State:
        """Train so many steps on the one batch."""
        with Peak(self.size) as peak:
            state = self.fit(repeat(self.batch), steps, 1)
        self.memory = max(self.memory, peak.bytes)
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

    name, net, note, memory = "torchvision's vgg16, plain loop", "D", "", 0

    def __init__(self, size: Size) -> None:
        import torchvision  # here, for the parts that do without it

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
        with Peak(self.size) as peak:
            for _ in range(steps):
                with torch.autocast(self.size.device.type, torch.bfloat16):
                    loss = self.loss(self.vgg(self.x), self.labels)
                self.sgd.zero_grad()
                loss.backward()
                self.sgd.step()
                loss.item()
        self.memory = max(self.memory, peak.bytes)
        self.sgd.zero_grad()


class Peak:
    """The most memory that torch had in use in a block beyond what it had before: activations and workspace."""

    def __init__(self, size: Size) -> None:
        self.gpu, self.bytes = not size.smoke, 0

    def __enter__(self) -> Peak:
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_: object) -> None:
        if self.gpu:
            self.bytes = torch.cuda.max_memory_allocated() - self.before


Rates = dict[str, tuple[Contestant, list[float]]]


def in_turns(contestants: Sequence[Contestant], size: Size) -> Rates:
    """Images a second of each contestant in each round, after a warm-up of its own."""
    steps = {}
    for one in contestants:
        steps[one.name] = max(2, round(size.seconds / (timed(lambda: one.turn(3), size.device) / 3)))  # noqa: B023
    rates: Rates = {one.name: (one, []) for one in contestants}
    for _ in range(size.rounds):
        for name, (one, found) in rates.items():
            count = steps[name]
            found.append(count * size.batch / timed(lambda: one.turn(count), size.device))  # noqa: B023
    return rates
