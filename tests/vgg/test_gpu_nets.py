"""Nets, steps and scores for a GPU, on machines without one: torch's meta device, and failures that are made up.

A tensor of the meta device has no values: it cannot be read, and it does not meet a CPU's tensor. So what runs there
leaves nothing on the CPU and waits for no result.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel

from tests.support.batches import CLASSES, CROP, NORMALISE, RECIPE
from tests.support.batches import batch as cpu_batch
from vgg import fit
from vgg.distributed import ALONE, Ranks, data_parallel
from vgg.fit import CPU, Clock, StepConfig, gradients, momenta, optimiser, train_loss
from vgg.gpu import compiled, parts_that_fit
from vgg.images import Rescaled
from vgg.initialise import randomise, warm_start, weighted
from vgg.nets import VGG
from vgg.score import AHEAD, VIEWS, Scorer
from vgg.stream import Batch

META, GPU = torch.device("meta"), torch.device("cuda", 1)
IMAGES = 4  # of a batch


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch find no GPU where there is one: it would ask for memory on the made-up second one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def small(net: str, seed: int, where: torch.device = CPU) -> VGG:
    """Return a narrow net, moved as the trainer moves it."""
    made = VGG(net, CLASSES, crop=CROP, width=1 / 16, fc=16).to(where)
    made.to(memory_format=torch.channels_last)
    randomise(made, "he", 0.01, None, seed)
    return made


def same(found: list[Any], wanted: list[Any]) -> bool:
    """Return whether all bits are."""
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


class Compiled(nn.Module):
    """What torch.compile makes of a module, as far as it matters here."""

    def __init__(self, inner: nn.Module, fails: Exception | None = None) -> None:
        super().__init__()
        self._orig_mod, self.fails, self.shapes = inner, fails, list[torch.Size]()

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        self.shapes.append(x.shape)
        scores: Tensor = self._orig_mod(x, keys)
        if self.fails:
            raise self.fails
        return scores


# A step


@pytest.fixture
def autocasts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What autocast is asked for, which does not know the meta device; its memory is pinned without a driver."""
    asked = list[tuple[Any, ...]]()
    fake = lambda kind, dtype=None, enabled=True: asked.append((kind, dtype, enabled)) or nullcontext()
    monkeypatch.setattr(torch, "autocast", fake)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    return asked


def test_a_step_is_computed_where_the_net_is_and_reads_nothing_back(
    autocasts: list[tuple[Any, ...]], seed: int
) -> None:
    made, batch = small("A-LRN", seed, META).train(), cpu_batch(seed, 0)
    handed_over = batch._replace(pixels=batch.pixels.to(META))  # as DALI does: pixels on the GPU, all else on the CPU
    loss = gradients(made, handed_over, NORMALISE.to(META), StepConfig(IMAGES, META, True, parts=3))
    assert loss.device == META and loss.dtype == torch.float64
    assert autocasts.count(("meta", torch.bfloat16, True)) == 3
    for name, weight in made.named_parameters():
        assert weight.grad is not None and weight.grad.device == META, name
        assert weight.grad.dtype == torch.float32 and weight.grad.shape == weight.shape, name


def test_a_batch_goes_to_a_gpu_from_pinned_memory_and_pixels_that_are_there_stay() -> None:
    def tensor(name: str, is_cuda: bool) -> Any:
        pinned = SimpleNamespace(to=lambda device, non_blocking: (name, device, non_blocking))
        return SimpleNamespace(is_cuda=is_cuda, pin_memory=lambda: pinned)

    batch = Batch(tensor("pixels", True), *(tensor(name, False) for name in ("labels", "colour", "keys")), np.arange(2))
    moved = batch.to(GPU)
    assert moved[:4] == (batch.pixels, ("labels", GPU, True), ("colour", GPU, True), ("keys", GPU, True))
    assert moved.ids is batch.ids and batch.to(CPU) is batch


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

        @contextmanager
        def no_sync(self) -> Iterator[None]:
            self.quiet = True
            yield
            self.quiet = False

    monkeypatch.setattr(fit, "DistributedDataParallel", Averaging)
    made = Averaging(small("A", seed))
    for model in (made, Compiled(made)):
        gradients(model, cpu_batch(seed, 0), NORMALISE, StepConfig(IMAGES, parts=3))
    assert made.exchanged == [False, False, True] * 2


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
    runs, batch = list[list[Tensor | None]](), cpu_batch(seed, 0)
    for exchanging in (False, True):
        net = small("A-LRN", seed)
        model = data_parallel(net, CPU, Ranks(0, 2)) if exchanging else net
        if exchanging:
            # a process that fails to compile keeps the others waiting if a forward pass exchanges anything
            assert isinstance(model, DistributedDataParallel) and not model.will_sync_module_buffers()
            assert parts_that_fit(net, IMAGES, CROP, False) == 1
            model = compiled(model, net, IMAGES, CROP, False, ALONE, print)
            assert isinstance(model, Compiled)
        for _ in range(2):
            net.zero_grad()
            gradients(model.train(), batch, NORMALISE, StepConfig(IMAGES, parts=2))
        runs.append([weight.grad for weight in net.parameters()])
    assert same(*runs)


