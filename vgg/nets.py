"""The paper's networks: Table 1 as strings, and one fully convolutional module that runs them (section 2.1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

# Table 1. "3-64" is a 3x3 convolution with 64 channels; "|" is a 2x2 max-pool of stride 2.
NETS = {
    "A": "3-64 | 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512",
    "A-LRN": "3-64 LRN | 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512",
    "B": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512",
    "C": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 1-256 | 3-512 3-512 1-512 | 3-512 3-512 1-512",
    "D": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 | 3-512 3-512 3-512 | 3-512 3-512 3-512",
    "E": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 3-256 | 3-512 3-512 3-512 3-512 | 3-512 3-512 3-512 3-512",
    # Section 4.1: "B with each pair of 3x3 conv. layers replaced with a single 5x5".
    "shallow": "5-64 | 5-128 | 5-256 | 5-512 | 5-512",
}
STRIDE = 32  # five poolings: the score map has one cell for every 32 pixels
DROPOUTS = 2  # section 3.1: "dropout regularisation for the first two fully-connected layers"
_WORD = 0xFFFFFFFF
_STEP = -0x61C88647  # 0x9E3779B9, an odd word, minus 2**32, because Triton takes only factors that fit into 32 bits


class Layer(NamedTuple):
    """One entry of a block: a convolution of `kernel` x `kernel` and `channels`, or LRN (kernel 0)."""

    name: str
    kernel: int
    channels: int


def blocks(net: str) -> list[list[Layer]]:
    """Return the five blocks of `net`, each a list of layers named like conv3_2. Raise KeyError for an unknown net."""
    return [list(_layers(block, i)) for i, block in enumerate(NETS[net].split("|"), 1)]


def _layers(block: str, number: int) -> Iterator[Layer]:
    index = 0
    for token in block.split():
        if token == "LRN":
            yield Layer(f"lrn{number}", 0, 0)
        else:
            index += 1
            kernel, channels = map(int, token.split("-"))
            yield Layer(f"conv{number}_{index}", kernel, channels)


def weight_layers(net: str) -> int:
    """Return the number of layers with weights, as counted in Table 1's heading."""
    return sum(layer.kernel > 0 for block in blocks(net) for layer in block) + 3


