"""Nets, steps and scores on a pretended GPU: as on a CPU, to the bit, and without waiting for what need not be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretend import CPU, WHERE, Compiled, Event, Others, Pretend, pretended, same, values
from test_fit import CLASSES, CROP, NORMALISE, RECIPE
from test_fit import batch as cpu_batch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vgg import fit
from vgg.fit import Clock, How, gradients, momenta, optimiser, train_loss
from vgg.gpu import compiled, parts_that_fit
from vgg.images import Rescaled
from vgg.initialise import randomise, warm_start
from vgg.nets import NETS, VGG
from vgg.ranks import ALONE, Ranks, data_parallel
from vgg.score import AHEAD, MODES, Scorer
from vgg.stream import Batch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here and need not be pretended")
IMAGES = 4  # of a batch of test_fit's


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Two GPUs, of which this process has the second."""
    with pretended(monkeypatch) as mode:
        yield mode


def small(net: str, seed: int, where: torch.device = CPU) -> VGG:
    """A narrow net, moved as the trainer moves it."""
    made = VGG(net, CLASSES, crop=CROP, width=1 / 16, fc=16).to(where)
    made.to(memory_format=torch.channels_last)
    randomise(made, "he", 0.01, None, seed)
    return made


# What stands in for a GPU


def test_what_a_gpu_refuses_is_refused_here(gpu: Pretend) -> None:
    here, there, first = torch.ones(3), torch.ones(3, device=WHERE), torch.ones(3, device="cuda:0")
    assert there.is_cuda and (there + 1).device == WHERE and torch.zeros(1, device="cuda").device == WHERE
    refused: list[Callable[[], object]] = [
        lambda: there + here,
        lambda: there + first,
        lambda: torch.stack([there.sum(), here.sum()]),
        lambda: there.normal_(generator=torch.Generator()),
        lambda: torch.randn(3, generator=torch.Generator(), device=WHERE),
        lambda: nn.Linear(3, 3)(there),
        lambda: there.numpy(),
    ]
    for what in refused:
        with pytest.raises((RuntimeError, TypeError)):
            what()
    assert gpu.waits == []
    quick: list[Callable[[], object]] = [
        lambda: there + here.sum(),
        lambda: here.pin_memory().to(WHERE, non_blocking=True),
        lambda: torch.zeros((), dtype=torch.float64, device=WHERE).add_(there.sum()),
        lambda: there[1:],
    ]
    for what in quick:
        what()
    assert gpu.waits == []
    slow: list[Callable[[], object]] = [
        lambda: here.to(WHERE),
        lambda: here.to(WHERE, non_blocking=True),
        lambda: here.pin_memory().to(WHERE),
        lambda: there.cpu(),
        lambda: there.tolist(),
        lambda: float(there.sum()),
        lambda: there[there > 0],
        lambda: there[torch.tensor([0, 2])],
        lambda: here.copy_(there),
        torch.cuda.synchronize,
    ]
    for number, what in enumerate(slow):
        gpu.waits.clear()
        what()
        assert gpu.waits, number


def test_a_gpu_refuses_the_same_in_inference_mode(gpu: Pretend) -> None:
    with torch.inference_mode():
        here, there = torch.ones(3), torch.ones(3, device=WHERE)
        with pytest.raises(RuntimeError):
            _ = there + here
        with pytest.raises(RuntimeError):
            nn.functional.linear(there, torch.ones(3, 3))
        assert gpu.waits == [] and there.cpu().device == CPU and len(gpu.waits) == 1
        assert here.to(WHERE).device == WHERE and len(gpu.waits) == 2


def test_the_memory_of_what_is_gone_is_free(gpu: Pretend) -> None:
    before = gpu.bytes()
    some = torch.ones(1000, device=WHERE)
    view = some[500:] + 0
    assert gpu.bytes() - before == 6000
    del some
    assert gpu.bytes() - before == 2000 and view.device == WHERE


# A step


def handed_over(seed: int, where: torch.device = WHERE) -> Batch:
    """A batch as DALI's stream hands it over: pixels on the GPU, all else on the CPU."""
    made = cpu_batch(seed, 0)
    return made._replace(pixels=made.pixels.to(where))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("net", NETS)