def test_a_net_of_several_processes_is_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg.distributed.DistributedDataParallel", lambda net, ids, **_: ids)
    net = nn.Module()
    assert data_parallel(net, GPU, Ranks(1, 2)) == [1] and data_parallel(net, CPU, Ranks(1, 2)) is None
    assert data_parallel(net, GPU, ALONE) is net


def test_an_epochs_clock_waits_for_the_gpu_once_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            happened.append("recorded")

        def elapsed_time(self, end: Event) -> float:
            assert happened[-1] == GPU, "nobody has waited for the GPU"
            return 1000.0  # milliseconds

    happened, now = list[Any](), iter([100.0, 108.0])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", happened.append)
    monkeypatch.setattr("vgg.fit.time", SimpleNamespace(monotonic=lambda: next(now)))
    clock, batches = Clock(GPU, 5), iter(["first", "second"])
    assert [clock.fetch(batches) for _ in range(2)] == ["first", "second"]
    assert clock.stop(9) == (0.5, 25.0)
    assert happened == ["recorded"] * 4 + [GPU]


# Weights and the optimiser


def test_a_net_on_a_gpu_begins_from_weights_on_the_cpu(seed: int) -> None:
    made = small("D", seed, META)
    warm_start(made, small("A", seed).state_dict(), same_net=False)
    assert {value.device for value in made.state_dict().values()} == {META}


def test_the_optimiser_is_fused_on_a_gpu_and_its_velocities_are_there(seed: int) -> None:
    with FakeTensorMode(), GPU:
        sgd = optimiser(VGG("A", CLASSES, CROP, 1 / 16, 16), RECIPE)
        assert [group["fused"] for group in sgd.param_groups] == [True]
        assert {velocity.device for velocity in momenta(sgd)} == {GPU}
    assert [group["fused"] for group in optimiser(small("A", seed), RECIPE).param_groups] == [False]


# Scoring


def test_a_gpu_scores_in_its_own_memory_and_reads_nothing_back(
    autocasts: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda: None))
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda x, *more: torch.conv2d(x, *more).relu())
    with FakeTensorMode(allow_non_fake_inputs=True):
        with GPU:
            net, pixels = VGG("A-LRN", CLASSES, CROP, 1 / 16, 16), torch.zeros((2, 3, 40, 75), dtype=torch.uint8)
        scorer = Scorer(net.eval(), NORMALISE.to(GPU), CROP, GPU, bfloat16=True)
        for views in VIEWS.values():
            ((_, means),) = scorer._scored([Rescaled(pixels, np.arange(2))], views)
            assert means.device == GPU and means.dtype == torch.float32
        shifted = scorer.normalise(pixels, torch.zeros(2, 3, device=GPU))
        assert net.train()(shifted[..., :CROP, :CROP], torch.zeros(2, 2, dtype=torch.int64, device=GPU)).device == GPU
    assert ("cuda", torch.bfloat16, True) in autocasts


