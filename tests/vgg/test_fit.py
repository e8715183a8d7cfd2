"""Training: the update against one by hand, the plateau rule, resuming to the bit, and what ends a run early."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.batches import CLASSES, IMAGES, NORMALISE, RECIPE, batch, small
from vgg.fit import (
    Callbacks,
    EpochRecord,
    State,
    StepConfig,
    TrainingSchedule,
    finish_epoch,
    fit,
    optimiser,
    stalled,
    train_loss,
)
from vgg.initialise import weighted
from vgg.nets import VGG
from vgg.stream import Batch

NOTHING: Callable[..., None] = lambda *_: None


def stream(seed: int, step: int = 0, one: bool = False) -> Iterator[Batch]:
    """Batches from `step` on, or the first for ever, with each one's own dropout."""
    while True:
        made = batch(seed, step)
        yield batch(seed, 0)._replace(keys=made.keys) if one else made
        step += 1


def copied(net: VGG) -> dict[str, Tensor]:
    """The weights now."""
    return {key: value.clone() for key, value in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all bits are."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def train(
    net: VGG, seed: int, recipe: TrainingSchedule = RECIPE, steps: int = 2, **more: Any
) -> tuple[State, list[float]]:
    """Fit `net` from the start; the state at the end and every step's loss."""
    state, losses = State(learning_rate=recipe.learning_rate), list[float]()
    hooks = Callbacks(more.pop("validate", lambda: (50.0, 10.0)), lambda _, loss, stop: losses.append(loss), NOTHING)
    batches = more.pop("batches", None) or stream(seed)
    sgd = optimiser(net, recipe, more.pop("layers", "all"))
    fit(net, sgd, batches, NORMALISE, recipe, state, steps, hooks, StepConfig(IMAGES, **more))
    return state, losses


def test_updates_are_sgds_with_momentum_and_weight_decay_on_everything(seed: int) -> None:
    recipe = replace(RECIPE, epochs=5, patience=1, weight_decay=0.05)
    net = small(seed, dropout=0.0).double()  # float64, so that no ReLU nor pool falls otherwise here and there
    reference, state = copy.deepcopy(net), State(learning_rate=recipe.learning_rate)
    wide: Any = lambda pixels, colour: NORMALISE(pixels, colour).double()
    hooks = Callbacks(lambda: (50.0, 10.0), NOTHING, NOTHING)
    fit(net, optimiser(net, recipe), stream(seed), wide, recipe, state, 1, hooks, StepConfig(IMAGES))

    velocity = {name: torch.zeros_like(w) for name, w in reference.named_parameters()}
    rates = [2e-3, 2e-3, 2e-4, 2e-5, 2e-6]  # after epoch 1 each is a plateau; the velocity is not rescaled
    for step, rate in enumerate(rates):
        pixels, labels, colour, _, _ = batch(seed, step)
        scores = reference(wide(pixels, colour)).flatten(1)
        powers = (scores - scores.max(1, keepdim=True).values).exp().detach()
        reference.zero_grad()
        scores.backward((powers / powers.sum(1, keepdim=True) - torch.eye(CLASSES)[labels]) / IMAGES)
        for name, weight in reference.named_parameters():
            velocity[name] = recipe.momentum * velocity[name] + weight.grad + recipe.weight_decay * weight.detach()
            weight.data -= rate * velocity[name]
    assert [row.learning_rate for row in state.rows] == pytest.approx(rates, rel=1e-12)
    begun = small(seed, dropout=0.0).double().state_dict()
    for name, weight in reference.named_parameters():
        moved = (weight - begun[name]).norm()
        # the loss is in float32, so gradients are good to 1e-7, and to 1e-6 after some layers
        assert (net.state_dict()[name] - weight).norm() < 1e-5 * moved, name


def test_the_loss_is_multinomial_logistic_regression(rng: np.random.Generator) -> None:
    scores, labels = rng.standard_normal((7, CLASSES)) * 10, rng.integers(0, CLASSES, 7)
    expected = np.mean([np.log(np.exp(row - row[label]).sum()) for row, label in zip(scores, labels, strict=True)])
    double, single, half = torch.float64, torch.float32, torch.bfloat16
    for dtype, loss, tolerance in ((double, double, 1e-13), (single, single, 1e-5), (half, single, 0.1)):
        got = train_loss(torch.from_numpy(scores).to(dtype)[:, :, None, None], torch.from_numpy(labels))
        assert got.dtype == loss
        assert got.item() == pytest.approx(expected, rel=tolerance)  # the scores' own rounding