class LocalResponseNorm(nn.Module):
    """Krizhevsky's normalisation across channels (2012, section 3.3): x / (k + alpha * sum of squares) ** beta.

    The sum over `size` neighbouring channels is a 1x1 convolution with a banded matrix, several times faster on
    CPUs than torch's own and equal to `nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)`, which divides alpha by n.
    """

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.channels, self.size, self.alpha, self.beta, self.k = channels, size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, H, W) in float32 or better, even under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            wide = widened(x)
            index = torch.arange(self.channels, device=x.device)  # not a buffer, because processes would broadcast it
            band = ((index[:, None] - index).abs() <= self.size // 2).to(wide.dtype)
            total = nn.functional.conv2d(wide * wide, band[:, :, None, None])
            power = torch.exp(-self.beta * torch.log(self.k + self.alpha * total))  # faster than ** on CPUs
            return (wide * power).to(x.dtype)


class FullyConnected(nn.Conv2d):
    """An FC layer, stored as a convolution (section 3.2).

    For a crop its kernel covers the whole map. On a GPU it is then computed as a matrix product, because cuDNN may
    compute a convolution's gradient over many positions of the kernel of which only one exists.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, C, H, W) to (N, C', h, w), which is 1x1 if the kernel covers the map."""
        if not x.is_cuda or x.shape[2:] != self.weight.shape[2:]:
            return super().forward(x)
        rows, weight = (values.permute(0, 2, 3, 1).flatten(1) for values in (x, self.weight))  # views in channels_last
        return nn.functional.linear(rows, weight, self.bias)[:, :, None, None]


class LastLayer(nn.Conv2d):
    """The last FC layer, computed in float32 or better, even under autocast.

    In bfloat16, the two best scores of many images would round to the same value, and the lower class would win.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, C, h, w) to scores (N, K, h, w) in float32 or better."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(widened(x))


class Dropout(nn.Module):
    """Dropout whose mask depends only on each image's key and on the channel.

    So an image's mask is the same at any position in a batch, for any number of parts or processes that compute the
    batch, on CPUs and GPUs, and after a run is resumed.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Drop channels of x (N, C, 1, 1) in training, by keys (N,) int64. Raise ValueError if training lacks keys."""
        if not self.training or self.p == 0:
            return x
        if keys is None:
            raise ValueError("dropout in training needs a key for each image")
        wide, kept = widened(x), masks(keys, x.shape[1]) >= round(self.p * 2**32)
        factor = kept.to(wide.dtype) / (1 - self.p)  # bfloat16 has 1.109375 for 1 / 0.9
        return (wide * factor[:, :, None, None]).to(x.dtype)


def widened(x: Tensor) -> Tensor:
    """Return x in float32, or unchanged if it is float64."""
    return x if x.dtype == torch.float64 else x.float()


def masks(keys: Tensor, channels: int) -> Tensor:
    """Return 32 random bits per key (N,) int64 and channel: (N, channels) int64, uniform in [0, 2**32)."""
    index = torch.arange(channels, device=keys.device)
    low, high = keys[:, None] & _WORD, (keys[:, None] >> 32) & _WORD
    return _mixed(_mixed(low ^ (index * _STEP & _WORD)) ^ high)


def _mixed(word: Tensor) -> Tensor:
    """Map 32-bit words one to one; a flipped input bit flips about half of the bits (Wellons's lowbias32)."""
    word = (word ^ (word >> 16)) * 0x7FEB352D & _WORD
    word = (word ^ (word >> 15)) * 0x846CA68B & _WORD
    return word ^ (word >> 16)


class VGG(nn.Module):
    """A net of Table 1 whose fully connected layers are stored as convolutions (section 3.2).

    The first FC layer is as large as a training crop's last map, so a crop gives a 1x1 score map and a larger image a
    larger map: training and dense evaluation are the same forward pass. Layers are named conv1_1 ... conv5_4, fc1,
    fc2, fc3.

    `width` multiplies all hidden convolutions' channels; `fc` is the size of the first two FC layers; `crop` is the
    side of the training crop in pixels. Raise ValueError if the crop leaves no map after five poolings.
    """

    def __init__(
        self, net: str, classes: int, crop: int = 224, width: float = 1.0, fc: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.classes = classes
        if crop < STRIDE:
            raise ValueError(f"a crop of {crop} pixels leaves nothing after five 2x2 poolings; the minimum is {STRIDE}")
        features: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, block in enumerate(blocks(net), 1):
            for name, kernel, wide in block:
                if kernel == 0:
                    features[name] = LocalResponseNorm(channels)
                    continue
                out = max(1, round(wide * width))
                features[name] = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
                features[name.replace("conv", "relu")] = nn.ReLU(inplace=True)
                channels = out
            features[f"pool{number}"] = nn.MaxPool2d(2)
        sizes = [channels, fc, fc, classes]
        for number, (inward, outward) in enumerate(pairwise(sizes), 1):
            kind = LastLayer if number == 3 else FullyConnected
            features[f"fc{number}"] = kind(inward, outward, crop // STRIDE if number == 1 else 1)
            if number < 3:
                features[f"fc_relu{number}"] = nn.ReLU(inplace=True)
                features[f"dropout{number}"] = Dropout(dropout)
        for name, module in features.items():
            self.add_module(name, module)

    def forward(self, x: Tensor, keys: Tensor | None = None, ceil: bool = False) -> Tensor:
        """Map normalised images x (N, 3, H, W) to a class score map (N, K, h, w); 1x1 for a training crop.

        `keys` (N, DROPOUTS) int64, required in training, determine the dropout masks. At the right and bottom edges,
        poolings drop what does not fill a window; with `ceil` they keep it, in smaller windows, as Caffe does.
        """
        dropouts, joined = 0, not self.training and joins(x)
        for layer in self.children():
            if joined and isinstance(layer, nn.ReLU):
                continue
            if joined and isinstance(layer, nn.Conv2d) and not isinstance(layer, LastLayer):
                x = convolution_relu(layer, x)
            elif isinstance(layer, Dropout):
                x = layer(x, None if keys is None else keys[:, dropouts])
                dropouts += 1
            elif ceil and isinstance(layer, nn.MaxPool2d):
                x = nn.functional.max_pool2d(x, layer.kernel_size, layer.stride, ceil_mode=True)
            else:
                x = layer(x)
        return x


def joins(x: Tensor) -> bool:
    """Return whether a net computes a convolution and its ReLU at once on x: on a GPU, if no gradient is wanted."""
    return x.is_cuda and torch.is_inference_mode_enabled() and x.dtype != torch.float64


def convolution_relu(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return relu(layer(x)), by cuDNN's own function, which neither writes nor reads the values in between."""
    if isinstance(layer, FullyConnected):
        return nn.functional.relu(layer(x), inplace=True)
    weight, bias = layer.weight, cast(Tensor, layer.bias)
    if torch.is_autocast_enabled(x.device.type):
        x, weight, bias = (values.to(torch.get_autocast_dtype(x.device.type)) for values in (x, weight, bias))
    side = layer.kernel_size[0] // 2
    return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (side, side), (1, 1), 1)


def parameters(net: str, classes: int = 1000) -> int:
    """Return the exact number of weights and biases of the full `net`, counted from the module itself."""
    with torch.device("meta"):
        return sum(p.numel() for p in VGG(net, classes).parameters())