def test_a_step_on_a_gpu_is_a_cpus_and_waits_for_nothing(
    net: str, parts: int, bfloat16: bool, gpu: Pretend, seed: int
) -> None:
    found: dict[torch.device, tuple[Tensor, list[Tensor | None]]] = {}
    for where in (CPU, WHERE):
        made, batch, normalise = small(net, seed, where).train(), handed_over(seed, where), NORMALISE.to(where)
        gpu.waits.clear()
        loss = gradients(made, batch, normalise, How(IMAGES, where, bfloat16, parts))
        assert gpu.waits == []
        assert loss.device == where and loss.dtype == torch.float64
        found[where] = loss, [weight.grad for weight in made.parameters()]
        for name, weight in made.named_parameters():
            assert weight.grad is not None and weight.grad.device == where, name
            assert weight.grad.dtype == torch.float32 and weight.grad.shape == weight.shape, name
    (wanted, expected), (loss, got) = found[CPU], found[WHERE]
    assert same([loss], [wanted]) and same(got, expected)


def test_a_batch_goes_to_a_gpu_from_pinned_memory_and_pixels_that_are_there_stay(gpu: Pretend, seed: int) -> None:
    batch = handed_over(seed)
    gpu.waits.clear()
    moved = batch.to(WHERE)
    assert gpu.waits == [] and moved.pixels is batch.pixels
    assert {one.device for one in moved[:4]} == {WHERE}
    assert same(moved[:4], batch[:4]) and np.array_equal(moved.ids, batch.ids)
    assert all(part.keys.device == WHERE for part in moved.parts(3))
    assert batch.to(CPU) is batch


@pytest.mark.parametrize("bfloat16", [False, True])
def test_lrn_and_the_last_layer_are_in_float32_under_a_gpus_autocast(bfloat16: bool, gpu: Pretend, seed: int) -> None:
    made, seen = small("A-LRN", seed, WHERE), dict[tuple[int, ...], torch.dtype]()
    real = nn.functional.conv2d
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 3, CROP, CROP), np.float32)).to(WHERE)

    def look(x: Tensor, weight: Tensor, *more: Any) -> Tensor:
        found = real(x, weight, *more)
        seen[tuple(weight.shape)] = found.dtype
        return found

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
        patch.setattr(nn.functional, "conv2d", look)
        scores = made.eval()(x)
    wide = [(made.lrn1.channels, made.lrn1.channels, 1, 1), tuple(made.fc3.weight.shape)]
    assert {seen.pop(shape) for shape in wide} == {torch.float32} == {scores.dtype}
    assert set(seen.values()) == {torch.bfloat16 if bfloat16 else torch.float32}


