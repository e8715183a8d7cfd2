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
STALL = 0.01  # a loss within this share of ln K is that of a net that has learnt nothing


@dataclass(frozen=True)
class TrainingSchedule:
    """How a net is trained; epochs count from 0."""

    learning_rate: float
    epochs: int  # a cap; the plateau rule may end sooner
    momentum: float
    weight_decay: float
    drops: int  # how often the rate falls; the next plateau ends training
    patience: int  # epochs without a better validation error that make a plateau
    first_drop: int  # no drop before this epoch
    tail: int  # the last so many epochs, but never the first of all, have a drop; 0 leaves all to the plateau rule


@dataclass
class EpochRecord:
    """One epoch of the history; errors in per cent."""

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
    """Where training stands, besides the weights and the momentum."""

    step: int = 0
    learning_rate: float = 0.0
    drops: int = 0
    best: float = math.inf  # lowest validation top-1 error so far
    stale: int = 0  # epochs since
    loss: float = 0.0  # sum over this epoch's steps so far
    done: bool = False
    rows: list[EpochRecord] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> State:
        """The state that `as_dict` wrote."""
        return cls(**{**values, "rows": [EpochRecord(**row) for row in values["rows"]]})


@dataclass(frozen=True)
class StepConfig:
    """How a step is computed; all but the number of images changes the result by rounding alone."""

    images: int  # of a whole batch, over all parts and processes
    device: torch.device = CPU
    bfloat16: bool = False
    parts: int = 1  # in which a process computes its images, one after the other, so that they fit into the memory
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class Callbacks:
    """What the surroundings do while a net trains."""

    validate: Callable[[], tuple[float, float]]  # top-1 and top-k error in per cent
    after_step: Callable[[State, float, bool], None]  # with a loss, and whether to stop; may save, show or raise
    after_epoch: Callable[[State], None]
    stop: Callable[[], bool] = lambda: False  # whether this process is asked to stop


def optimiser(net: VGG, recipe: TrainingSchedule, layers: str = "all") -> torch.optim.SGD:
    """SGD over all layers or, with `layers` "fc", the FC layers only; weight decay falls on biases too."""
    for name, layer in weighted(net).items():
        layer.requires_grad_(layers == "all" or name.startswith("fc"))
    return torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=next(net.parameters()).is_cuda,
    )


def momenta(sgd: torch.optim.SGD) -> list[Tensor]:
    """The velocities of all weights, zero where there has been no step."""
    weights = [weight for group in sgd.param_groups for weight in group["params"]]
    return [sgd.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight)) for weight in weights]


def fit(
    model: nn.Module,
    sgd: torch.optim.SGD,
    batches: Iterator[Batch],
    normalise: Normalise,
    recipe: TrainingSchedule,
    state: State,
    steps: int,
    hooks: Callbacks,
    how: StepConfig,
) -> None:
    """Train `model` in place from `state` on, `steps` steps an epoch, until the recipe or the plateau rule ends it.

    `model` is a VGG, perhaps compiled, or one that averages gradients over processes. `batches` begins at `state.step`
    and has this process's part of each batch. FloatingPointError if a loss is not finite; the
    weights may be spoilt by then, but no hook has seen them.
    """
    clock = Clock(how.device, state.step)
    batch = None if state.done else clock.fetch(batches)
    while batch and not state.done:
        model.train()
        set_rate(sgd, state.learning_rate)
        sgd.zero_grad()
        loss = gradients(model, batch, normalise, how)
        batch = clock.fetch(batches)  # while a GPU is still at work
        told = how.ranks.summed(torch.stack([loss, torch.full_like(loss, hooks.stop())]))
        sgd.step()  # before the loss is looked at, which waits for a GPU
        value, stop = told.tolist()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {state.step}")
        state.step += 1
        state.loss += value
        if state.step % steps == 0:
            rate, waited = clock.stop(state.step)
            finish_epoch(state, recipe, steps, hooks.validate(), rate * how.images, waited)
            hooks.after_epoch(state)
            clock = Clock(how.device, state.step)
        hooks.after_step(state, value, stop > 0)