def test_an_epochs_row_holds_its_mean_loss_and_what_validation_said(seed: int) -> None:
    errors = iter([(70.0, 30.0), (60.0, 20.0), (65.0, 25.0)])
    state, losses = train(small(seed), seed, steps=4, validate=lambda: next(errors))
    assert [(row.step, row.epoch, row.top1, row.topk) for row in state.rows] == [
        (4, 0, 70.0, 30.0),
        (8, 1, 60.0, 20.0),
        (12, 2, 65.0, 25.0),
    ]
    for epoch, row in enumerate(state.rows):
        assert row.loss == pytest.approx(np.mean(losses[4 * epoch : 4 * epoch + 4]), rel=1e-12)
        assert row.learning_rate == RECIPE.learning_rate and row.images_per_second > 0
    assert (state.step, len(losses), state.done, state.best, state.stale, state.loss) == (12, 12, True, 60.0, 1, 0.0)


def test_a_finished_run_trains_no_further(seed: int) -> None:
    net = small(seed)
    before, state = copied(net), State(step=6, done=True)
    hooks = Callbacks(lambda: (0, 0), NOTHING, NOTHING)
    fit(net, optimiser(net, RECIPE), iter([]), NORMALISE, RECIPE, state, 2, hooks, StepConfig(IMAGES))
    assert equal(copied(net), before) and state.step == 6


def test_validation_sees_the_updated_weights_and_training_goes_on_in_training_mode(seed: int) -> None:
    net, seen, modes = small(seed), [], []
    net.dropout1.register_forward_pre_hook(lambda module, _: modes.append(module.training))

    def validate() -> tuple[float, float]:
        net.eval()
        seen.append(copied(net))
        return 50.0, 10.0

    train(net, seed, validate=validate)
    assert modes == [True] * 6
    assert equal(seen[-1], copied(net)) and not equal(seen[0], seen[1])


def test_dropout_is_drawn_from_the_batches_keys_alone(seed: int) -> None:
    still = replace(RECIPE, learning_rate=0.0)
    runs = []
    for dropout in (0.5, 0.5, 0.0):
        torch.manual_seed(len(runs))  # what was drawn before must not matter
        runs.append(train(small(seed, dropout), seed, still, batches=stream(seed, one=True))[1])
    one, again, without = runs
    assert one == again
    assert len(set(one)) == len(one) and len(set(without)) == 1


@pytest.mark.parametrize("parts", [2, 3, IMAGES, IMAGES + 3])
def test_a_batch_in_parts_gives_the_same_updates(parts: int, seed: int) -> None:
    """In float64, where sums in another order differ by 1e-16 of their terms; dropout is part of it."""
    wide: Any = lambda pixels, colour: NORMALISE(pixels, colour).double()
    nets, losses = [small(seed).double() for _ in range(2)], [list[float](), list[float]()]
    begun = copied(nets[0])
    for net, kept, count in zip(nets, losses, (1, parts), strict=True):
        state = State(learning_rate=RECIPE.learning_rate)
        hooks = Callbacks(lambda: (50.0, 10.0), lambda _, loss, stop, kept=kept: kept.append(loss), NOTHING)
        fit(net, optimiser(net, RECIPE), stream(seed), wide, RECIPE, state, 2, hooks, StepConfig(IMAGES, parts=count))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    whole, summed = (copied(net) for net in nets)
    for name, value in whole.items():
        assert (value - summed[name]).norm() < 1e-11 * (value - begun[name]).norm(), name