def test_a_gpu_computes_a_convolution_and_its_relu_at_once_if_no_gradient_is_wanted(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net, joined = small("A-LRN", seed), list[torch.Size]()

    def at_once(x: Tensor, weight: Tensor, bias: Tensor, *more: Any) -> Tensor:
        joined.append(weight.shape)
        return torch.conv2d(x, weight, bias, *more).relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", at_once)
    x = torch.randn((2, 3, CROP + 20, CROP + 40), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        wanted = net.eval()(x)
        assert not joined
        monkeypatch.setattr("vgg.nets.joins", lambda x: True)
        assert torch.equal(net(x), wanted)
    assert joined == [layer.weight.shape for layer in weighted(net).values()][:-3]
    net.train()(x[..., :CROP, :CROP], torch.zeros(2, 2, dtype=torch.int64))
    assert len(joined) == 8, "training wants gradients"


def test_a_gpu_always_has_some_batches_to_work_on(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    happened, made = list[tuple[str, int]](), list[Any]()

    def event() -> Any:
        number = len(made)
        made.append(SimpleNamespace(record=lambda: None, synchronize=lambda: happened.append(("waited", number))))
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Event", event)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(Scorer, "in_parts", lambda self, of_images, pixels: happened.append(("scored", pixels)))
    list(Scorer(small("A", seed), NORMALISE, CROP, GPU)._scored([(n, np.arange(1)) for n in range(5)], VIEWS["dense"]))
    wanted = [("scored", 0), ("scored", 1)]
    for number in range(AHEAD, 5):
        wanted += [("scored", number), ("waited", number - AHEAD)]
    assert happened == wanted


# Memory that runs out


NO_ROOM = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("GET was unable to find an engine to execute this computation"),  # cudnn's words for the same
    torch.AcceleratorError("CUDA error: out of memory"),  # outside torch's own allocator
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
)


def cramped(monkeypatch: pytest.MonkeyPatch, most: float, error: RuntimeError = NO_ROOM[0]) -> list[int]:
    """No net has memory for more than `most` images from here on; return how many each has been asked for.

    What a failed pass has made must be gone when torch is told to give its memory back.
    """
    real, sizes, failed = VGG.forward, list[int](), list[weakref.ref[Tensor]]()

    def forward(self: VGG, x: Tensor, keys: Tensor | None = None, ceil: bool = False) -> Tensor:
        sizes.append(len(x))
        scores = real(self, x, keys, ceil)
        if len(x) > most:
            failed.extend(weakref.ref(tensor) for tensor in (x, scores))
            raise type(error)(*error.args)  # a new one: the traceback of the old one would keep memory
        return scores

    def empty_cache() -> None:
        assert [tensor for tensor in failed if tensor() is not None] == []

    monkeypatch.setattr(VGG, "forward", forward)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    return sizes


def test_a_gpu_that_has_run_out_of_memory_scores_in_parts_with_nothing_left_of_the_failure(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (7, 3, 40, 50), np.uint8))
    scorer = Scorer(small("A", seed), NORMALISE, CROP, CPU)
    whole = scorer.posteriors([Rescaled(pixels, np.arange(7))], 7, VIEWS["dense"])
    sizes = cramped(monkeypatch, 2, NO_ROOM[1])
    got = scorer.posteriors([Rescaled(pixels, np.arange(7))], 7, VIEWS["dense"])
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-5)  # float32; another batch size is another order of sums
    assert sizes[0] == 7 and max(sizes[-7:]) <= 2


@pytest.mark.parametrize(("most", "tried"), [(99, [11]), (5, [11, 6, 3]), (6, [11, 6]), (1, [11, 6, 3, 2, 1])])
def test_a_batch_is_halved_until_it_fits_beside_momentum_and_what_is_exchanged(
    most: int, tried: list[int], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net, real, others, beside = small("A-LRN", seed), torch.empty_like, list[weakref.ref[Tensor]](), list[int]()
    alive = lambda: sum(one.numel() for one in (made() for made in others) if one is not None)

    def empty_like(tensor: Tensor) -> Tensor:
        made = real(tensor)
        others.append(weakref.ref(made))
        return made

    monkeypatch.setattr(torch, "empty_like", empty_like)
    net.register_forward_pre_hook(lambda *_: beside.append(alive()))
    sizes, state = cramped(monkeypatch, most), {key: value.clone() for key, value in net.state_dict().items()}
    empty, emptied = torch.cuda.empty_cache, list[int]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(alive()) or empty())
    assert parts_that_fit(net, 11, CROP, False) == 2 ** (len(tried) - 1)
    weights = 2 * sum(one.numel() for one in net.parameters())
    assert sizes == tried and beside == [weights] * len(tried) and emptied == [*beside[1:], 0]
    assert all(one.grad is None for one in net.parameters())
    assert same([*net.state_dict().values()], [*state.values()])