def gradients(model: nn.Module, batch: Batch, normalise: Normalise, how: StepConfig) -> Tensor:
    """Add to the weights' gradients those of the mean loss over a whole batch; `batch` is this process's part of it.

    The part may be computed in parts of its own. Returns this process's share of the mean loss.
    """
    share = torch.zeros((), dtype=torch.float64, device=how.device)
    parts = batch.to(how.device).parts(how.parts)
    for number, (pixels, labels, colour, keys, _) in enumerate(parts, 1):
        with accumulating(model, last=number == len(parts)):
            x = normalise(pixels, colour).contiguous(memory_format=torch.channels_last)
            with torch.autocast(how.device.type, torch.bfloat16, enabled=how.bfloat16):
                scores = model(x, keys)  # (N, K, 1, 1)
            loss = train_loss(scores, labels) * (len(labels) / how.images)
            (loss * how.ranks.size).backward()  # type: ignore[no-untyped-call]  # the processes' mean is taken
            share += loss.detach()
    return share


def accumulating(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Where a batch is computed in parts, processes exchange gradients with the last one alone."""
    inner = getattr(model, "_orig_mod", model)  # of a compiled one
    return nullcontext() if last or not isinstance(inner, DistributedDataParallel) else inner.no_sync()


class Clock:
    """How long an epoch takes, and how much of it the net waits for images."""

    def __init__(self, device: torch.device, step: int) -> None:
        self.device, self.started, self.first = device, time.monotonic(), step
        self.waits: list[tuple[Any, Any]] = []

    def fetch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch."""
        before = self._mark()
        batch = next(batches)
        self.waits.append((before, self._mark()))
        return batch

    def stop(self, step: int) -> tuple[float, float]:
        """The steps a second since the beginning, and in per cent of the time how long the net waited."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            waited = sum(before.elapsed_time(after) for before, after in self.waits) / 1000
        else:
            waited = sum(after - before for before, after in self.waits)
        seconds = time.monotonic() - self.started
        return (step - self.first) / seconds, 100 * waited / seconds

    def _mark(self) -> Any:
        """A moment: on a GPU that when it has done what it was given before, so that work and fetching overlap."""
        if self.device.type != "cuda":
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def train_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Multinomial logistic regression of the scores (N, K, 1, 1) of crops, in float32 or better."""
    wide = scores if scores.dtype == torch.float64 else scores.float()
    return nn.functional.cross_entropy(wide.flatten(1), labels)


def finish_epoch(
    state: State, recipe: TrainingSchedule, steps: int, errors: tuple[float, float], rate: float, waited: float
) -> None:
    """Write the epoch's row and apply the plateau rule: drop the rate, or end training."""
    epoch = state.step // steps - 1
    state.rows.append(EpochRecord(state.step, epoch, state.loss / steps, state.learning_rate, *errors, rate, waited))
    state.loss = 0.0
    if errors[0] < state.best:
        state.best, state.stale = errors[0], 0
    else:
        state.stale += 1
    following = epoch + 1
    plateau = state.stale >= recipe.patience and following >= recipe.first_drop
    tail = recipe.drops > 0 and state.drops == 0 and following >= recipe.epochs - recipe.tail
    if following >= recipe.epochs or (plateau and state.drops >= recipe.drops):
        state.done = True
    elif (plateau or tail) and state.drops < recipe.drops:
        state.drops += 1
        state.stale = 0
        state.learning_rate = recipe.learning_rate * DROP**state.drops


def stalled(state: State, classes: int) -> int:
    """How many epochs the loss has stood within STALL of ln K, the loss of a blind guess, without a break."""
    chance = math.log(classes)
    still = 0
    for row in reversed(state.rows):
        if abs(row.loss - chance) > STALL * chance:
            break
        still += 1
    return still


def set_rate(sgd: torch.optim.SGD, rate: float) -> None:
    """Give every layer the learning rate `rate` (section 3.1 lowers none)."""
    for group in sgd.param_groups:
        group["lr"] = rate
