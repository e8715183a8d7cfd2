"""A narrow net, batches that are functions of a seed and a step, and how they are trained on."""

from __future__ import annotations

import numpy as np
import torch

from vgg.fit import TrainingSchedule
from vgg.initialise import randomise, weighted
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.stream import Batch

CROP, CLASSES, IMAGES = 32, 5, 4
NORMALISE = Normalise(torch.tensor([120.0, 110.0, 100.0]), torch.tensor([[9.0, 9, 9], [3, 0, -3], [1, -2, 1]]), 60.0)
RECIPE = TrainingSchedule(0.002, epochs=3, momentum=0.9, weight_decay=5e-4, drops=3, patience=99, first_drop=0, tail=0)


def small(seed: int, dropout: float = 0.5) -> VGG:
    """A narrow net A with biases, since weight decay falls on them too."""
    net = VGG("A", CLASSES, crop=CROP, width=1 / 16, fc=16, dropout=dropout)
    randomise(net, "he", 0.01, None, seed)
    for name, layer in weighted(net).items():
        torch.nn.init.normal_(layer.bias, 0, 0.1, generator=torch.Generator().manual_seed(seed + len(name)))
    return net


def batch(seed: int, step: int) -> Batch:
    """The batch of a step: a function of the two numbers, as the stream's is."""
    random = np.random.default_rng([seed, step])
    return Batch(
        torch.from_numpy(random.integers(0, 256, (IMAGES, 3, CROP, CROP), np.uint8)),
        torch.from_numpy(random.integers(0, CLASSES, IMAGES)),
        torch.from_numpy(random.standard_normal((IMAGES, 3), np.float32)),
        torch.from_numpy(random.integers(-(2**63), 2**63, (IMAGES, 2))),
        np.arange(IMAGES),
    )
