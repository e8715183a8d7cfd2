"""What the nets cost before anything has run: arithmetic, counted from the modules themselves."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vgg.nets import VGG, Dropout, LastLayer, LocalResponseNorm

BACKWARD = 2  # a backward pass is two products, with the weights and with the inputs, as large as the forward one
TRAINED_ALONE = ("fc1", "dropout1", "fc2", "dropout2", "fc3")  # with layers "fc"
GROWN = 2  # numbers a weight that is trained, besides itself: its gradient, its momentum


def forward_flops(net: VGG, height: int, width: int) -> int:
    """Multiplications and additions of the convolutions for one image of `height` x `width` pixels; FC layers too.

    Everything else in these nets is less than a hundredth of that.
    """
    flops = 0
    for _, layer, values in _maps(net, height, width):
        if isinstance(layer, nn.Conv2d):
            flops += 2 * layer.weight[0].numel() * values
        elif isinstance(layer, LocalResponseNorm):
            flops += 2 * layer.channels * values
    return flops


def training_flops(net: VGG, crop: int, layers: str = "all") -> int:
    """Of one training image: forward, and backward through all `layers` or, with "fc", the FC layers alone."""
    fc = sum(
        2 * one.numel() for name, one in net.named_parameters() if name in ("fc1.weight", "fc2.weight", "fc3.weight")
    )
    forward = forward_flops(net, crop, crop)
    return forward + BACKWARD * (forward if layers == "all" else fc)


def weights(net: VGG, layers: str = "all") -> int:
    """Weights and biases of all `layers` or, with "fc", of the FC layers alone."""
    return sum(one.numel() for name, one in net.named_parameters() if layers == "all" or name.startswith("fc"))


def training_bytes(net: VGG, crop: int, batch: int, bfloat16: bool, layers: str = "all") -> int:
    """Memory that one step of `batch` crops needs at the least: weights, gradients, momentum, kept activations.

    What a library's fastest convolutions take besides is theirs to choose; on a GPU leave a third more.
    """
    number = 2 if bfloat16 else 4
    maps = crop * crop * 3 * (number + 4 * bfloat16) * (layers == "all")  # the input, and rounded
    for name, layer, values in _maps(net, crop, crop):
        if layers == "all" or name in TRAINED_ALONE:
            maps += values * _kept(layer, number)
    trained = weights(net, layers)
    alive = 0 if layers == "all" else _widest(net, crop, crop, bfloat16)  # of the layers that are not trained
    rounded = 2 * bfloat16 * sum(one.numel() for name, one in net.named_parameters() if not name.startswith("fc3"))
    return 4 * (weights(net) + GROWN * trained) + rounded + batch * (maps + alive)


def _kept(layer: nn.Module, number: int) -> int:
    """Bytes a value of a layer's map that are kept for the backward pass; a value has `number`."""
    if isinstance(layer, LastLayer):
        return 4
    if isinstance(layer, nn.Conv2d):
        return number  # a ReLU works in it
    if isinstance(layer, nn.MaxPool2d):
        return number + 8  # and where each maximum was
    if isinstance(layer, Dropout):
        return number + 4  # and the mask
    if isinstance(layer, LocalResponseNorm):
        return 4 * 4 + number % 4  # four maps in float32, and the result rounded
    return 0


def scoring_bytes(net: VGG, height: int, width: int, batch: int, bfloat16: bool) -> int:
    """Memory that a forward pass of `batch` images of `height` x `width` pixels needs: weights, two maps at a time."""
    return 4 * weights(net) + batch * _widest(net, height, width, bfloat16)


def _widest(net: VGG, height: int, width: int, bfloat16: bool) -> int:
    """Bytes of the largest map of one image and of the one that it is made from."""
    widest, before = 0, 3 * height * width * 4
    for _, layer, values in _maps(net, height, width):
        if isinstance(layer, nn.ReLU | Dropout):  # in place, or nothing
            continue
        after = values * (2 if bfloat16 and not isinstance(layer, LastLayer) else 4)
        passing = 2 * 4 * values * isinstance(layer, LocalResponseNorm)  # its squares and sums in float32
        widest, before = max(widest, before + after + passing), after
    return widest


def _maps(net: VGG, height: int, width: int) -> Iterator[tuple[str, nn.Module, int]]:
    """Each layer with its name and how many values its map has, of one image."""
    channels = 3
    for name, layer in net.named_children():
        height, width = _size(layer, height, width)
        channels = getattr(layer, "out_channels", channels)
        yield name, layer, channels * height * width


def _size(layer: nn.Module, height: int, width: int) -> tuple[int, int]:
    """A layer's map from the one before."""
    if isinstance(layer, nn.MaxPool2d):
        return height // 2, width // 2
    if isinstance(layer, nn.Conv2d):
        shrunk = layer.kernel_size[0] - 1 - 2 * int(layer.padding[0])
        return height - shrunk, width - shrunk
    return height, width
