"""Stage random: a net's random weights (section 3.1)."""

from __future__ import annotations

from pipeline.datasets.facts import read_statistics
from pipeline.experiment.params import RANDOM, Params
from pipeline.experiment.paths import weights
from stages.common import build, save_tensors, weights_of
from vgg.initialise import randomise


def main(params: Params, name: str) -> None:
    """Draw the random weights `name`, a net's own or a row of `extra.random`, and write them."""
    params, net = params.for_random(name)
    size, classes = params.active.net, read_statistics().classes
    fresh = build(params, net, classes)
    randomise(fresh, size.init, size.std, size.last_std, params.active.training.seed)
    save_tensors(weights(RANDOM + name), {"net": net, "weights": weights_of(fresh)})
