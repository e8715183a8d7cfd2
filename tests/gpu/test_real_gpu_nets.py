"""Nets, training steps and scores on a real GPU, against the CPU's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.common import device
from tests.support.batches import CLASSES, NORMALISE, RECIPE
from vgg.fit import StepConfig, gradients, optimiser
from vgg.gpu import parts_that_fit
from vgg.images import Rescaled
from vgg.initialise import randomise, weighted
from vgg.nets import DROPOUTS, VGG, masks
from vgg.normalise import Normalise
from vgg.score import VIEWS, Scorer
from vgg.stream import Batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CROP = 64


@pytest.fixture(autouse=True)
def ieee() -> Iterator[None]:
    """Have float32 mean float32, cuDNN search nothing, and the GPU's memory be free before and after each test."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    usual = [backend.allow_tf32 for backend in backends]
    searched = torch.backends.cudnn.benchmark
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    torch.cuda.empty_cache()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = usual
    torch.backends.cudnn.benchmark = searched
    torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    torch.cuda.empty_cache()


def net_of(kind: str, seed: int, width: float = 1 / 16) -> VGG:
    """Return a narrow net with biases, on the CPU."""
    made = VGG(kind, CLASSES, crop=CROP, width=width, fc=32)
    randomise(made, "he", 0.01, None, seed)
    for name, layer in weighted(made).items():
        torch.nn.init.normal_(layer.bias, 0, 0.1, generator=torch.Generator().manual_seed(seed + len(name)))
    return made.to(memory_format=torch.channels_last)


def random_batch(rng: np.random.Generator, images: int) -> Batch:
    """Return a batch of noise on the CPU."""
    return Batch(
        torch.from_numpy(rng.integers(0, 256, (images, 3, CROP, CROP), np.uint8)),
        torch.from_numpy(rng.integers(0, CLASSES, images)),
        torch.from_numpy(rng.standard_normal((images, 3), np.float32)),
        torch.from_numpy(rng.integers(-(2**63), 2**63, (images, DROPOUTS))),
        np.arange(images),
    )


def limit_memory(peak: float) -> None:
    """Leave torch no more than `peak` bytes of the GPU's memory."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(peak / total, GPU)


def peak_of(work: Any) -> tuple[Any, int]:
    """Return what `work` returns, and the bytes that torch held at most for it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(GPU)
    value = work()
    torch.cuda.synchronize(GPU)
    return value, torch.cuda.max_memory_reserved(GPU)


def relative(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference over the norm of what is wanted."""
    return float((found.double().cpu() - wanted.double().cpu()).norm() / wanted.double().norm())


def test_dropouts_masks_are_the_same_to_the_bit_compiled_or_not(rng: np.random.Generator) -> None:
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, 64))
    wanted = masks(keys, 4096)
    assert torch.equal(masks(keys.to(GPU), 4096).cpu(), wanted)
    assert torch.equal(torch.compile(masks, dynamic=False)(keys.to(GPU), 4096).cpu(), wanted)


def update(net: VGG, batch: Batch, parts: int) -> Tensor:
    """Return how one step in float32 changes all weights, on the CPU."""
    before = [weight.detach().clone() for weight in net.parameters()]
    sgd = optimiser(net, replace(RECIPE, learning_rate=0.1))
    gradients(net.train(), batch, NORMALISE.to(GPU), StepConfig(len(batch.ids), GPU, parts=parts))
    sgd.step()
    changes = [after.detach() - one for one, after in zip(before, net.parameters(), strict=True)]
    return torch.cat([change.flatten().cpu() for change in changes])


def test_a_batch_too_large_for_the_memory_is_computed_in_parts_with_the_same_result(
    rng: np.random.Generator, seed: int
) -> None:
    images, batch, made = 256, random_batch(rng, 256), lambda: net_of("A", seed, width=1 / 4).to(GPU)
    assert parts_that_fit(made(), images, CROP, False) == 1
    whole, peak = peak_of(lambda: update(made(), batch, 1))
    net = made()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(GPU)
    limit_memory(held + 0.4 * (peak - held))
    parts = parts_that_fit(net, images, CROP, False)
    assert parts in (2, 4, 8, 16)
    assert relative(update(net, batch, parts), whole) <= 3e-2  # a ReLU may go the other way by a rounding


def test_one_image_too_large_for_the_memory_is_an_error(seed: int) -> None:
    net = net_of("A", seed).to(GPU)
    limit_memory(torch.cuda.memory_reserved(GPU) + 1)
    with pytest.raises(torch.OutOfMemoryError):
        parts_that_fit(net, 4, 2048, False)


def test_scoring_halves_its_batches_when_memory_runs_out(rng: np.random.Generator, seed: int) -> None:
    pixels = torch.from_numpy(rng.integers(0, 256, (64, 3, 160, 224), np.uint8))
    batches, net = [Rescaled(pixels, np.arange(64))], net_of("A", seed, width=1 / 4).to(GPU)
    scorer = Scorer(net, NORMALISE.to(GPU), CROP, GPU)
    whole, peak = peak_of(lambda: scorer.posteriors(batches, 64, VIEWS["dense"]))
    assert scorer.room == np.inf
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(GPU)
    limit_memory(held + 0.4 * (peak - held))
    got = scorer.posteriors(batches, 64, VIEWS["dense"])
    assert scorer.room < pixels.numel()
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["A", "A-LRN", "D"])
def test_scores_of_images_of_several_shapes_are_float64s(kind: str, rng: np.random.Generator, seed: int) -> None:
    net, usual = net_of(kind, seed), Normalise(torch.tensor([120.0, 110.0, 100.0]), torch.eye(3), 58.0)
    shapes, batches, first = [(64, 64), (72, 96), (101, 75), (64, 200)], list[Rescaled](), 0
    for shape in shapes:
        pixels = torch.from_numpy(rng.integers(0, 256, (3, 3, *shape), np.uint8))
        batches.append(Rescaled(pixels, np.arange(first, first + 3)))
        first += 3
    true_scorer = Scorer(copy.deepcopy(net).double(), lambda pixels: usual(pixels).double(), CROP, CPU)
    scorer = Scorer(net.to(GPU), copy.deepcopy(usual).to(GPU), CROP, GPU)
    for mode, views in VIEWS.items():
        wanted, found = (torch.from_numpy(one.posteriors(batches, first, views)) for one in (true_scorer, scorer))
        apart = (found.double() - wanted.double()).norm(dim=1) / wanted.double().norm(dim=1)
        assert float(apart.max()) <= 1e-4, mode


def test_the_gpu_is_chosen_with_the_products_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    threads = torch.get_num_threads()
    one = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    truth, errors = one.double() @ one.double(), {}
    for precision in ("float32", "tf32", "bfloat16"):
        where = device("auto", threads, precision)  # type: ignore[arg-type]
        assert where == GPU and torch.cuda.current_device() == 0
        errors[precision] = relative(one.to(where) @ one.to(where), truth)
    assert errors["float32"] < 1e-5 and errors["bfloat16"] < 1e-5
    if torch.cuda.get_device_capability(GPU) >= (8, 0):
        assert 1e-5 < errors["tf32"] < 1e-2
    assert device("cpu", threads, "float32") == CPU
