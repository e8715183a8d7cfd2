"""What nets cost, against torch's own counting: arithmetic operation by operation, memory tensor by tensor."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vgg.cost import forward_flops, scoring_bytes, training_bytes, training_flops, weight_count
from vgg.fit import TrainingSchedule, optimiser, train_loss
from vgg.nets import NETS, VGG, LocalResponseNorm

PAPER = {"A": 45.7, "B": 67.9, "D": 92.8, "E": 117.8}  # GFLOP a training image at full size
KINDS = ("A-LRN", "C", "shallow")  # with all kinds of layers: LRN, and kernels of 3, 1 and 5
PLAIN = TrainingSchedule(0.01, 1, 0.9, 0.0005, 0, 1, 0, 0)


def drawn(rng: np.random.Generator, net: str, crop: int, **kept: Any) -> VGG:
    """A net of random width and FC size. Under `unreal` it has no memory for its weights."""
    sizes = {
        "classes": int(rng.integers(2, 1200)),
        "width": float(rng.uniform(0.02, 1)),
        "fc": 2 ** rng.integers(3, 13),
    }
    return VGG(net, crop=crop, **{**sizes, "fc": int(sizes["fc"]), **kept})


@pytest.fixture
def unreal() -> Iterator[None]:
    """Tensors that know their sizes and have no numbers: full nets cost nothing."""
    with FakeTensorMode():
        yield


def counted(net: VGG, images: Tensor, backward: bool = False, ceil: bool = False) -> int:
    """Multiplications and additions as torch counts them, for one of the images."""
    with FlopCounterMode(display=False) as counter:
        scores = net.eval()(images, ceil=ceil)
        if backward:
            scores.sum().backward()
    total = counter.get_total_flops()
    assert total % len(images) == 0
    return total // len(images)


@pytest.mark.usefixtures("unreal")
def test_forward_flops_are_torchs_to_the_unit(rng: np.random.Generator) -> None:
    for net in KINDS:
        crop = int(rng.integers(32, 257))
        made = drawn(rng, net, crop)
        height, width = (int(side) for side in rng.integers(crop, 3 * crop, 2))
        images = torch.zeros(int(rng.integers(1, 4)), 3, height, width)
        for ceil in (False, True):
            expected = counted(made, images, ceil=ceil)
            assert forward_flops(made, height, width, ceil) == expected, (net, crop, height, width, ceil)


@pytest.mark.usefixtures("unreal")
@pytest.mark.parametrize("net", KINDS)
def test_training_flops_are_torchs_but_for_what_need_not_be_computed(net: str, rng: np.random.Generator) -> None:
    """Two products a layer on the way back, and one where nothing before the layer, or nothing in it, is learnt."""
    for layers in ("all", "fc"):
        crop = int(rng.integers(32, 257))
        made = drawn(rng, net, crop)
        optimiser(made, PLAIN, layers)  # which takes part in training, and which not
        images = torch.zeros(int(rng.integers(1, 4)), 3, crop, crop)
        first = "conv1_1" if layers == "all" else "fc1"  # torch gives its input no gradient
        spared = {name for name, layer in made.named_children() if isinstance(layer, LocalResponseNorm)} & {"lrn1"}
        spared = {first} | (spared if layers == "all" else set())  # LRN's band is not learnt
        saved = sum(flops_of(made, name, crop) for name in spared)
        assert training_flops(made, crop, layers) == counted(made, images, backward=True) + saved, (crop, layers)
        assert saved < 0.04 * training_flops(made, crop, layers) or made.conv1_1.out_channels < 16  # it hardly matters


def flops_of(net: VGG, name: str, crop: int) -> int:
    """Of one layer alone, as torch counts it in a forward pass."""
    with FlopCounterMode(display=False, depth=2) as counter:
        net.eval()(torch.zeros(1, 3, crop, crop))
    return sum(counter.get_flop_counts()[f"VGG.{name}"].values())


def test_a_training_image_of_the_full_nets_costs_what_is_known() -> None:
    for net, known in PAPER.items():
        with torch.device("meta"):
            made = VGG(net, 1000)
        assert round(training_flops(made, 224) / 1e9, 1) == known
        assert training_flops(made, 224) == 3 * forward_flops(made, 224, 224)
        assert weight_count(made) == sum(value.numel() for value in made.state_dict().values())


def kept_by(net: VGG, images: Tensor, labels: Tensor, bfloat16: bool) -> tuple[int, Tensor]:
    """Bytes that are kept between the two passes, each storage once and no parameter; and the loss.

    What autograd saves, and the images, which the training loop holds.
    """
    own = {weight.untyped_storage().data_ptr() for weight in net.parameters()}
    held = images.untyped_storage()
    storages: dict[int, Any] = {held.data_ptr(): held}  # holds the storages, so that no address comes twice

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return saved

    net.train()
    with saved_tensors_hooks(keep, lambda saved: saved):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            scores = net(images, torch.arange(2 * len(images)).reshape(-1, 2))
        loss = train_loss(scores, labels)
    return sum(storage.nbytes() for storage in storages.values()), loss


def size(tensors: Any) -> int:
    """Bytes of all."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("net", KINDS)
