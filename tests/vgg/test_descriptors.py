"""Descriptors against an independent forward pass, and their aggregation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vgg.descriptors import aggregated, described, unit, without_last
from vgg.images import Rescaled
from vgg.nets import VGG
from vgg.score import Scorer


def net() -> VGG:
    """A small net A with weights that make activations of both signs."""
    torch.manual_seed(0)
    made = VGG("A", 5, 64, 1 / 16, 12)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def by_hand(made: VGG, pixels: torch.Tensor, before: bool) -> np.ndarray:
    """The mean over the map and both flips of what enters the last layer, layer by layer."""
    rows = []
    for view in (pixels.float() / 99, pixels.flip(3).float() / 99):
        x = view
        for name, layer in made.named_children():
            if name == ("fc_relu2" if before else "dropout2"):
                break
            x = layer(x)
        rows.append(x.mean((2, 3)))
    return ((rows[0] + rows[1]) / 2).detach().numpy()


@pytest.mark.parametrize("before", [False, True])
def test_features_are_what_enters_the_last_layer(before: bool, rng: np.random.Generator) -> None:
    pixels = torch.from_numpy(rng.integers(0, 256, (3, 3, 96, 128), np.uint8))
    expected = by_hand(net(), pixels, before)
    scorer = Scorer(without_last(net(), before), lambda x: x.float() / 99, 64, torch.device("cpu"))
    batches = [Rescaled(pixels[[2]], np.array([2])), Rescaled(pixels[:2], np.array([0, 1]))]
    assert np.allclose(described(scorer, batches, 3), expected, rtol=1e-5, atol=1e-6)
    assert (expected < 0).any() == before


def test_scales_are_averaged_or_stacked_and_have_length_1() -> None:
    scales = [np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]])]
    root = np.sqrt(10)
    assert np.allclose(aggregated(scales, "average"), [[3 / root, 1 / root]])
    assert np.allclose(aggregated(scales, "stack"), [[3 / root, 0, 0, 1 / root]])
    assert np.allclose(aggregated(scales, "average", "each"), [[np.sqrt(0.5)] * 2])


def test_features_of_zeros_stay_zeros() -> None:
    assert unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
