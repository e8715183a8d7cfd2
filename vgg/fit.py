"""Training: mini-batch gradient descent with momentum and the paper's plateau rule (section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vgg.distributed import ALONE, Ranks
from vgg.initialise import weighted
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.stream import Batch

DROP = 0.1  # section 3.1: the learning rate "was decreased by a factor of 10"
CPU = torch.device("cpu")
STALL = 0.01  # a loss within this fraction of ln K means that the net has learnt nothing


@dataclass(frozen=True)
class TrainingSchedule:
    """The hyper-parameters of a training run and its learning-rate schedule; epochs count from 0."""

    learning_rate: float
    epochs: int  # an upper limit; the plateau rule may end training earlier
    momentum: float
    weight_decay: float
    drops: int  # number of learning-rate drops; the next plateau ends training
    patience: int  # epochs without a better validation error until a plateau is declared
    first_drop: int  # no drop before this epoch
    tail: int  # forces a first drop this many epochs before the end, but not in epoch 0; 0: plateau rule only


@dataclass
class EpochRecord:
    """A row of the history, for one epoch; errors in per cent, of a localiser that of its boxes, twice."""

    step: int
    epoch: int
    loss: float  # mean over the epoch
    learning_rate: float
    top1: float  # validation, one centre crop at the run's Q
    topk: float
    images_per_second: float
    waited: float  # per cent of the time that the net waited for images


@dataclass
class State:
    """The progress of training, without the weights and the momentum."""

    step: int = 0
    learning_rate: float = 0.0
    drops: int = 0
    best: float = math.inf  # lowest validation top-1 error so far
    stale: int = 0  # epochs since the lowest error or the last drop
    loss: float = 0.0  # sum over this epoch's steps so far
    done: bool = False
    rows: list[EpochRecord] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> State:
        """Return the state that `as_dict` wrote."""
        return cls(**{**values, "rows": [EpochRecord(**row) for row in values["rows"]]})


def train_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the multinomial logistic loss of the scores (N, K, 1, 1) of crops, in float32 or better."""
    wide = scores if scores.dtype == torch.float64 else scores.float()
    return nn.functional.cross_entropy(wide.flatten(1), labels)


Loss = Callable[[Tensor, Tensor], Tensor]  # of a net's outputs and the batch's labels: the mean over the images


@dataclass(frozen=True)
class StepConfig:
    """The loss, and the settings that a step is computed with; other than `images`, these affect rounding only."""

    images: int  # images of a whole batch, over all parts and processes
    device: torch.device = CPU
    bfloat16: bool = False
    parts: int = 1  # parts in which a process computes its images, one after the other, to fit into memory
    ranks: Ranks = ALONE
    ahead: bool = False  # queue the next gradients before a loss is read, so that a GPU does not idle meanwhile
    loss: Loss = train_loss


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of the training loop."""

    validate: Callable[[], tuple[float, float]]  # top-1 and top-k error in per cent
    after_step: Callable[[State, float, bool], None]  # gets a loss and whether to stop; may save, print or raise
    after_epoch: Callable[[State], None]
    stop: Callable[[], bool] = lambda: False  # returns True if this process is asked to stop


def optimiser(net: VGG, schedule: TrainingSchedule, layers: str = "all") -> torch.optim.SGD:
    """Return SGD over all layers or, with `layers` "fc", the FC layers only; weight decay applies to biases too."""
    for name, layer in weighted(net).items():
        layer.requires_grad_(layers == "all" or name.startswith("fc"))
    return torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        fused=next(net.parameters()).is_cuda,
    )


def momenta(sgd: torch.optim.SGD) -> list[Tensor]:
    """Return the velocities of all weights, zero where there has been no step."""
    weights = [weight for group in sgd.param_groups for weight in group["params"]]
    return [sgd.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight)) for weight in weights]


def fit(
    model: nn.Module,
    sgd: torch.optim.SGD,
    batches: Iterator[Batch],
    normalise: Normalise,
    schedule: TrainingSchedule,
    state: State,
    steps: int,
    callbacks: Callbacks,
    config: StepConfig,
) -> None:
    """Train `model` in place from `state` on, `steps` steps an epoch, until the schedule or the plateau rule ends it.

    `model` is a VGG, possibly compiled, or one that averages gradients over processes. `batches` begins at
    `state.step` and yields this process's part of each batch. Raise FloatingPointError if a loss is not finite; the
    weights may be damaged by then, but no callback has seen them.
    """
    clock = Clock(config.device, state.step)
    if state.done:
        return
    loss = cleared_gradients(model, sgd, clock.fetch(batches), normalise, config)
    while True:
        batch = clock.fetch(batches).to(config.device)  # while the GPU is still busy
        totals = Sent(config.ranks.summed(torch.stack([loss, torch.full_like(loss, callbacks.stop())])))
        set_rate(sgd, state.learning_rate)
        sgd.step()
        if config.ahead:
            loss = cleared_gradients(model, sgd, batch, normalise, config)
        value, stop = totals.read()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {state.step}")
        state.step += 1
        state.loss += value
        if state.step % steps == 0:
            rate, waited = clock.stop(state.step)
            finish_epoch(state, schedule, steps, callbacks.validate(), rate * config.images, waited)
            callbacks.after_epoch(state)
            clock = Clock(config.device, state.step)
        callbacks.after_step(state, value, stop > 0)
        if state.done:
            return
        if not config.ahead:
            loss = cleared_gradients(model, sgd, batch, normalise, config)


class Sent:
    """A tensor on its way to the CPU. Reading it waits for nothing that a GPU was given afterwards."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.event = values.detach().to(CPU, non_blocking=True), None
        if values.is_cuda:
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()

    def read(self) -> Any:
        """Return the values as a list."""
        if self.event:
            self.event.synchronize()
        return self.values.tolist()