def test_training_bytes_are_what_a_step_keeps(net: str, bfloat16: bool, rng: np.random.Generator) -> None:
    """5 %: a mask of dropout takes a value's bytes on a CPU and one on a GPU, the loss keeps some numbers an image."""
    crop, batch = int(rng.integers(32, 100)), int(rng.integers(2, 9))
    wide = {"classes": int(rng.integers(2, 50)), "width": float(rng.uniform(1 / 16, 1 / 6)), "fc": 64}
    made = drawn(rng, net, crop, **wide)
    sgd = optimiser(made, PLAIN)
    images = torch.zeros(batch, 3, crop, crop).contiguous(memory_format=torch.channels_last)
    saved, loss = kept_by(made, images, torch.zeros(batch, dtype=torch.int64), bfloat16)
    loss.backward()
    sgd.step()
    parameters = list(made.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    momentum = [state["momentum_buffer"] for state in sgd.state.values()]
    real = size(parameters) + size(gradients) + size(momentum) + saved
    assert training_bytes(made, crop, batch, bfloat16) == pytest.approx(real, rel=0.05), (crop, batch, wide)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("net", KINDS)
def test_the_activations_part_of_training_bytes_holds_alone(net: str, bfloat16: bool, rng: np.random.Generator) -> None:
    """What one more image takes: here no weights hide a layer that is counted wrong."""
    crop = int(rng.integers(32, 100))
    made = drawn(rng, net, crop, classes=10, width=float(rng.uniform(1 / 16, 1 / 6)), fc=64)
    optimiser(made, PLAIN)
    few, many = (
        kept_by(made, torch.zeros(n, 3, crop, crop), torch.zeros(n, dtype=torch.int64), bfloat16)[0] for n in (2, 6)
    )
    estimate = training_bytes(made, crop, 6, bfloat16) - training_bytes(made, crop, 2, bfloat16)
    assert estimate == pytest.approx(many - few, rel=0.05), crop


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, and the most that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, key: int, number: int) -> None:
        self.known.discard(key)
        self.now -= number


@pytest.mark.usefixtures("unreal")
@pytest.mark.parametrize(("net", "layers"), [("A-LRN", "all"), ("E", "all"), ("D", "fc")])
def test_a_step_of_the_full_nets_takes_no_less_than_said_and_at_most_a_third_more(net: str, layers: str) -> None:
    """The docstring's bound, with all that is alive at a time: the maps of frozen convolutions too, while they last."""
    made = VGG(net, 1000)
    sgd = optimiser(made, PLAIN, layers)
    with Alive() as alive:
        images, labels = torch.zeros(256, 3, 224, 224), torch.zeros(256, dtype=torch.int64)
        for _ in range(2):  # momentum is there from the second on
            with torch.autocast("cpu", torch.bfloat16):
                scores = made(images, torch.zeros(len(images), 2, dtype=torch.int64))
            sgd.zero_grad()
            train_loss(scores, labels).backward()
            sgd.step()
    real = alive.most + 4 * weight_count(made)
    estimate = training_bytes(made, 224, 256, True, layers)
    assert estimate <= real <= 4 / 3 * estimate, (estimate / 1e9, real / 1e9)


@pytest.mark.usefixtures("unreal")
@pytest.mark.parametrize("net", KINDS)
def test_scoring_bytes_are_no_more_than_a_pass_takes_and_not_much_less(net: str, rng: np.random.Generator) -> None:
    """LRN alone has more than two maps at a time: for A-LRN the number is a bound and no estimate."""
    crop, batch = int(rng.integers(64, 200)), int(rng.integers(1, 20))
    made = drawn(rng, net, crop, width=float(rng.uniform(0.1, 1))).eval()
    height, width = (int(side) for side in rng.integers(crop, 3 * crop, 2))
    with torch.inference_mode(), Alive() as alive:
        images = torch.zeros(batch, 3, height, width)
        made(images)
    real = alive.most + 4 * weight_count(made)
    estimate = scoring_bytes(made, height, width, batch, bfloat16=False)
    assert estimate <= 1.001 * real, (crop, batch, height, width)
    if net != "A-LRN":
        assert estimate > 0.9 * (real - size([images])), (
            crop,
            batch,
            height,
            width,
        )  # which whoever scores holds anyway


@pytest.mark.usefixtures("unreal")
def test_scoring_bytes_grow_with_batch_and_size_and_shrink_with_bfloat16(rng: np.random.Generator) -> None:
    for net in KINDS:
        made = drawn(rng, net, 64)
        height, width = (int(side) for side in rng.integers(64, 300, 2))
        base = scoring_bytes(made, height, width, 4, False)
        assert base > 4 * weight_count(made)
        assert base - 4 * weight_count(made) == 4 * (
            scoring_bytes(made, height, width, 1, False) - 4 * weight_count(made)
        )
        assert (
            scoring_bytes(made, height + 32, width + 32, 4, False) > base > scoring_bytes(made, height, width, 4, True)
        )


def test_less_than_a_hundredth_is_left_out_of_the_count() -> None:
    """The docstring says that all but the convolutions is less than a hundredth: poolings, ReLUs and LRN's powers."""
    with torch.device("meta"):
        for name in NETS:
            net, side, others = VGG(name, 1000), 224, 0
            channels = 3
            for layer in net.children():
                if isinstance(layer, nn.Conv2d):
                    channels = layer.out_channels
                    side = side if layer.padding[0] or layer.kernel_size[0] == 1 else 1
                    others += channels * side * side  # its biases
                elif isinstance(layer, nn.MaxPool2d):
                    side //= 2
                    others += 3 * channels * side * side
                elif isinstance(layer, LocalResponseNorm):
                    others += 8 * channels * side * side
                else:
                    others += channels * side * side
            assert others < 0.01 * forward_flops(net, 224, 224), name
