"""The outputs of an imported net against those of torchvision's code with the same weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from pipeline.experiment.validation import load as params
from pipeline.published import ConvertedWeights
from tests.support import ROOT, foreign_files
from tests.support.foreign_files import FC, SIDE, Pixels
from tests.support.images import photograph
from vgg.nets import VGG

WIDTH = Fraction(foreign_files.WIDTH)
SIZE = params(ROOT / "params.yaml").profiles["paper"].net.model_copy(update={"width_ratio": WIDTH, "fc": FC})
NARROW = SIZE.model_copy(update={"width_ratio": Fraction(1, 32), "fc": 5})  # files of some 100 KB
CAFFE_BGR, CAFFE_RGB = (103.939, 116.779, 123.68), (123.68, 116.779, 103.939)
TORCHVISION, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ONE = (1.0, 1.0, 1.0)
# What a net's publisher does to a picture: order of the channels, largest value, mean, std.
CAFFES = ("BGR", 255.0, CAFFE_BGR, ONE)
MATCONVNETS = ("RGB", 255.0, CAFFE_RGB, ONE)
TORCHVISIONS = ("RGB", 1.0, TORCHVISION, STD)
CONVENTIONS = {
    "caffe": CAFFES, "matconvnet": MATCONVNETS, "torchvision": TORCHVISIONS, "caffe in pytorch": CAFFES,
    "timm": TORCHVISIONS,
}  # fmt: skip
# float32 sums of up to 1568 terms in 8 to 19 layers in another order, relative to the largest output
TOLERANCE = 1e-4
Theirs = Any


def drawn(net: str, kind: str, rng: np.random.Generator, **size: Any) -> Theirs:
    """A random net for that kind's input: grey levels deviate by some 70, normalised pixels by 1."""
    return foreign_files.random_net(net, rng, 70 if CONVENTIONS.get(kind, CAFFES)[3] == ONE else 1, **size)


def pictures(rng: np.random.Generator) -> Pixels:
    """Noise, and something like a photograph: RGB, (2, SIDE, SIDE, 3)."""
    return np.stack([rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), photograph(rng, SIDE, SIDE)])


def ours(imported: ConvertedWeights, net: str, pixels: Pixels) -> torch.Tensor:
    """The outputs of this project's net with the imported weights and normalisation."""
    made = VGG(net, len(imported.weights["fc3.bias"]), crop=SIZE.crop, width=float(WIDTH), fc=FC).eval()
    made.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in imported.weights.items()})
    return foreign_files.run(made, pixels, "RGB", 255.0, imported.mean_rgb, imported.std_rgb).flatten(1)


def apart(outputs: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference relative to the largest output; each output must depend on the picture."""
    assert (wanted[0] - wanted[1]).abs().max() > 0.01 * wanted.abs().max(), "these weights lost the signal"
    return float((outputs - wanted).abs().max() / wanted.abs().max())


def check_outputs(
    imported: ConvertedWeights,
    net: str,
    theirs: Theirs,
    rng: np.random.Generator,
    how: Any = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Our net with the imported weights gives the outputs of torchvision's on pictures prepared as `how` says."""
    for name, value in imported.weights.items():
        assert value.dtype == np.float32, name
    pixels = pictures(rng)
    wanted = foreign_files.run(theirs, pixels, *(how or CONVENTIONS[imported.kind]))
    assert apart(ours(imported, net, pixels), wanted) < tolerance
