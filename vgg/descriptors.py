"""Descriptors of images (appendix B): what the layer before the last one computes, averaged and put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vgg.images import Rescaled
from vgg.nets import VGG, LastLayer
from vgg.score import Scorer, dense

Features = NDArray[np.floating]  # (examples, numbers)


def last_hidden(net: VGG) -> nn.Conv2d:
    """Return the layer whose activations describe an image."""
    return cast(nn.Conv2d, net.fc2)


def without_last(net: VGG, before_relu: bool = False) -> VGG:
    """Return `net` after its last layer was replaced: its maps are then the activations of the layer before, (N, F).

    These are taken after that layer's ReLU, or `before_relu`.
    """
    net.fc3 = nn.Identity()
    if before_relu:  # of another class, so that no GPU computes the layer and a ReLU at once (vgg.nets.joins)
        layer = last_hidden(net)
        plain = LastLayer(layer.in_channels, layer.out_channels, 1)
        plain.load_state_dict(layer.state_dict())
        net.fc2, net.fc_relu2 = plain.to(layer.weight), nn.Identity()
    return net


def described(scorer: Scorer, batches: Iterable[Rescaled], images: int) -> NDArray[np.float32]:
    """Return the activations (images, F) of whole images by a net `without_last`: the mean over the map and both flips.

    With several processes `batches` are this process's own, and each gets the rows of all images. Raise ValueError if
    an image is smaller than the crop.
    """
    scorer.net.eval()
    rows = torch.zeros((images, last_hidden(scorer.net).out_channels))
    with scorer.computing():
        for pixels, ids in batches:
            rows[ids] = scorer.in_parts(partial(_means, scorer), pixels).cpu()
    return scorer.ranks.summed(rows.to(scorer.device)).cpu().numpy()


def _means(scorer: Scorer, pixels: Tensor) -> Tensor:
    """Return the mean activations (N, F) of whole images (N, 3, H, W) and of their flips."""
    means = torch.cat([maps.mean((2, 3)) for maps in scorer.maps(pixels, dense)])  # (2 N, F)
    return means.reshape(2, len(pixels), -1).mean(0)


def unit(rows: Features) -> NDArray[np.float32]:
    """Return rows (examples, numbers) of length 1; a row of zeros stays as it is."""
    wide = rows.astype(np.float32)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    directions: NDArray[np.float32] = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return directions


def aggregated(scales: Sequence[Features], how: str, normalise: str = "once") -> NDArray[np.float32]:
    """Return one net's descriptors of length 1 from its activations (examples, F) at each Q.

    `how` is average, (examples, F), or stack, (examples, F per Q). With `normalise` each, those of each Q have length 1
    before, too.
    """
    parts = [unit(rows) if normalise == "each" else rows.astype(np.float32) for rows in scales]
    return unit(np.mean(parts, 0) if how == "average" else np.hstack(parts))