def test_only_the_last_part_of_a_batch_exchanges_gradients_compiled_or_not(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    class Averaging(nn.Module):
        """What DistributedDataParallel is to a step."""

        def __init__(self, net: VGG) -> None:
            super().__init__()
            self.net, self.exchanged, self.quiet = net, list[bool](), False

        def forward(self, *given: Tensor) -> Tensor:
            self.exchanged.append(not self.quiet)
            return self.net(*given)

        def no_sync(self) -> AbstractContextManager[None]:
            return Quiet(self)

    class Quiet(nullcontext[None]):
        def __init__(self, inner: Averaging) -> None:
            self.inner = inner

        def __enter__(self) -> None:
            self.inner.quiet = True

        def __exit__(self, *_: object) -> None:
            self.inner.quiet = False

    monkeypatch.setattr(fit, "DistributedDataParallel", Averaging)
    batch, how = cpu_batch(seed, 0), How(IMAGES, parts=3)
    plain, made = Averaging(small("A", seed)), Averaging(small("A", seed))
    gradients(plain, batch, NORMALISE, how)
    gradients(Compiled(made), batch, NORMALISE, how)
    assert plain.exchanged == made.exchanged == [False, False, True]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """One process that can exchange gradients, with itself."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_what_is_tried_before_training_leaves_the_exchange_of_gradients_as_it_was(
    group: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Both trials, the first of them on the net behind the exchange's back."""
    monkeypatch.setattr(torch, "compile", lambda model, **_: Compiled(model))
    found, batch = list[list[Tensor | None]](), cpu_batch(seed, 0)
    for exchanging in (False, True):
        net = small("A-LRN", seed)
        model = data_parallel(net, CPU, Ranks(0, 2)) if exchanging else net
        if exchanging:
            assert parts_that_fit(net, IMAGES, CROP, False) == 1
            model = compiled(model, net, IMAGES, CROP, False, ALONE, print)
            assert isinstance(model, Compiled)
        for _ in range(2):
            net.zero_grad()
            gradients(model.train(), batch, NORMALISE, How(IMAGES, parts=2))
        found.append([weight.grad for weight in net.parameters()])
    assert same(*found)


def test_processes_exchange_nothing_in_a_forward_pass(group: None, seed: int) -> None:
    """A process that fails to compile keeps the others waiting otherwise; LRN's matrix never changes."""
    made = data_parallel(small("A-LRN", seed), CPU, Ranks(0, 2))
    assert isinstance(made, DistributedDataParallel) and not made.will_sync_module_buffers()


def test_a_net_of_several_processes_is_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    made = list[Any]()
    monkeypatch.setattr("vgg.ranks.DistributedDataParallel", lambda net, ids, **_: made.append(ids) or nn.Module())
    net = small("A", seed)
    for where, wanted in ((WHERE, [WHERE.index]), (CPU, None)):
        data_parallel(net, where, Ranks(1, 2))
        assert made.pop() == wanted
    assert data_parallel(net, WHERE, ALONE) is net and not made


def test_an_epochs_clock_waits_for_the_gpu_once_at_its_end(gpu: Pretend, seed: int) -> None:
    def slow() -> Iterator[Batch]:
        while True:
            time.sleep(0.2)
            yield cpu_batch(seed, 0)

    clock, batches = Clock(WHERE, 5), slow()
    for _ in range(3):
        clock.fetch(batches)
    assert gpu.waits == []
    rate, waited = clock.stop(8)
    assert gpu.waits == ["synchronize"]
    assert 0 < rate < 3 / 0.6 and 50 < waited <= 100


# Weights and the optimiser


@pytest.mark.parametrize("kind", ["normal", "glorot", "he"])
def test_weights_drawn_onto_a_gpu_are_those_drawn_onto_a_cpu(kind: str, gpu: Pretend, seed: int) -> None:
    nets = [VGG("A-LRN", CLASSES, CROP, 1 / 16, 16).to(where) for where in (CPU, WHERE)]
    nets[1].to(memory_format=torch.channels_last)
    for net in nets:
        randomise(net, kind, 0.01, 0.02, seed)
    assert {one.device for one in nets[1].state_dict().values()} == {WHERE}
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert nets[0].conv1_1.weight.std() > 0


def test_a_net_on_a_gpu_begins_from_weights_on_the_cpu(gpu: Pretend, seed: int) -> None:
    start = small("A", seed).state_dict()
    for net, same_net in (("A", True), ("D", False)):
        made, wanted = small(net, seed + 1, WHERE), small(net, seed + 1)
        assert warm_start(made, start, same_net) == warm_start(wanted, start, same_net)
        assert same(made.state_dict(), wanted.state_dict())
        assert {one.device for one in made.state_dict().values()} == {WHERE}
        assert torch.equal(made.fc1.weight.cpu(), start["fc1.weight"])


def stepped(net: VGG, seed: int, where: torch.device, **more: Any) -> torch.optim.SGD:
    """The net's optimiser after a step."""
    sgd = optimiser(net, RECIPE, **more)
    gradients(net.train(), handed_over(seed, where), NORMALISE.to(where), How(IMAGES, where))
    sgd.step()
    return sgd


@pytest.mark.parametrize("layers", ["all", "fc"])
def test_the_optimiser_is_fused_on_a_gpu_and_steps_there(layers: str, gpu: Pretend, seed: int) -> None:
    net, wanted = small("A", seed, WHERE), small("A", seed)
    gpu.waits.clear()
    sgd, other = stepped(net, seed, WHERE, layers=layers), stepped(wanted, seed, CPU, layers=layers)
    assert [group["fused"] for group in (*sgd.param_groups, *other.param_groups)] == [True, False]
    assert {one.device for one in (*net.parameters(), *momenta(sgd))} == {WHERE}
    for one, expected in zip(values(net.parameters()), values(wanted.parameters()), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-6, atol=1e-7)  # fused, a product and sum round once
    assert len(momenta(sgd)) == (len(list(net.parameters())) if layers == "all" else 6)


def test_velocities_that_are_not_there_yet_are_zeros_on_the_gpu(gpu: Pretend, seed: int) -> None:
    net = small("A", seed, WHERE)
    found = momenta(optimiser(net, RECIPE))
    assert {one.device for one in found} == {WHERE} and not any(one.any() for one in values(found))
    assert [one.shape for one in found] == [weight.shape for weight in net.parameters()]


# Scoring


NO_ROOM = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("GET was unable to find an engine to execute this computation"),  # cudnn's words for the same
)


