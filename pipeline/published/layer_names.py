"""The names of a net's layers in each kind of file."""

from __future__ import annotations

from collections.abc import Iterator

FCS = ("fc1", "fc2", "fc3")
HEADS = {
    "caffe": ("fc6", "fc7", "fc8"),
    "matconvnet": ("fc6", "fc7", "fc8"),
    "torchvision": ("classifier.0", "classifier.3", "classifier.6"),
    "caffe in pytorch": ("classifier.1", "classifier.4", "classifier.6"),  # torchvision's layout of 2016
    "timm": ("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
    "keras": ("fc1", "fc2", "predictions"),
    "numbered keras": ("dense", "dense_1", "dense_2"),  # layers that nobody named
    "vgg-repro": FCS,
}


def names(kind: str, net: str) -> dict[str, str]:
    """Return the layers with weights of `net`: our name, to the name in a file of that `kind`."""
    return dict(_convolutions(kind, net)) | dict(zip(FCS, HEADS[kind], strict=True))


def _convolutions(kind: str, net: str) -> Iterator[tuple[str, str]]:
    """Yield the convolutions' names. PyTorch's files number every module, including ReLU, LRN and pooling."""
    from vgg.nets import blocks

    index = count = 0
    for block in blocks(net):
        for layer in block:
            if layer.kernel:
                yield layer.name, _convolution(kind, layer.name, index, count)
                count += 1
            index += 2 if layer.kernel else 1
        index += 1


def _convolution(kind: str, ours: str, index: int, count: int) -> str:
    """Return the name of our convolution `ours`, the module at `index` and the convolution after `count` others."""
    if kind in ("torchvision", "caffe in pytorch", "timm"):
        return f"features.{index}"
    if kind == "keras":
        return f"block{ours[4]}_conv{ours[6:]}"
    if kind == "numbered keras":
        return f"conv2d_{count}" if count else "conv2d"
    return ours
