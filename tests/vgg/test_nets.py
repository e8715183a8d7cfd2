"""The networks: Table 1's layers and counts, torchvision's nets as reference, and score maps of any size."""

from __future__ import annotations

import contextlib
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from vgg import nets
from vgg.initialise import randomise, weighted
from vgg.nets import NETS, STRIDE, VGG, Dropout, LocalResponseNorm, blocks, masks, parameters, weight_layers

PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
    "shallow": 134_503_528,
}
WEIGHT_LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19, "shallow": 8}
SIDES = {224: 1, 256: 2, 288: 3, 352: 5, 384: 6, 416: 7, 512: 10}  # section 3.2
# Table 1's columns as (kernel, channels) a convolution, written out again by hand.
TABLE1 = {
    "A": [[(3, 64)], [(3, 128)], [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2],
    "B": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2],
    "C": [[(3, 64)] * 2, [(3, 128)] * 2, *([(3, wide), (3, wide), (1, wide)] for wide in (256, 512, 512))],
    "D": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 3, [(3, 512)] * 3, [(3, 512)] * 3],
    "E": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 4, [(3, 512)] * 4, [(3, 512)] * 4],
    "shallow": [[(5, 64)], [(5, 128)], [(5, 256)], [(5, 512)], [(5, 512)]],
}
TABLE1["A-LRN"] = TABLE1["A"]


def small(net: str, seed: int, crop: int = 224, width: float = 1 / 32, classes: int = 7, fc: int = 8) -> VGG:
    """A narrow net with weights that let a signal through, ready to be evaluated."""
    made = VGG(net, classes, crop=crop, width=width, fc=fc)
    randomise(made, "he", 0.01, None, seed)
    return made.eval()


def tensor(rng: np.random.Generator, *shape: int) -> Tensor:
    """Standard normals."""
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


@pytest.mark.parametrize("net", NETS)
def test_parameters_are_the_papers_to_the_unit(net: str) -> None:
    assert parameters(net) == PARAMETERS[net]


@pytest.mark.parametrize("net", NETS)
def test_convolutions_are_table_1s(net: str) -> None:
    with torch.device("meta"):
        layers = weighted(VGG(net, 1000))
    assert weight_layers(net) == len(layers) == WEIGHT_LAYERS[net]
    names = [f"conv{i}_{j}" for i, block in enumerate(TABLE1[net], 1) for j in range(1, len(block) + 1)]
    assert list(layers) == [*names, "fc1", "fc2", "fc3"]
    made = [(layers[name].kernel_size, layers[name].out_channels) for name in names]
    assert made == [((kernel, kernel), wide) for block in TABLE1[net] for kernel, wide in block]
    assert [layers[name].out_channels for name in ("fc1", "fc2", "fc3")] == [4096, 4096, 1000]
    assert layers["fc1"].kernel_size == (7, 7)


@pytest.mark.parametrize("net", NETS)
def test_convolutions_keep_the_size_and_poolings_halve_it(net: str) -> None:
    x = torch.zeros(1, 3, 224, 224)
    for name, layer in VGG(net, 7, width=1 / 32, fc=8).eval().named_children():
        before, x = x.shape[2], layer(x)
        if name.startswith("conv"):
            assert x.shape[2] == before, name
        elif name.startswith("pool"):
            assert x.shape[2] == before // 2, name
        elif name == "fc1":
            assert (before, x.shape[2]) == (7, 1)


