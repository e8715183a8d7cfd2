"""Initial weights: random draws by layer, and warm starts from net A or from the same net."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vgg.initialise import FROM_A, KINDS, randomise, warm_start, weighted
from vgg.nets import NETS, VGG

# Section 3.1 by block: A's first to fourth convolution, and all FC layers.
COPIED = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc1", "fc2", "fc3"]


def small(net: str, classes: int = 7, fc: int = 8) -> VGG:
    """A net with few weights."""
    return VGG(net, classes, crop=64, width=1 / 16, fc=fc)


def values(net: VGG) -> dict[str, Tensor]:
    """A copy of the weights."""
    return {key: value.clone() for key, value in net.state_dict().items()}


def noise(net: VGG, rng: np.random.Generator) -> dict[str, Tensor]:
    """Weights and biases for `net`, nowhere zero."""
    return {
        key: torch.from_numpy(rng.uniform(1, 2, tuple(value.shape)).astype(np.float32))
        for key, value in net.state_dict().items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_weights_and_another_others(kind: str, seed: int) -> None:
    one, two, other = small("D"), small("D"), small("D")
    for net, its in ((one, seed), (two, seed), (other, seed + 1)):
        randomise(net, kind, 0.01, 0.02, its)
    assert all(torch.equal(one.state_dict()[key], two.state_dict()[key]) for key in one.state_dict())
    assert not any(torch.equal(weighted(one)[name].weight, weighted(other)[name].weight) for name in weighted(one))


def test_draws_do_not_depend_on_torchs_global_generator_nor_move_it(seed: int) -> None:
    one, two = small("A"), small("A")
    torch.manual_seed(1)
    randomise(one, "he", 0.01, None, seed)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    randomise(two, "he", 0.01, None, seed)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.conv1_1.weight, two.conv1_1.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layers_draws_do_not_depend_on_the_nets_other_layers(kind: str, seed: int) -> None:
    nets = {name: small(name) for name in NETS}
    for net in nets.values():
        randomise(net, kind, 0.01, None, seed)
    shared = 0
    for name, layer in weighted(nets["E"]).items():
        for other in ("A", "A-LRN", "B", "D"):
            twin = weighted(nets[other]).get(name)
            if twin is not None and twin.weight.shape == layer.weight.shape:
                assert torch.equal(twin.weight, layer.weight), (name, other)
                shared += 1
    assert shared > 30


def test_draws_do_not_depend_on_the_memory_format(seed: int) -> None:
    plain, last = small("A"), small("A").to(memory_format=torch.channels_last)
    for net in (plain, last):
        randomise(net, "he", 0.01, None, seed)
    assert all(torch.equal(value, last.state_dict()[key]) for key, value in plain.state_dict().items())


def test_layers_of_one_shape_have_draws_of_their_own(seed: int) -> None:
    net = small("E")
    randomise(net, "normal", 0.01, None, seed)
    assert not torch.equal(net.conv5_1.weight, net.conv5_2.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_stds_are_the_kinds(kind: str, seed: int) -> None:
    net = VGG("C", 7, crop=64, width=1 / 4, fc=64)
    randomise(net, kind, 0.03, None, seed)
    for name, layer in weighted(net).items():
        out, into, height, width = layer.weight.shape
        inward = into * height * width
        outward = out if name.startswith("fc") else out * height * width  # as the linear layer that an FC layer is
        expected = {"normal": 0.03, "glorot": math.sqrt(2 / (inward + outward)), "he": math.sqrt(2 / inward)}[kind]
        count = layer.weight.numel()
        # Of n normals the root mean square is off by 1 / sqrt(2n) and the mean by 1 / sqrt(n), in stds; six of
        # those fail once in 10^8 layers.
        assert abs(layer.weight.square().mean().sqrt() / expected - 1) < 6 / math.sqrt(2 * count), name
        assert abs(layer.weight.mean() / expected) < 6 / math.sqrt(count), name


def test_weights_are_normal(seed: int) -> None:
    net = VGG("A", 7, crop=64, width=1 / 4, fc=64)
    randomise(net, "normal", 0.1, None, seed)
    weight = net.conv5_1.weight.flatten() / 0.1
    # the share within one std and the fourth moment, each to six of its own stds
    assert abs((weight.abs() < 1).float().mean() - 0.682689) < 6 * math.sqrt(0.2167 / len(weight))
    assert abs((weight**4).mean() - 3) < 6 * math.sqrt(96 / len(weight))


@pytest.mark.parametrize("kind", KINDS)
def test_biases_are_zero(kind: str, seed: int, rng: np.random.Generator) -> None:
    net = small("D")
    net.load_state_dict(noise(net, rng))
    randomise(net, kind, 0.01, None, seed)
    assert all(not layer.bias.any() for layer in weighted(net).values())


@pytest.mark.parametrize("kind", KINDS)
def test_last_std_is_the_last_layers_whatever_the_kind_and_no_other_layers(kind: str, seed: int) -> None:
    with_it, without = small("A", 100, 64), small("A", 100, 64)
    randomise(with_it, kind, 0.01, 0.5, seed)
    randomise(without, kind, 0.01, None, seed)
    root = with_it.fc3.weight.square().mean().sqrt()
    assert abs(root / 0.5 - 1) < 6 / math.sqrt(2 * with_it.fc3.weight.numel())  # as above
    for name in weighted(with_it):
        assert torch.equal(weighted(with_it)[name].weight, weighted(without)[name].weight) == (name != "fc3")


def test_an_unknown_kind_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="unknown initialisation 'xavier'"):
        randomise(small("A"), "xavier", 0.01, None, seed)


def test_the_layers_taken_from_a_are_its_first_four_and_the_fc_layers() -> None:
    assert list(FROM_A) == COPIED == [*list(weighted(small("A")))[:4], "fc1", "fc2", "fc3"]


@pytest.mark.parametrize("name", ["B", "C", "D", "E"])
def test_a_warm_start_from_a_copies_seven_layers_and_leaves_the_rest(name: str, rng: np.random.Generator) -> None:
    net = small(name)
    initial, before = noise(small("A"), rng), values(net)
    assert warm_start(net, initial, same_net=False) == COPIED
    for key, value in net.state_dict().items():
        assert torch.equal(value, (initial if key.split(".")[0] in COPIED else before)[key]), key
    assert all(not torch.equal(initial[key], before[key]) for key in initial if key in before)


@pytest.mark.parametrize("name", NETS)
def test_a_warm_start_from_the_same_net_copies_everything(name: str, rng: np.random.Generator) -> None:
    net = small(name)
    initial = noise(net, rng)
    assert warm_start(net, initial, same_net=True) == list(weighted(net))
    assert all(torch.equal(value, initial[key]) for key, value in net.state_dict().items())


def test_a_warm_start_copies_and_does_not_share(rng: np.random.Generator) -> None:
    net = small("A")
    initial = noise(net, rng)
    warm_start(net, initial, same_net=True)
    initial["fc3.bias"].zero_()
    assert net.fc3.bias.all()


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("layer", COPIED)
def test_a_missing_layer_is_refused(layer: str, part: str, rng: np.random.Generator) -> None:
    initial = noise(small("A"), rng)
    del initial[f"{layer}.{part}"]
    with pytest.raises(ValueError, match=rf"have no {layer}\.{part}"):
        warm_start(small("B"), initial, same_net=False)


@pytest.mark.parametrize(("classes", "fc", "layer"), [(8, 8, "fc3"), (7, 9, "fc1")])
def test_a_layer_of_another_shape_is_refused(classes: int, fc: int, layer: str, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=rf"{layer}\.weight is .*; this net's is"):
        warm_start(small("B"), noise(small("A", classes, fc), rng), same_net=False)


def test_weights_of_another_net_are_refused_as_the_same_nets(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"have no conv1_2\.weight"):
        warm_start(small("B"), noise(small("A"), rng), same_net=True)
