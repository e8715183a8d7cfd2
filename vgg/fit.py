"""Training: mini-batch gradient descent with momentum and the paper's plateau rule (section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vgg.initialise import weighted
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.stream import Batch

DROP = 0.1  # section 3.1: the learning rate "was decreased by a factor of 10"
STALL = 0.01  # a loss within this share of ln K is that of a net that has learnt nothing


@dataclass(frozen=True)
class Recipe:
    """How a net is trained; epochs count from 0."""

    learning_rate: float
    epochs: int  # a cap; the plateau rule may end sooner
    momentum: float
    weight_decay: float
    drops: int  # how often the rate falls; the next plateau ends training
    patience: int  # epochs without a better validation error that make a plateau
    first_drop: int  # no drop before this epoch
    tail: int  # the last so many epochs have at least one drop; 0 leaves all to the plateau rule


@dataclass
class Row:
    """One epoch of the history; errors in per cent."""

    step: int
    epoch: int
    loss: float  # mean over the epoch
    learning_rate: float
    top1: float  # validation, one centre crop at the run's Q
    topk: float
    images_per_second: float


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
    rows: list[Row] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> State:
        """The state that `as_dict` wrote."""
        return cls(**{**values, "rows": [Row(**row) for row in values["rows"]]})


@dataclass(frozen=True)
class Hooks:
    """What the surroundings do while a net trains."""

    validate: Callable[[], tuple[float, float]]  # top-1 and top-k error in per cent
    after_step: Callable[[State, float], None]  # with the step's loss; may save, show or raise
    after_epoch: Callable[[State], None]


def optimiser(net: VGG, recipe: Recipe, layers: str = "all") -> torch.optim.SGD:
    """SGD over all layers or, with `layers` "fc", the FC layers only; weight decay falls on biases too."""
    for name, layer in weighted(net).items():
        layer.requires_grad_(layers == "all" or name.startswith("fc"))
    return torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def fit(
    net: VGG,
    sgd: torch.optim.SGD,
    batches: Iterator[Batch],
    normalise: Normalise,
    recipe: Recipe,
    state: State,
    steps: int,
    seed: int,
    hooks: Hooks,
    bfloat16: bool = False,
) -> None:
    """Train `net` in place from `state` on, `steps` steps an epoch, until the recipe or the plateau rule ends it.

    `batches` begins at `state.step`. FloatingPointError if a loss is not finite.
    """
    device = next(net.parameters()).device
    started, at = time.monotonic(), state.step
    while not state.done:
        net.train()
        set_rate(sgd, state.learning_rate)
        torch.manual_seed(step_seed(seed, state.step))  # dropout: a function of the step, so that it can be resumed
        pixels, labels, colour, _ = next(batches)
        x = normalise(pixels.to(device), colour.to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            scores = net(x)  # (N, K, 1, 1)
        loss = train_loss(scores, labels.to(device))
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {state.step}")
        sgd.step()
        state.step += 1
        state.loss += value
        if state.step % steps == 0:
            rate = (state.step - at) * len(labels) / (time.monotonic() - started)
            finish_epoch(state, recipe, steps, hooks.validate(), rate)
            hooks.after_epoch(state)
            started, at = time.monotonic(), state.step
        hooks.after_step(state, value)


def train_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Multinomial logistic regression of the scores (N, K, 1, 1) of crops, in float32."""
    return nn.functional.cross_entropy(scores.float().flatten(1), labels)


def finish_epoch(state: State, recipe: Recipe, steps: int, errors: tuple[float, float], rate: float) -> None:
    """Write the epoch's row and apply the plateau rule: drop the rate, or end training."""
    epoch = state.step // steps - 1
    state.rows.append(Row(state.step, epoch, state.loss / steps, state.learning_rate, *errors, rate))
    state.loss = 0.0
    if errors[0] < state.best:
        state.best, state.stale = errors[0], 0
    else:
        state.stale += 1
    following = epoch + 1
    plateau = state.stale >= recipe.patience and following >= recipe.first_drop
    tail = recipe.drops > 0 and state.drops == 0 and following >= recipe.epochs - recipe.tail > 0
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


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for every step of a run."""
    return (seed * 1_000_003 + step) % 2**63