@pytest.mark.parametrize(
    ("error", "tried"), [*((error, [5, 3, 2, 1]) for error in NO_ROOM), (RuntimeError("an illegal memory access"), [5])]
)
def test_no_room_for_one_image_is_an_error_and_so_is_another_failure_at_once(
    error: RuntimeError, tried: list[int], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    sizes = cramped(monkeypatch, 0, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        parts_that_fit(small("A", seed), 5, CROP, False)
    assert sizes == tried


# Compiling


class Others(Ranks):
    """Two processes, of which another has a `largest` to tell."""

    largest = 0

    def maximum(self, value: int, where: torch.device) -> int:
        return max(value, self.largest)


def test_what_compiles_is_taken_for_the_shape_that_training_has(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    asked, messages = list[dict[str, Any]](), list[str]()
    monkeypatch.setattr(torch, "compile", lambda model, **how: asked.append(how) or Compiled(model))
    net = small("A-LRN", seed)
    before = [value.clone() for value in net.state_dict().values()]
    made = compiled(net, net, 3, CROP, True, Others(0, 2), messages.append)
    assert isinstance(made, Compiled) and made._orig_mod is net
    assert made.shapes == [(3, 3, CROP, CROP)] and asked == [{"dynamic": False}] and messages == []
    assert all(parameter.grad is None for parameter in net.parameters()) and same([*net.state_dict().values()], before)


BACKEND = RuntimeError("backend='inductor' raised:\n\nCompilationError: at 12:11\nScalar is out of range")


def fails_at_once(model: nn.Module, **_: Any) -> nn.Module:
    raise RuntimeError("Triton: no such GPU\n  and more")


@pytest.mark.parametrize(
    ("fake", "largest", "named"),
    [(fails_at_once, 0, ": Triton: no such GPU"),
     (lambda model, **_: Compiled(model, RuntimeError("Triton: no such GPU\n  and more")), 0, ": Triton: no such GPU"),
     (lambda model, **_: Compiled(model, AssertionError()), 0, ": AssertionError"),
     (lambda model, **_: Compiled(model, BACKEND), 0, ": CompilationError: at 12:11"),
     (lambda model, **_: Compiled(model), 1, "in another process")],
)  # fmt: skip
def test_where_compiling_fails_training_goes_on_without_and_says_why(
    fake: Callable[..., nn.Module], largest: int, named: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    messages, resets, net = list[str](), list[bool](), small("A", seed)
    monkeypatch.setattr(torch, "compile", fake)
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(True))
    monkeypatch.setattr(Others, "largest", largest)
    assert compiled(net, net, 3, CROP, False, Others(0, 2), messages.append) is net
    (line,) = messages
    assert line.endswith(named) and "without" in line and "\n" not in line
    assert resets and all(parameter.grad is None for parameter in net.parameters())


def test_the_whole_error_of_compiling_is_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    net = small("A", seed)
    monkeypatch.setattr(torch, "compile", lambda model, **_: Compiled(model, BACKEND))
    compiled(net, net, 3, CROP, False, ALONE, print)
    printed = capsys.readouterr()
    assert str(BACKEND) in printed.err and "Scalar" not in printed.out


def test_a_net_is_traced_whole_and_its_gradients_are_the_same(seed: int) -> None:
    """fullgraph refuses any break."""
    torch.compiler.reset()
    pixels, labels, colour, keys, _ = cpu_batch(seed, 0)
    x, runs = NORMALISE(pixels, colour), list[list[Tensor]]()
    for trace in (False, True):
        made: Any = small("A-LRN", seed).train()
        model = torch.compile(made, backend="aot_eager", fullgraph=True, dynamic=False) if trace else made
        train_loss(model(x, keys), labels).backward()
        runs.append([weight.grad for weight in made.parameters()])
    torch.compiler.reset()
    for one, other in zip(*runs, strict=True):
        # the same kernels, but for operators taken apart, whose products round once more: 1e-7 a layer
        assert (one - other).norm() <= 1e-5 * one.norm()
        assert one.norm() > 0
