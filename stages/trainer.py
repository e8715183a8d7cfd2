"""A run in training: its net, optimiser and state, their checkpoint, and its progress reports (section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from pipeline.datasets.facts import Statistics
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.modes import single_scale
from pipeline.experiment.params import SAVE_EVERY, Params
from pipeline.experiment.paths import weights
from pipeline.orchestration.heartbeat import Running, asked, here, stalled_run, tell
from pipeline.system.decoders import PILLOW, decoder_in_use
from pipeline.system.devices import slow_in_bfloat16
from pipeline.system.process_lifetime import handled, stop_signals
from pipeline.system.progress import Progress
from stages.common import (
    build,
    check_trained_on,
    load_tensors,
    normaliser,
    save_tensors,
    weights_of,
)
from stages.tasks import task_of
from vgg.distributed import Ranks, data_parallel
from vgg.fit import Callbacks, State, StepConfig, TrainingSchedule, fit, momenta, optimiser, stalled
from vgg.gpu import compiled, gpu_memory_ran_out, parts_that_fit
from vgg.images import Rescaled, rescaled_batches
from vgg.initialise import randomise, warm_start
from vgg.score import Scorer, centre
from vgg.stalling import STALLED
from vgg.stream import StreamConfig, steps_per_epoch, training_stream

SAY_EVERY = 5.0  # seconds between progress reports for `vgg-repro status`
KEPT = 2**28  # bytes of crops that are kept from one validation to the next


class Trainer:
    """A run in training: the net, its optimiser, its state, and their checkpoint."""

    def __init__(
        self, params: Params, name: str, statistics: Statistics, where: torch.device, folder: Path, ranks: Ranks
    ) -> None:
        run, train, recipe = params.runs[name], params.active.training, params.active.recipes[params.runs[name].recipe]
        size = params.active.net
        self.params, self.name, self.run, self.where, self.folder, self.ranks = params, name, run, where, folder, ranks
        self.statistics, self.classes = statistics, statistics.classes
        self.decoder = decoder_in_use(params.decoder)
        self.recipe = TrainingSchedule(
            recipe.learning_rate, recipe.epochs, train.momentum, train.weight_decay, train.drops, train.patience,
            recipe.first_drop, train.tail,
        )  # fmt: skip
        self.task = task_of(params, name, statistics)
        self.net = build(params, run.net, self.task.outputs).to(where)
        self.net.to(memory_format=torch.channels_last)
        self.sgd = optimiser(self.net, self.recipe, run.layers)
        self.state = State(learning_rate=recipe.learning_rate)
        self.normalise = normaliser(params, statistics).to(where)
        self.val_crops = list[Rescaled]()  # the validation's central crops, if they are kept
        low, high = (size.pixels(scale) for scale in run.scales)
        self.plan = StreamConfig(train.seed, train.batch, size.crop, (low, high))
        try:
            self.steps = steps_per_epoch(len(self.task.train_images), train.batch)
        except ValueError as reason:
            raise Failure(f"{name} cannot be trained: {reason}; reduce train.batch") from None
        self.stop = False
        self.saved = self.said = self.opened = time.monotonic()
        self.earlier = 0.0  # seconds that the run trained before this process, up to the checkpoint

    @property
    def seconds(self) -> float:
        """Return the seconds that the run has trained so far, here and before the checkpoint was written."""
        return self.earlier + time.monotonic() - self.opened

    @property
    def checkpoint(self) -> Path:
        """Return the path of the resumable state."""
        return self.folder / "last.pt"

    @property
    def at_chance(self) -> int:
        """Return the number of latest epochs in a row with the loss of a blind guess."""
        return stalled(self.state, self.classes)

    def begin(self) -> None:
        """Resume from the checkpoint if there is one, else start from the run's initial weights.

        The first process reads them and sends them to the others, whose machines may have neither. Raise Failure if
        this process decodes images otherwise.
        """
        if (first := self.ranks.broadcast_object(self.decoder)) != self.decoder:
            raise Failure(
                f"the first process decodes with {first}, this one with {self.decoder}: set decoder: {PILLOW} in "
                "params.yaml, or install the same packages on all machines"
            )
        if self.ranks.first:
            if self.checkpoint.exists():
                self._resume()
            else:
                self._start()
        self.state = State.from_dict(self.ranks.broadcast_object(self.state.as_dict()))
        self.ranks.broadcast(list(self.net.state_dict().values()))
        if self.state.step:
            self.ranks.broadcast(momenta(self.sgd))

    def _resume(self) -> None:
        values = load_tensors(self.checkpoint, f"rm -r {self.folder}, then vgg-repro train {self.name}")
        self.net.load_state_dict(values["weights"])
        self.sgd.load_state_dict(values["momentum"])
        for group in self.sgd.param_groups:
            group["fused"] = self.where.type == "cuda"  # as in the other processes, not as in the checkpoint
        self.state = State.from_dict(values["state"])
        self.earlier = values.get("seconds", 0.0)  # older checkpoints lack it
        print(f"{self.name}: resumed at step {self.state.step} of at most {self.steps * self.recipe.epochs}")

    def _start(self) -> None:
        size = self.params.active.net
        check_trained_on(self.params, self.run.init, self.statistics)
        if stalled_run(self.run.init):
            print(
                f"{self.name}: warning: it starts from {self.run.init}, whose net did not learn: its loss ended at "
                "that of a blind guess"
            )
        initial = load_tensors(weights(self.run.init), _maker(self.run.init))
        randomise(self.net, size.init, size.std, size.last_std, self.params.active.training.seed)
        try:
            warm_start(self.net, initial["weights"], initial["net"] == self.run.net, self.task.keeps_last)
        except ValueError as reason:
            raise Failure(f"{self.name} cannot start from {self.run.init}: {reason}") from None

    def train(self) -> None:
        """Fit the net; on SIGINT, SIGTERM or SIGHUP write a checkpoint and raise Interrupted.

        Raise Failure if the loss is not finite or a GPU's memory runs out.
        """
        if slow_in_bfloat16(self.params.active.training.precision, self.where.type):
            print(f"{self.name}: this CPU has no bfloat16 units; precision: float32 in params.yaml is faster here")
        train, ranks = self.params.active.training, self.ranks
        where = (self.state.step, ranks.rank, ranks.size, train.threads, self.where.index)
        batches = training_stream(self.task.train_images, self.plan, *where, self.decoder, target=self.task.target)
        torch.backends.cudnn.benchmark = True  # all crops have one shape, here and in validation
        total = self.steps * self.recipe.epochs
        try:
            model, parts = self._model()
            bfloat16, ahead = train.precision == "bfloat16", self.where.type == "cuda"
            setup = StepConfig(train.batch, self.where, bfloat16, parts, ranks, ahead, self.task.loss)
            with (
                handled(self._ask_to_stop, *stop_signals()),
                Progress(f"train {self.name}", total, "steps", self.state.step) as self.progress,
            ):
                fit(
                    model, self.sgd, batches, self.normalise, self.recipe, self.state,
                    self.steps, Callbacks(self.validate, self._after_step, self._after_epoch, lambda: self.stop), setup,
                )  # fmt: skip
        except FloatingPointError as reason:
            raise Failure(f"{self.name}: {reason}. {_ADVICE}") from None
        except RuntimeError as error:
            if not gpu_memory_ran_out(error):
                raise
            raise Failure(f"{self.name}: {_NO_ROOM}") from None

    def _model(self) -> tuple[nn.Module, int]:
        """Return the module to train and the number of parts in which this process computes its images.

        On GPUs both are found by trial. On CPUs torch.compile was never faster.
        """
        model = data_parallel(self.net, self.where, self.ranks)
        if self.where.type != "cuda":
            return model, 1
        train, crop = self.params.active.training, self.params.active.net.crop
        bfloat16 = train.precision == "bfloat16"
        images = len(range(self.ranks.rank, train.batch, self.ranks.size))
        parts = self.ranks.maximum(parts_that_fit(self.net, images, crop, bfloat16), self.where)
        if parts > 1:
            print(f"{self.name}: {train.batch} images do not fit at once; using {parts} parts, with the same result")
        return compiled(model, self.net, -(-images // parts), crop, bfloat16, self.ranks, print), parts

    def validate(self) -> tuple[float, float]:
        """Return the task's two errors in per cent at one centre crop, images rescaled to the run's own Q."""
        profile = self.params.active
        bfloat16 = profile.training.precision == "bfloat16"
        scorer = Scorer(self.net, self.normalise, profile.net.crop, self.where, bfloat16, ranks=self.ranks)
        return self.task.judge(scorer, self._validation_crops())

    def _validation_crops(self) -> Iterable[Rescaled]:
        """Return this process's validation images, cut to their central crops and kept if all of them take few bytes.

        Small nets take less time for a crop than its decoding takes.
        """
        profile, ranks = self.params.active, self.ranks
        crop, images = profile.net.crop, self.task.val_images
        if self.val_crops:
            return self.val_crops
        batches = rescaled_batches(
            images, profile.net.pixels(single_scale(self.run)), profile.score.batch, profile.training.threads,
            self.where.index, ranks.rank, ranks.size, decoder=self.decoder,
        )  # fmt: skip
        if len(images) * 3 * crop * crop > KEPT:
            return batches
        self.val_crops = [Rescaled(next(centre(pixels, crop)).clone(), ids) for pixels, ids in batches]
        return self.val_crops

    def save(self) -> None:
        """Write the checkpoint, in the first process only."""
        self.saved = time.monotonic()
        if not self.ranks.first:
            return
        save_tensors(
            self.checkpoint,
            {
                "weights": weights_of(self.net),
                "momentum": self.sgd.state_dict(),
                "state": self.state.as_dict(),
                "seconds": self.seconds,
            },
        )

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    def _after_step(self, state: State, loss: float, stop: bool) -> None:
        if stop:  # before anything is printed, because the terminal may be gone
            self._tell()
            self.save()
            raise Interrupted(f"{self.name} stopped at step {state.step}; the same command resumes from there")
        last = state.rows[-1] if state.rows else None
        shown = f", validation error {last.top1:.1f} %" if last else ""
        self.progress.advance(note=f"epoch {(state.step - 1) // self.steps + 1}, loss {loss:.3f}{shown}")
        if time.monotonic() - self.said > SAY_EVERY:
            self._tell()
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def _after_epoch(self, state: State) -> None:
        if self.at_chance == STALLED:
            self.progress.say(self.stalled_words())
        self._tell()
        self.save()

    def stalled_words(self) -> str:
        """Return the sentence that the net is not learning, and what may help."""
        chance = f"ln {self.classes} = {math.log(self.classes):.2f}"
        stays = f"the loss has been at {chance} for {self.at_chance} epochs"
        return f"{self.name}: {stays}: the net is not learning. {_ADVICE}"

    def _tell(self) -> None:
        """Write the run's progress for other processes to read."""
        self.said = time.monotonic()
        if not self.ranks.first:
            return
        state, steps, epochs = self.state, self.steps, self.recipe.epochs
        done = state.step % steps
        rate = self.progress.rate()
        left = (steps * epochs - state.step) / rate if rate else None
        top1 = state.rows[-1].top1 if state.rows else None
        loss = state.loss / done if done else None
        run = (self.name, asked(self.params, self.name), state.step, steps, epochs)
        tell(self.folder, Running(*run, loss, top1, left, *here(), self.at_chance, self.decoder))


_ADVICE = (
    "Try a smaller learning_rate in its recipe, or another net.init and net.input_scale: std 0.01 and glorot suit "
    "input_scale 1 at full width, he suits inputs of unit variance (docs/paper.md, Open choices)"
)


_NO_ROOM = (
    "the GPU ran out of memory. Is another process using it (nvidia-smi), or are there more --jobs than GPUs? "
    "The same command splits the batch into as many parts as needed, and resumes from the last checkpoint"
)


def _maker(init: str) -> str:
    """Return the command that makes the initial weights `init`."""
    net = init.removeprefix("random-")
    return f"vgg-repro weights random {net}" if net != init else f"vgg-repro train {init}"