def cramped(monkeypatch: pytest.MonkeyPatch, most: float, error: RuntimeError = NO_ROOM[0]) -> list[int]:
    """No net has memory for more than `most` images from here on; how many each has been asked for."""
    real, sizes = VGG.forward, list[int]()

    def forward(self: VGG, x: Tensor, keys: Tensor | None = None) -> Tensor:
        sizes.append(len(x))
        found = real(self, x, keys)
        if len(x) > most:
            raise type(error)(*error.args)  # a new one: the traceback of the old one would keep memory
        return found

    monkeypatch.setattr(VGG, "forward", forward)
    return sizes


def pictures(rng: np.random.Generator, where: torch.device) -> list[Rescaled]:
    """Four batches, of two shapes, on the device where DALI has decoded them."""
    found = []
    for first, side in enumerate((40, 40, 40, 75)):
        pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 40, side), np.uint8))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        found.append(Rescaled(pixels.to(where), np.array([2 * first, 2 * first + 1])))
    return found


class Watched(Scorer):
    """A scorer that notes where its posteriors are before they are brought to the CPU, and what has waited by then."""

    def _scored(self, *given: Any) -> list[tuple[NDArray[np.int64], Tensor]]:
        found = super()._scored(*given)
        self.places, self.waited = {means.device for _, means in found}, len(Event.gpu.waits)
        return found


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("mean", ["before_softmax", "after_softmax"])
@pytest.mark.parametrize("mode", MODES)
def test_scores_of_a_gpu_are_a_cpus_and_come_to_the_cpu_at_the_end(
    mode: str, mean: str, bfloat16: bool, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("vgg.score.GRID", 2)  # 8 crops instead of 50
    monkeypatch.setattr(Event, "gpu", gpu, raising=False)
    found = list[NDArray[np.float32]]()
    for where in (CPU, WHERE):
        batches = pictures(np.random.default_rng(seed), where)
        scorer = Watched(small("A-LRN", seed, where), NORMALISE.to(where), CROP, where, bfloat16, mean)
        gpu.waits.clear()
        found.append(scorer.posteriors(batches, 9, MODES[mode]))
        events = 0 if where == CPU else len(batches) - AHEAD  # a GPU is always given some batches to work on
        assert scorer.places == {where} and scorer.waited == events
        assert gpu.waits[:events] == ["event"] * events and "event" not in gpu.waits[events:]
    wanted, got = found
    assert got.dtype == np.float32 and np.isnan(got[8]).all() and np.isfinite(got[:8]).all()
    assert np.array_equal(got, wanted, equal_nan=True)
    np.testing.assert_allclose(got[:8].sum(1), 1, rtol=0, atol=1e-5)  # float32's soft-max


@pytest.mark.parametrize("error", NO_ROOM)
def test_a_gpu_that_has_run_out_of_memory_scores_in_parts_with_nothing_left_of_the_failure(
    error: RuntimeError, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (7, 3, 40, 50), np.uint8)).to(WHERE)
    scorer = Scorer(small("A", seed, WHERE), NORMALISE.to(WHERE), CROP, WHERE)
    whole = scorer.posteriors([Rescaled(pixels, np.arange(7))], 7, MODES["dense"])
    before, sizes = gpu.bytes(), cramped(monkeypatch, 2, error)
    got = scorer.posteriors([Rescaled(pixels, np.arange(7))], 7, MODES["dense"])
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-6)  # float32; another batch size is another order of sums
    assert sizes[0] == 7 and max(sizes[-7:]) <= 2
    assert gpu.emptied and max(gpu.emptied) == before