@pytest.mark.parametrize(("net", "theirs"), [("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19")])
def test_outputs_equal_torchvisions(net: str, theirs: str, rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**31)))
    reference = getattr(torchvision.models, theirs)(weights=None).eval()
    for parameter in reference.parameters():
        if parameter.dim() == 1:
            parameter.data.normal_(0, 0.1)  # its biases are zero, and would hide an exchange
    ours = VGG(net, 1000).eval()
    values = list(reference.state_dict().values())
    keys = list(ours.state_dict())
    assert len(keys) == len(values)
    state = {key: value.view_as(ours.state_dict()[key]) for key, value in zip(keys, values, strict=True)}
    ours.load_state_dict(state, assign=True)
    x = tensor(rng, 1, 3, 224, 224)
    with torch.inference_mode():
        expected, got = reference(x), ours(x)
    assert got.shape == (1, 1000, 1, 1)
    # float32 sums of up to 25088 terms in another order; relative to the largest score
    assert (got.flatten(1) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert expected.std() > 1e-3  # else everything would agree


def test_lrn_equals_torchs_with_alpha_times_n(rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.uniform(0, 300, (2, 17, 5, 6)).astype(np.float32))
    ours = LocalResponseNorm(17)(x)
    # float32: two sums of five squares and a power of -0.75 each, some units in the last place
    torch.testing.assert_close(ours, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(x), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2)(x), rtol=0.01)


def test_lrn_is_krizhevskys_formula(rng: np.random.Generator) -> None:
    a = rng.uniform(0, 300, 9)
    expected = [a[i] / (2 + 1e-4 * sum(a[max(0, i - 2) : i + 3] ** 2)) ** 0.75 for i in range(9)]
    ours = LocalResponseNorm(9)(torch.from_numpy(a).view(1, 9, 1, 1)).flatten()
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)  # float64 throughout


def test_lrn_is_computed_in_float32_under_autocast(rng: np.random.Generator) -> None:
    x, norm = torch.from_numpy(rng.uniform(0, 300, (1, 8, 3, 3)).astype(np.float32)), LocalResponseNorm(8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.clone())) and norm(x).dtype == torch.float32
        assert norm(x.bfloat16()).dtype == torch.bfloat16
        inside = norm(x)
    assert torch.equal(inside, norm(x))


def test_lrn_stands_between_the_first_relu_and_the_first_pool() -> None:
    names = [name for name, _ in VGG("A-LRN", 7, 32, 1 / 32, 8).named_children()]
    assert names[:4] == ["conv1_1", "relu1_1", "lrn1", "pool1"]
    assert [name for name in names if name != "lrn1"] == [n for n, _ in VGG("A", 7, 32, 1 / 32, 8).named_children()]


@pytest.mark.parametrize("net", NETS)
def test_score_maps_have_section_3_2s_sides(net: str, seed: int, rng: np.random.Generator) -> None:
    made = small(net, seed)
    with torch.inference_mode():
        for side, expected in SIDES.items():
            assert made(tensor(rng, 1, 3, side, side)).shape == (1, 7, expected, expected), side
        assert made(tensor(rng, 2, 3, 256, 416)).shape == (2, 7, 2, 7)


def test_poolings_leave_out_the_odd_last_row_and_column(seed: int, rng: np.random.Generator) -> None:
    made = small("A", seed, crop=64).double()
    x = tensor(rng, 1, 3, 127, 95).double()
    assert made(x).shape == (1, 7, 2, 1)  # 127 / 32 and 95 / 32, floored, less one
    cells = x[:, :, :126, :94].reshape(1, 3, 63, 2, 47, 2)
    assert torch.equal(made.pool1(x), cells.amax((3, 5)))


