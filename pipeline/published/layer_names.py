"""How each kind of file names a net's layers."""

from __future__ import annotations

from collections.abc import Iterator

FCS = ("fc1", "fc2", "fc3")
HEADS = {
    "caffe": ("fc6", "fc7", "fc8"),
    "matconvnet": ("fc6", "fc7", "fc8"),
    "torchvision": ("classifier.0", "classifier.3", "classifier.6"),
    "caffe in pytorch": ("classifier.1", "classifier.4", "classifier.6"),  # as torchvision's were in 2016
    "timm": ("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
    "vgg-repro": FCS,
}


def names(kind: str, net: str) -> dict[str, str]:
    """The layers with weights of `net`, by our name what a file of that `kind` calls them."""
    return dict(_convolutions(kind, net)) | dict(zip(FCS, HEADS[kind], strict=True))


def _convolutions(kind: str, net: str) -> Iterator[tuple[str, str]]:
    """The convolutions; PyTorch's files number every module, ReLU, LRN and pooling among them."""
    from vgg.nets import blocks

    place = 0
    for block in blocks(net):
        for layer in block:
            if layer.kernel:
                yield (
                    layer.name,
                    f"features.{place}" if kind in ("torchvision", "caffe in pytorch", "timm") else layer.name,
                )
            place += 2 if layer.kernel else 1
        place += 1