# What is tried before training


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(("most", "tried"), [(99, [11]), (5, [11, 6, 3]), (6, [11, 6]), (1, [11, 6, 3, 2, 1])])
def test_a_batch_is_halved_until_it_fits(
    most: int, tried: list[int], bfloat16: bool, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net = small("A-LRN", seed, WHERE)
    before, weights, state = gpu.bytes(), 4 * sum(one.numel() for one in net.parameters()), values(net.state_dict())
    sizes = cramped(monkeypatch, most)
    assert parts_that_fit(net, 11, CROP, bfloat16) == 2 ** (len(tried) - 1)
    assert sizes == tried
    assert all(one.grad is None for one in net.parameters()) and same(net.state_dict(), state)
    # momentum and what is exchanged, and no more of what did not fit
    assert gpu.emptied == [before + 2 * weights] * (len(tried) - 1) + [before]
    assert gpu.bytes() == before


@pytest.mark.parametrize("error", NO_ROOM)
def test_a_gpu_without_room_for_one_image_is_an_error(
    error: RuntimeError, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    sizes = cramped(monkeypatch, 0, error)
    with pytest.raises(type(error), match=r"out of memory|unable to find an engine"):
        parts_that_fit(small("A", seed, WHERE), 5, CROP, False)
    assert sizes == [5, 3, 2, 1]


def test_another_failure_is_not_taken_for_a_lack_of_memory(
    gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    sizes = cramped(monkeypatch, 0, RuntimeError("an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        parts_that_fit(small("A", seed, WHERE), 5, CROP, False)
    assert sizes == [5]


def test_memory_is_tried_with_the_weights_momentum_and_gradients(
    gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net, seen = small("A", seed, WHERE), list[int]()
    weights = 4 * sum(one.numel() for one in net.parameters())
    net.register_forward_pre_hook(lambda *_: seen.append(gpu.bytes()))
    parts_that_fit(net, 3, CROP, False)
    crops = 3 * 3 * CROP * CROP * 4
    assert len(seen) == 1 and seen[0] >= 3 * weights + crops


@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_compiles_is_taken_for_the_shape_that_training_has(
    bfloat16: bool, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    asked, said = list[dict[str, Any]](), list[str]()
    monkeypatch.setattr(torch, "compile", lambda model, **how: asked.append(how) or Compiled(model))
    net = small("A-LRN", seed, WHERE)
    before = values(net.state_dict())
    made = compiled(net, net, 3, CROP, bfloat16, Others(0, 2), said.append)
    assert isinstance(made, Compiled) and made._orig_mod is net
    assert made.shapes == [(3, 3, CROP, CROP)] and asked == [{"dynamic": False}] and said == []
    assert all(one.grad is None for one in net.parameters()) and same(net.state_dict(), before)
    assert next(made.parameters()) is next(net.parameters())


REASON = "Triton: no such GPU\n  and more"


def fails_at_once(model: nn.Module, **_: Any) -> nn.Module:
    raise RuntimeError(REASON)


def fails_at_the_first_run(model: nn.Module, **_: Any) -> nn.Module:
    return Compiled(model, RuntimeError(REASON))


def fails_without_a_word(model: nn.Module, **_: Any) -> nn.Module:
    return Compiled(model, AssertionError())


@pytest.mark.parametrize(
    ("fails", "named"),
    [(fails_at_once, ": Triton: no such GPU"), (fails_at_the_first_run, ": Triton: no such GPU"),
     (fails_without_a_word, ": AssertionError")],
)  # fmt: skip
def test_where_compiling_fails_training_goes_on_without_and_says_why(
    fails: Callable[..., nn.Module], named: str, gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    said, resets, net = list[str](), list[bool](), small("A", seed, WHERE)
    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(True))
    assert compiled(net, net, 3, CROP, False, ALONE, said.append) is net
    (line,) = said
    assert line.endswith(named) and "without" in line and "\n" not in line
    assert resets and all(one.grad is None for one in net.parameters())


def test_all_processes_go_without_what_one_cannot_compile(
    gpu: Pretend, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: Compiled(model))
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    said, net, ranks = list[str](), small("A", seed, WHERE), Others(0, 2)
    monkeypatch.setattr(Others, "largest", 1)
    assert compiled(net, net, 3, CROP, False, ranks, said.append) is net
    (line,) = said
    assert line.endswith("in another process")


@pytest.mark.parametrize("net", ["A-LRN", "C"])
def test_a_net_is_traced_whole_and_its_gradients_are_the_same(net: str, seed: int) -> None:
    """fullgraph refuses any break; LRN is in the one and 1x1 convolutions in the other."""
    torch.compiler.reset()
    pixels, labels, colour, keys, _ = cpu_batch(seed, 0)
    x, found = NORMALISE(pixels, colour), list[list[Tensor]]()
    for trace in (False, True):
        made: Any = small(net, seed).train()
        model = torch.compile(made, backend="aot_eager", fullgraph=True, dynamic=False) if trace else made
        train_loss(model(x, keys), labels).backward()
        found.append([weight.grad for weight in made.parameters()])
    torch.compiler.reset()
    for one, other in zip(*found, strict=True):
        # the same kernels, but for operators taken apart, whose products round once more: 1e-7 a layer
        assert (one - other).norm() <= 1e-5 * one.norm()
        assert one.norm() > 0