def cleared_gradients(
    model: nn.Module, sgd: torch.optim.SGD, batch: Batch, normalise: Normalise, config: StepConfig
) -> Tensor:
    """Replace the weights' gradients by those of a batch; return as `gradients` does."""
    model.train()
    sgd.zero_grad()
    return gradients(model, batch, normalise, config)


def gradients(model: nn.Module, batch: Batch, normalise: Normalise, config: StepConfig) -> Tensor:
    """Add the gradients of a whole batch's mean loss to the weights' gradients; `batch` is this process's part.

    The part may be computed in several smaller parts. Return this process's share of the mean loss, a float64 scalar.
    """
    share = torch.zeros((), dtype=torch.float64, device=config.device)
    parts = batch.to(config.device).parts(config.parts)
    for number, (pixels, labels, colour, keys, _) in enumerate(parts, 1):
        with accumulating(model, last=number == len(parts)):
            x = normalise(pixels, colour).contiguous(memory_format=torch.channels_last)
            with torch.autocast(config.device.type, torch.bfloat16, enabled=config.bfloat16):
                scores = model(x, keys)  # (N, K, 1, 1)
            loss = config.loss(scores, labels) * (len(labels) / config.images)
            (loss * config.ranks.size).backward()  # type: ignore[no-untyped-call]  # later averaged
            share += loss.detach()
    return share


def accumulating(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Return a context in which processes exchange gradients only for the `last` part of a batch."""
    inner = getattr(model, "_orig_mod", model)  # the module that was compiled
    return nullcontext() if last or not isinstance(inner, DistributedDataParallel) else inner.no_sync()


class Clock:
    """A timer of an epoch and of the time that the net waits for images."""

    def __init__(self, device: torch.device, step: int) -> None:
        self.device, self.started, self.first = device, time.monotonic(), step
        self.waits: list[tuple[Any, Any]] = []

    def fetch(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch and record how long it took to arrive."""
        before = self._mark()
        batch = next(batches)
        self.waits.append((before, self._mark()))
        return batch

    def stop(self, step: int) -> tuple[float, float]:
        """Return the steps per second since the start and the percentage of that time that the net waited."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            waited = sum(before.elapsed_time(after) for before, after in self.waits) / 1000
        else:
            waited = sum(after - before for before, after in self.waits)
        seconds = time.monotonic() - self.started
        return (step - self.first) / seconds, 100 * waited / seconds

    def _mark(self) -> Any:
        """Return a time stamp: on a GPU an event after all queued work, so that computing and fetching overlap."""
        if self.device.type != "cuda":
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def finish_epoch(
    state: State, schedule: TrainingSchedule, steps: int, errors: tuple[float, float], rate: float, waited: float
) -> None:
    """Append the epoch's row and apply the plateau rule: drop the learning rate, or end training."""
    epoch = state.step // steps - 1
    state.rows.append(EpochRecord(state.step, epoch, state.loss / steps, state.learning_rate, *errors, rate, waited))
    state.loss = 0.0
    if errors[0] < state.best:
        state.best, state.stale = errors[0], 0
    else:
        state.stale += 1
    following = epoch + 1
    plateau = state.stale >= schedule.patience and following >= schedule.first_drop
    tail = schedule.drops > 0 and state.drops == 0 and following >= schedule.epochs - schedule.tail
    if following >= schedule.epochs or (plateau and state.drops >= schedule.drops):
        state.done = True
    elif (plateau or tail) and state.drops < schedule.drops:
        state.drops += 1
        state.stale = 0
        state.learning_rate = schedule.learning_rate * DROP**state.drops


def stalled(state: State, classes: int) -> int:
    """Return the number of latest epochs in a row with a loss within STALL of ln K, the loss of a blind guess."""
    chance = math.log(classes)
    epochs = 0
    for row in reversed(state.rows):
        if abs(row.loss - chance) > STALL * chance:
            break
        epochs += 1
    return epochs


def set_rate(sgd: torch.optim.SGD, rate: float) -> None:
    """Set the learning rate of every layer to `rate` (section 3.1 has one rate for all layers)."""
    for group in sgd.param_groups:
        group["lr"] = rate
