"""A run while it trains: its net, optimiser and state, their checkpoint, and what people see of it (section 3.1)."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from types import FrameType

import torch

from pipeline.device import slow_in_bfloat16
from pipeline.errors import Failure, Interrupted
from pipeline.facts import Facts
from pipeline.grid import single_scale
from pipeline.params import Params
from pipeline.paths import weights
from pipeline.progress import Progress
from pipeline.running import Running, asked, here, tell
from pipeline.signals import handled
from pipeline.sources.base import SPLITS
from stages.setup import build, check_trained_on, load_tensors, normaliser, open_shards, save_tensors, weights_of
from vgg.errors import error, top_k
from vgg.fit import Hooks, Recipe, State, fit, optimiser, stalled
from vgg.images import rescaled_batches
from vgg.initialise import randomise, warm_start
from vgg.score import Scorer, centre
from vgg.stream import Plan, steps_per_epoch, training_stream

SAY_EVERY = 5.0  # seconds between words on how far it is, for `vgg-repro status`
SAVE_EVERY = 300.0  # seconds between checkpoints inside an epoch; there is one at the end of each epoch
STALLED = 5  # epochs at ln K after which a run is said to be stalled


class Trainer:
    """One run while it trains: the net, its optimiser, its state, and their checkpoint."""

    def __init__(self, params: Params, name: str, facts: Facts, where: torch.device, folder: Path) -> None:
        run, train, kind = params.runs[name], params.chosen.training, params.chosen.recipes[params.runs[name].recipe]
        size = params.chosen.net
        self.params, self.name, self.run, self.where, self.folder = params, name, run, where, folder
        self.facts, self.classes = facts, len(facts.classes)
        self.recipe = Recipe(
            kind.learning_rate, kind.epochs, train.momentum, train.weight_decay, train.drops, train.patience,
            kind.first_drop, train.tail,
        )  # fmt: skip
        self.net = build(params, run.net, self.classes).to(where)
        self.net.to(memory_format=torch.channels_last)
        self.sgd = optimiser(self.net, self.recipe, run.layers)
        self.state = State(learning_rate=kind.learning_rate)
        self.normalise = normaliser(params, facts).to(where)
        self.train_images, self.val_images = (open_shards(params, split, facts) for split in SPLITS)
        low, high = (size.pixels(scale) for scale in run.scales)
        self.plan = Plan(train.seed, train.batch, size.crop, (low, high))
        try:
            self.steps = steps_per_epoch(len(self.train_images), train.batch)
        except ValueError as reason:
            raise Failure(f"{name} cannot be trained: {reason}; make train.batch smaller") from None
        self.stop = False
        self.saved = self.said = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        """The file of the resumable state."""
        return self.folder / "last.pt"

    def resume(self) -> None:
        """Go on from the checkpoint if there is one, else begin from the run's initial weights."""
        if self.checkpoint.exists():
            values = load_tensors(self.checkpoint, f"rm -r {self.folder}, then vgg-repro train {self.name}")
            self.net.load_state_dict(values["weights"])
            self.sgd.load_state_dict(values["momentum"])
            self.state = State.from_dict(values["state"])
            print(f"{self.name}: resumed at step {self.state.step} of at most {self.steps * self.recipe.epochs}")
            return
        size = self.params.chosen.net
        check_trained_on(self.params, self.run.init, self.facts)
        initial = load_tensors(weights(self.run.init), _maker(self.run.init))
        randomise(self.net, size.init, size.std, size.last_std, self.params.chosen.training.seed)
        try:
            warm_start(self.net, initial["weights"], initial["net"] == self.run.net)
        except ValueError as reason:
            raise Failure(f"{self.name} cannot begin from {self.run.init}: {reason}") from None

    def train(self) -> None:
        """Fit the net; on SIGINT or SIGTERM write a checkpoint first and raise Interrupted."""
        if slow_in_bfloat16(self.params.chosen.training.precision, self.where.type):
            print(f"{self.name}: this CPU has no bfloat16 units; precision: float32 in params.yaml is faster here")
        threads = self.params.chosen.training.threads
        gpu = self.where.type == "cuda"
        batches = training_stream(self.train_images, self.plan, self.state.step, threads=threads, gpu=gpu)
        total = self.steps * self.recipe.epochs
        try:
            with (
                handled(self._ask_to_stop, signal.SIGINT, signal.SIGTERM),
                Progress(f"train {self.name}", total, "steps", self.state.step) as self.progress,
            ):
                fit(
                    self.net, self.sgd, batches, self.normalise, self.recipe, self.state, self.steps, self.plan.seed,
                    Hooks(self.validate, self._after_step, self._after_epoch),
                    bfloat16=self.params.chosen.training.precision == "bfloat16",
                )  # fmt: skip
        except FloatingPointError as reason:
            raise Failure(f"{self.name}: {reason}. {_ADVICE}") from None

    def validate(self) -> tuple[float, float]:
        """Top-1 and top-k error in per cent at one centre crop, images rescaled to the run's own Q."""
        profile = self.params.chosen
        scorer = Scorer(
            self.net, self.normalise, profile.net.crop, self.where, profile.training.precision == "bfloat16"
        )
        batches = rescaled_batches(
            self.val_images, profile.net.pixels(single_scale(self.run)), profile.score.batch, profile.training.threads,
            self.where.type == "cuda",
        )  # fmt: skip
        posteriors = scorer.posteriors(batches, len(self.val_images), centre)
        top1, topk = (error(posteriors, self.val_images.labels, k).error for k in (1, top_k(self.classes)))
        return top1, topk

    def save(self) -> None:
        """Write the checkpoint."""
        save_tensors(
            self.checkpoint,
            {"weights": weights_of(self.net), "momentum": self.sgd.state_dict(), "state": self.state.as_dict()},
        )
        self.saved = time.monotonic()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    def _after_step(self, state: State, loss: float) -> None:
        last = state.rows[-1] if state.rows else None
        shown = f", validation error {last.top1:.1f} %" if last else ""
        self.progress.advance(note=f"epoch {(state.step - 1) // self.steps + 1}, loss {loss:.3f}{shown}")
        if self.stop or time.monotonic() - self.said > SAY_EVERY:
            self._tell()
        if self.stop:
            self.save()
            raise Interrupted(f"{self.name} stopped at step {state.step}; the same command goes on from there")
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def _after_epoch(self, state: State) -> None:
        if stalled(state, self.classes) == STALLED:
            self.progress.say(
                f"{self.name}: the loss has stood at ln {self.classes} = {math.log(self.classes):.2f} for {STALLED} "
                f"epochs: the net is not learning. {_ADVICE}"
            )
        self._tell()
        self.save()

    def _tell(self) -> None:
        """Say how far the run is, for others to read."""
        self.said = time.monotonic()
        state, steps, epochs = self.state, self.steps, self.recipe.epochs
        done = state.step % steps
        rate = self.progress.rate()
        left = (steps * epochs - state.step) / rate if rate else None
        top1 = state.rows[-1].top1 if state.rows else None
        loss = state.loss / done if done else None
        run = (self.name, asked(self.params, self.name), state.step, steps, epochs)
        tell(self.folder, Running(*run, loss, top1, left, *here()))


_ADVICE = (
    "Try a smaller learning_rate in its recipe, or other net.init and net.input_scale: std 0.01 and glorot go with "
    "input_scale 1 at full width, he with inputs of unit variance (docs/paper.md, Open choices)"
)


def _maker(init: str) -> str:
    """The command that makes the initial weights `init`."""
    net = init.removeprefix("random-")
    return f"vgg-repro weights random {net}" if net != init else f"vgg-repro train {init}"