def context(net: str) -> int:
    """How many pixels beyond its own 32 x 32 a cell of the last feature map sees on each side."""
    return sum(2 ** (i - 1) * (layer.kernel // 2) for i, block in enumerate(blocks(net), 1) for layer in block)


@pytest.mark.parametrize("net", NETS)
def test_interior_score_map_cells_stand_32_pixels_apart(net: str, seed: int, rng: np.random.Generator) -> None:
    made = small(net, seed, crop=64, width=1 / 16).double()
    far = -(-context(net) // STRIDE)  # cells next to an edge that see its padding
    side = (2 * far + 5) * STRIDE
    scene = tensor(rng, 1, 3, side + STRIDE, side + STRIDE).double()
    with torch.inference_mode():
        here, there = made(scene[..., :side, :side]), made(scene[..., STRIDE:, STRIDE:])
    last = here.shape[2] - 1 - far  # the last cell that sees no padding
    assert last - far >= 2
    # float64: the same sums on the same pixels
    moved, stood = here[..., far + 1 : last + 1, far + 1 : last + 1], there[..., far:last, far:last]
    torch.testing.assert_close(moved, stood, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(moved, there[..., far + 1 : last + 1, far + 1 : last + 1], rtol=1e-3)


@pytest.mark.parametrize("net", NETS)
def test_a_score_map_cell_sees_its_crop_and_the_convolutions_context(net: str, rng: np.random.Generator) -> None:
    made = VGG(net, 1, crop=64, width=1 / 16, fc=8).double().eval()
    for parameter in made.parameters():  # all positive: no ReLU hides a path
        parameter.data.uniform_(0.5, 1.5)
    reach = context(net)
    before = -(-reach // STRIDE)  # cells before the one looked at
    side = (2 * before + 2) * STRIDE
    x = torch.from_numpy(rng.uniform(1, 2, (1, 3, side, side))).requires_grad_()
    made(x)[0, 0, before, before].backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    low, high = before * STRIDE - reach, before * STRIDE + 64 + reach
    # Max-pools pass one pixel of each 2x2 on; bounds for what may be seen, and the crop itself lies well within.
    assert low <= seen.min() and seen.max() < high
    assert seen.min() < before * STRIDE and seen.max() >= before * STRIDE + 64


@pytest.mark.parametrize("crop", [32, 64, 96, 224])
def test_a_crop_of_the_training_size_gives_a_map_of_one_cell(crop: int, seed: int, rng: np.random.Generator) -> None:
    made = small("A", seed, crop=crop)
    with torch.inference_mode():
        assert made(tensor(rng, 2, 3, crop, crop)).shape == (2, 7, 1, 1)


def caffe_pooled(x: np.ndarray) -> np.ndarray:
    """Max-pooling 2x2 of stride 2 of x (N, C, H, W), written from Caffe's pooling_layer.cpp without its padding.

    It makes ceil((side - kernel) / stride) + 1 windows, and cuts each at the edge of the map.
    """
    height, width = (math.ceil((side - 2) / 2) + 1 for side in x.shape[2:])
    pooled = np.empty((*x.shape[:2], height, width), x.dtype)
    for row in range(height):
        for column in range(width):
            window = x[:, :, 2 * row : min(2 * row + 2, x.shape[2]), 2 * column : min(2 * column + 2, x.shape[3])]
            assert window.size  # no window begins outside
            pooled[:, :, row, column] = window.max((2, 3))
    return pooled


def caffe_scores(net: VGG, x: Tensor) -> np.ndarray:
    """The score map of x with Caffe's poolings, layer by layer."""
    for layer in net.children():
        x = torch.from_numpy(caffe_pooled(x.numpy())) if isinstance(layer, nn.MaxPool2d) else layer(x)
    return x.numpy()


@pytest.mark.parametrize("net", ["A-LRN", "C", "shallow"])
def test_with_ceil_a_score_map_is_caffes(net: str, seed: int, rng: np.random.Generator) -> None:
    made = small(net, seed, crop=64, width=1 / 16).double()
    for height, width in [*rng.integers(64, 140, (4, 2)).tolist(), [65, 95], [96, 127], [97, 64]]:
        x = tensor(rng, 2, 3, height, width).double()
        with torch.no_grad():
            scores, expected = made(x, ceil=True).numpy(), caffe_scores(made, x)
        assert scores.shape[2:] == (math.ceil(height / 32) - 1, math.ceil(width / 32) - 1)
        np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_pooling_with_ceil_is_caffes_at_any_size(
    kind: torch.dtype, form: torch.memory_format, seed: int, rng: np.random.Generator
) -> None:
    made = VGG("A", 7, 32, 1 / 32, 8)
    seen = list[Tensor]()
    made.conv2_1.register_forward_pre_hook(lambda layer, values: seen.append(values[0]))
    made.conv1_1 = nn.Identity()  # so that the map before the first pooling is the input
    made.relu1_1 = nn.Identity()
    for height, width in [(1, 1), (1, 2), (2, 3), (3, 3), *rng.integers(1, 30, (4, 2)).tolist()]:
        x = tensor(rng, 2, 3, height, width).to(kind).contiguous(memory_format=form)
        with torch.no_grad(), contextlib.suppress(RuntimeError):  # the next layers take neither its channels nor size
            made(x, ceil=True)
        np.testing.assert_array_equal(seen.pop().float().numpy(), caffe_pooled(x.float().numpy()))


def test_a_crop_too_small_for_five_poolings_is_refused() -> None:
    VGG("A", 7, STRIDE, 1 / 32, 8)
    with pytest.raises(ValueError, match="31 pixels"):
        VGG("A", 7, STRIDE - 1, 1 / 32, 8)


@pytest.mark.parametrize("net", NETS)
def test_dropout_follows_the_first_two_fc_layers_relus_and_nothing_else(net: str) -> None:
    made = VGG(net, 7, 32, 1 / 32, 8, dropout=0.3)
    names = [name for name, _ in made.named_children()]
    layers = list(made.children())
    places = [i for i, layer in enumerate(layers) if isinstance(layer, Dropout)]
    assert [names[i - 2] for i in places] == ["fc1", "fc2"]
    assert all(isinstance(layers[i - 1], nn.ReLU) for i in places)
    assert [layers[i].p for i in places] == [0.3, 0.3]
    assert names[names.index("fc1") - 1] == "pool5"


def test_masks_are_those_of_plain_integers(rng: np.random.Generator) -> None:
    def mixed(word: int) -> int:
        word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
        word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
        return word ^ (word >> 16)

    keys = rng.integers(-(2**63), 2**63, 20)
    bits = masks(torch.from_numpy(keys), 300)
    for key, row in zip(map(int, keys), bits.tolist(), strict=True):
        low, high = key % 2**32, key // 2**32 % 2**32
        assert row == [mixed(mixed(low ^ (channel * 0x9E3779B9 % 2**32)) ^ high) for channel in range(300)]


def test_masks_are_the_same_with_the_step_written_as_a_positive_number(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton compiles no 2654435769 * x: what is written, and must stay, is that less 2**32."""
    assert -(2**31) <= nets._STEP < 2**31
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, 1000))
    bits = masks(keys, 4096)
    monkeypatch.setattr(nets, "_STEP", 0x9E3779B9)
    assert torch.equal(masks(keys, 4096), bits)


def test_masks_are_uniform_and_independent(rng: np.random.Generator) -> None:
    """Means and correlations of a million bits, within five standard errors; of neighbouring keys too."""
    images, channels = 512, 2048
    for keys in (rng.integers(-(2**63), 2**63, images), rng.integers(-(2**62), 2**62) + np.arange(images)):
        unit = masks(torch.from_numpy(keys), channels).double().numpy() / 2**32
        assert unit.min() >= 0 and unit.max() < 1
        error = 5 / math.sqrt(12 * unit.size)
        assert abs(unit.mean() - 0.5) < error
        for one, other in ((unit[1:], unit[:-1]), (unit[:, 1:], unit[:, :-1]), (unit[2:], unit[:-2])):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(one.size)
        dropped = unit < 0.5  # of each image and of each channel
        assert abs(dropped.mean(1) - 0.5).max() < 6 * 0.5 / math.sqrt(channels)
        assert abs(dropped.mean(0) - 0.5).max() < 6 * 0.5 / math.sqrt(images)


def test_dropout_drops_its_share_and_keeps_the_mean(rng: np.random.Generator) -> None:
    layer, share = Dropout(float(rng.uniform(0.1, 0.9))), 0.0
    share = layer.p
    x = torch.ones(64, 4096, 1, 1)
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, 64))
    y = layer.train()(x, keys)
    values = y.unique()
    assert len(values) == 2 and values[0] == 0 and values[1].item() == pytest.approx(1 / (1 - share))
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / y.numel()))
    assert torch.equal(layer(x, keys), y)
    order = torch.from_numpy(rng.permutation(64))
    assert torch.equal(layer(x, keys[order]), y[order])  # an image's mask is its own, wherever it stands
    assert torch.equal(layer.eval()(x, keys), x) and torch.equal(layer(x, None), x)
    assert layer.train()(x.bfloat16(), keys).dtype == torch.bfloat16


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_dropout_keeps_the_mean_in_bfloat16_too(p: float, rng: np.random.Generator) -> None:
    """What is kept grows by 1 / (1 - p) itself: rounded to bfloat16 it was too small by 0.2 % at p = 0.1.

    The values are all 128 that bfloat16 has between 1 and 2. Their products are rounded by some 2**-10, up or down,
    which leaves less than 1e-4 on average.
    """
    x = (torch.arange(128, 256) / 128).bfloat16().repeat(64, 32)[:, :, None, None]  # (64, 4096, 1, 1)
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, 64))
    y = Dropout(p).train()(x, keys)
    kept = y != 0
    assert y.dtype == torch.bfloat16
    assert (y[kept].double().mean() / x[kept].double().mean()).item() == pytest.approx(1 / (1 - p), rel=5e-4)
    assert torch.equal(kept, Dropout(p).train()(x.float(), keys) != 0)
    exact = Dropout(p).train()(x.double(), keys)
    assert torch.equal(exact, x.double() * (kept.double() / (1 - p)))


@pytest.mark.parametrize("mode", ["training", "a crop", "dense"])
def test_scores_are_float32_and_without_ties_in_bfloat16(mode: str) -> None:
    """The two best of 1,000 scores lie about a quarter of their std apart, and bfloat16's steps up there are a
    hundredth or two of it: some per cent of the images tie. float32's are 2**16 times finer: none of these does.
    """
    made, random = small("A", 0, crop=32, width=1 / 8, classes=1000, fc=64), torch.Generator().manual_seed(0)
    x = torch.randn(2000 if mode != "dense" else 1000, 3, 32, 32 if mode != "dense" else 64, generator=random)
    keys = torch.randint(2**62, (len(x), 2), generator=random)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = made.train(mode == "training")(x, keys)
        assert made.fc2(torch.zeros(1, 64, 1, 1)).dtype == torch.bfloat16, "the other layers are computed in bfloat16"
    assert scores.dtype == torch.float32
    best = scores.movedim(1, -1).reshape(-1, 1000).topk(2).values  # (2000, 2)
    assert (best[:, 0] == best[:, 1]).sum() == 0
    rounded = best.bfloat16()
    assert (rounded[:, 0] == rounded[:, 1]).sum() > 10, "rounded they would tie"


def test_the_last_layer_learns_in_float32_under_autocast(seed: int, rng: np.random.Generator) -> None:
    made = small("A", seed, crop=32)
    with torch.autocast("cpu", torch.bfloat16):
        scores = made(tensor(rng, 4, 3, 32, 32))
    scores.square().sum().backward()
    gradient = made.fc3.weight.grad
    assert gradient.dtype == torch.float32 and not torch.equal(gradient, gradient.bfloat16().float())
    assert made.double()(tensor(rng, 1, 3, 32, 32).double()).dtype == torch.float64


def test_dropout_in_training_needs_keys() -> None:
    with pytest.raises(ValueError, match="key"):
        VGG("A", 7, 32, 1 / 32, 8).train()(torch.zeros(1, 3, 32, 32))


def test_the_two_dropouts_have_masks_of_their_own(rng: np.random.Generator) -> None:
    made, seen = VGG("A", 7, 32, 1 / 32, 64), []
    for layer in (made.dropout1, made.dropout2):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, (3, 2)))
    made.train()(torch.zeros(3, 3, 32, 32), keys)
    assert torch.equal(torch.stack(seen, 1), keys)


def test_dropout_is_a_half_by_default() -> None:
    with torch.device("meta"):
        assert VGG("A", 7).dropout1.p == 0.5


@pytest.mark.parametrize("net", NETS)
def test_relu_follows_every_hidden_convolution_and_not_the_last(net: str) -> None:
    layers = list(VGG(net, 7, 32, 1 / 32, 8).children())
    followers = [isinstance(after, nn.ReLU) for layer, after in pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert followers == [True] * (WEIGHT_LAYERS[net] - 1)
    assert isinstance(layers[-1], nn.Conv2d)
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == WEIGHT_LAYERS[net] - 1


def test_an_unknown_net_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        VGG("F", 7)