def test_a_batch_in_parts_has_each_image_once(seed: int) -> None:
    whole = batch(seed, 0)
    for count in range(1, IMAGES + 3):
        parts = whole.parts(count)
        assert len(parts) == min(count, IMAGES)
        sizes = [len(part.ids) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        for joined, values in zip(map(list, zip(*parts, strict=True)), whole, strict=True):
            assert np.array_equal(np.concatenate(joined), values)


def test_the_share_of_time_that_the_net_waits_for_images_is_measured(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """By a clock that a batch moves by 3 s and a step by 1 s; an epoch has 2 of either, and one batch is ahead."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("vgg.fit.time", SimpleNamespace(monotonic=lambda: clock.now))
    real = torch.optim.SGD.step

    def step(self: torch.optim.SGD) -> None:
        clock.now += 1
        real(self)

    def slow() -> Iterator[Batch]:
        for made in stream(seed):
            clock.now += 3
            yield made

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    first, *others = train(small(seed), seed, batches=slow())[0].rows
    assert first.waited == pytest.approx(100 * 9 / 11)
    assert others and all(row.waited == pytest.approx(100 * 6 / 8) for row in others)


def test_gradients_that_are_queued_ahead_change_no_bit(seed: int) -> None:
    """Neither the weights that a callback sees, nor the losses, nor the end."""
    runs = []
    for ahead in (False, True):
        net = small(seed, dropout=0.5)
        seen = list[dict[str, Tensor]]()
        validate = partial(lambda net, seen: seen.append(copied(net)) or (50.0, 1.0), net, seen)
        state, losses = train(net, seed, steps=2, ahead=ahead, validate=validate)
        rows = [replace(row, images_per_second=0.0, waited=0.0) for row in state.rows]
        runs.append((losses, rows, [*seen, copied(net)]))
    (losses, rows, weights), (ahead_losses, ahead_rows, ahead_weights) = runs
    assert losses == ahead_losses and rows == ahead_rows and len(weights) > 2
    assert all(equal(one, other) for one, other in zip(weights, ahead_weights, strict=True))


@pytest.mark.parametrize(("layers", "ahead"), [("all", False), ("fc", False), ("all", True)])
def test_a_run_resumed_at_any_step_ends_with_the_same_bits(layers: str, ahead: bool, seed: int) -> None:
    recipe, steps = replace(RECIPE, epochs=4, patience=1), 2
    kept: dict[int, bytes] = {}

    def run(net: VGG, sgd: torch.optim.SGD, state: State) -> tuple[dict[str, Tensor], State]:
        def keep(state: State, loss: float = 0.0, stop: bool = False) -> None:
            file = io.BytesIO()
            torch.save({"net": net.state_dict(), "sgd": sgd.state_dict(), "state": state.as_dict()}, file)
            kept.setdefault(state.step, file.getvalue())

        def validate() -> tuple[float, float]:  # of the weights, and as careless of the generator as may be
            net.eval()
            torch.manual_seed(123)
            with torch.no_grad():
                scores = net(NORMALISE(batch(seed, 10**6).pixels))
            return float(scores.square().sum()), 0.0

        keep(state)
        hooks = Callbacks(validate, keep, NOTHING)
        config = StepConfig(IMAGES, ahead=ahead)
        fit(net, sgd, stream(seed, state.step), NORMALISE, recipe, state, steps, hooks, config)
        return copied(net), state

    net = small(seed)
    weights, state = run(net, optimiser(net, recipe, layers), State(learning_rate=recipe.learning_rate))
    assert len(kept) == state.step + 1 and state.done
    for step, saved in list(kept.items()):
        values = torch.load(io.BytesIO(saved), weights_only=True)
        net = small(seed + 1)
        sgd = optimiser(net, replace(recipe, learning_rate=77.0), layers)
        net.load_state_dict(values["net"])
        sgd.load_state_dict(values["sgd"])
        again, end = run(net, sgd, State.from_dict(values["state"]))
        assert equal(again, weights), step
        for one in (state, end):
            one.rows = [replace(row, images_per_second=0.0, waited=0.0) for row in one.rows]
        assert end == state, step


def test_fc_alone_leaves_the_convolutions_bits(seed: int) -> None:
    for layers in ("fc", "all"):
        net = small(seed)
        before = copied(net)
        train(net, seed, layers=layers)
        for key, value in net.state_dict().items():
            assert torch.equal(value, before[key]) == (layers == "fc" and key.startswith("conv")), (layers, key)


def test_all_layers_learn_again_after_an_fc_only_optimiser(seed: int) -> None:
    net = small(seed)
    optimiser(net, RECIPE, "fc")
    assert sum(len(group["params"]) for group in optimiser(net, RECIPE).param_groups) == 2 * len(weighted(net))


@pytest.mark.parametrize(("bias", "loss"), [(math.nan, "nan"), (-math.inf, "inf")])
def test_a_loss_that_is_not_finite_ends_training_before_anything_is_kept(bias: float, loss: str, seed: int) -> None:
    net, state, kept = small(seed), State(learning_rate=RECIPE.learning_rate), list[int]()
    sgd = optimiser(net, RECIPE)

    def after_step(state: State, loss: float, stop: bool) -> None:
        kept.append(state.step)
        if state.step == 3:
            with torch.no_grad():
                net.fc3.bias[batch(seed, 3).labels[0]] = bias

    hooks = Callbacks(lambda: (50.0, 10.0), after_step, NOTHING)
    with pytest.raises(FloatingPointError, match=f"loss is {loss} at step 3"):
        fit(net, sgd, stream(seed), NORMALISE, RECIPE, state, 2, hooks, StepConfig(IMAGES))
    assert kept == [1, 2, 3] and state.step == 3


def test_bfloat16_keeps_weights_and_loss_in_float32(seed: int) -> None:
    losses = []
    for bfloat16 in (False, True):
        net = small(seed, dropout=0.0)
        net.fc3.weight.data *= 0.1  # scores below one, so that the tolerance holds for any draw
        losses.append(train(net, seed, bfloat16=bfloat16)[1])
        assert all(weight.dtype == torch.float32 for weight in net.state_dict().values())
    wide, narrow = losses
    assert narrow != wide
    assert narrow[0] == pytest.approx(wide[0], abs=0.1)  # scores to 8 bits a layer, over 11 layers


# The plateau rule


def run(recipe: TrainingSchedule, errors: Iterator[float] | list[float]) -> list[float]:
    """The learning rates of the epochs that a run with these validation errors has."""
    state, steps, rates = State(learning_rate=recipe.learning_rate), 10, []
    for error in errors:
        rates.append(state.learning_rate)
        state.step += steps
        state.loss = steps * 1.5
        finish_epoch(state, recipe, steps, (error, error / 2), 100.0, 7.0)
        last = state.rows[-1]
        assert last == EpochRecord(state.step, len(rates) - 1, 1.5, rates[-1], error, error / 2, 100.0, 7.0)
        assert state.loss == 0.0 and state.best == min(row.top1 for row in state.rows)
        if state.done:
            return rates
    raise AssertionError("the errors did not last to the end")


def rule(**more: float) -> TrainingSchedule:
    """A recipe of rate 1 in which nothing but the plateau rule acts until the cap of 50 epochs."""
    return TrainingSchedule(
        **{**vars(TrainingSchedule(1.0, 50, 0.9, 5e-4, drops=3, patience=2, first_drop=0, tail=0)), **more}
    )


def expected(*epochs: int) -> Any:
    """That many epochs at 1, at 0.1, at 0.01 ..."""
    return pytest.approx([0.1**drop for drop, count in enumerate(epochs) for _ in range(count)], rel=1e-12)


def falling(first: float = 90.0) -> Iterator[float]:
    """Errors that fall for ever."""
    while True:
        yield first
        first *= 0.99


def test_while_the_error_falls_the_rate_stays_until_the_cap() -> None:
    assert run(rule(epochs=20), falling()) == expected(20)


def test_patience_epochs_without_improvement_are_a_drop_and_after_the_drops_the_end() -> None:
    assert run(rule(), [50.0] * 50) == expected(3, 2, 2, 2)
    assert run(rule(patience=1), [50.0] * 50) == expected(2, 1, 1, 1)
    assert run(rule(drops=1, patience=4), [50.0] * 50) == expected(5, 4)
    assert run(rule(drops=0), [50.0] * 50) == expected(3)


def test_an_improvement_begins_the_count_anew_and_equal_is_none() -> None:
    assert run(rule(drops=1), [50, 51, 49, 49, 49, 48, 48, 47, 47, 47]) == expected(5, 5)


def test_after_a_drop_an_error_must_still_beat_the_best_before_it() -> None:
    assert run(rule(drops=1), [50, 60, 60, 55, 54]) == expected(3, 2)


def test_the_cap_ends_a_run_with_drops_left() -> None:
    assert run(rule(epochs=4), [50.0] * 50) == expected(3, 1)
    assert run(rule(epochs=1), [50.0]) == expected(1)


def test_no_drop_and_no_end_before_first_drop() -> None:
    assert run(rule(first_drop=10), [50.0] * 50) == expected(10, 2, 2, 2)
    assert run(rule(first_drop=10, drops=0), [50.0] * 50) == expected(10)
    assert run(rule(first_drop=3), [50.0] * 50) == expected(3, 2, 2, 2)
    improving = [50.0] * 9 + [40.0] * 50  # the count stands at 0 when first_drop comes
    assert run(rule(first_drop=10, drops=1), improving) == expected(12, 2)


def test_the_tail_has_a_drop_that_no_plateau_made() -> None:
    assert run(rule(epochs=10, tail=3), falling()) == expected(7, 3)
    assert run(rule(epochs=10, tail=9), falling()) == expected(1, 9)
    assert run(rule(epochs=10, tail=0), falling()) == expected(10)
    assert run(rule(epochs=10, tail=10), falling()) == expected(1, 9), "the first epoch comes before any drop"
    assert run(rule(epochs=2, tail=99), falling()) == expected(1, 1)
    assert run(rule(epochs=1, tail=3), falling()) == expected(1)
    assert run(rule(epochs=10, tail=3, drops=0), falling()) == expected(10)


def test_the_tail_adds_nothing_to_a_rate_that_has_fallen() -> None:
    assert run(rule(epochs=10, tail=3), [50, 50, 50, 49, 48, 47, 46, 45, 44, 43]) == expected(3, 7)


def test_whatever_the_errors_the_rule_keeps_its_bounds(rng: np.random.Generator) -> None:
    for _ in range(300):
        epochs = int(rng.integers(2, 25))
        recipe = rule(
            epochs=epochs,
            drops=int(rng.integers(0, 4)),
            patience=int(rng.integers(1, 5)),
            first_drop=int(rng.integers(0, epochs)),
            tail=int(rng.integers(0, epochs + 3)),
        )
        errors = [float(error) for error in rng.integers(0, 40, epochs)]
        rates = run(recipe, errors)
        fell = [epoch for epoch, (one, other) in enumerate(pairwise(rates), 1) if other < one]
        case = (recipe, errors, rates)
        assert len(fell) <= recipe.drops and len(rates) <= epochs, case
        assert rates == expected(*np.diff([0, *fell, len(rates)])), case
        begins = max(1, epochs - recipe.tail)  # the tail
        assert all(epoch >= min(recipe.first_drop, begins) for epoch in fell), case
        for epoch in fell:  # each after a plateau, or where the tail begins
            turn = max(0, epoch - recipe.patience)
            plateau = turn > 0 and min(errors[turn:epoch]) >= min(errors[:turn])
            assert plateau or epoch == begins, case
        if recipe.drops and len(rates) == epochs:
            assert all(rate < 1 for rate in rates[begins:]), case
        if len(rates) < epochs:
            best = min(errors[: len(rates) - recipe.patience])
            assert min(errors[len(rates) - recipe.patience : len(rates)]) >= best, case
            assert len(fell) == recipe.drops, case


def test_a_state_survives_being_written(rng: np.random.Generator) -> None:
    row = EpochRecord(10, 0, *map(float, rng.uniform(0, 9, 6)))
    for state in (State(), State(20, 0.01, 1, 40.0, 2, 3.5, True, [row, replace(row, step=20, epoch=1)])):
        file = io.BytesIO()
        torch.save(state.as_dict(), file)
        file.seek(0)
        assert State.from_dict(torch.load(file, weights_only=True)) == state


def test_stalled_counts_the_last_epochs_at_chance() -> None:
    chance = math.log(10)
    for losses, count in (
        ([], 0),
        ([0.9], 0),
        ([1.0], 1),
        ([1.0, 1.005, 0.995], 3),
        ([0.5, 1.0, 1.0], 2),
        ([1.0, 1.0, 0.98], 0),
        ([1.0, 1.0, 1.02], 0),
        ([1.0, 0.5, 1.0], 1),
        ([1.0095, 0.9905], 2),
    ):
        state = State(
            rows=[EpochRecord(0, i, share * chance, 0.01, 90.0, 50.0, 1.0, 0.0) for i, share in enumerate(losses)]
        )
        assert stalled(state, 10) == count, losses
        assert stalled(state, 1000) == 0, losses
