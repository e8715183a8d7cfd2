"""A localiser learns where a painted object is, anywhere in the image, and does not if flips are wrong in its targets.

Objects that are always on one side would hide such a fault: its targets would then be on one side too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.images import Pictures, jpeg, photograph, run_seed
from vgg.boxes import BoxTargets, box_loss
from vgg.draws import Draws, Ints, rescaled
from vgg.errors import error_of
from vgg.fit import Callbacks, State, StepConfig, TrainingSchedule, fit, optimiser
from vgg.images import rescaled_batches
from vgg.initialise import randomise
from vgg.localise import centre_boxes, first_right
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.score import Scorer
from vgg.stream import StreamConfig, training_stream

CROP, S, STEPS, BATCH, IMAGES = 96, 110, 600, 16, 400
NORMALISE = Normalise(torch.full((3,), 120.0), torch.zeros(3, 3), 58.0)
CPU = torch.device("cpu")
RIGHT_BELOW, WRONG_ABOVE = 20.0, 35.0  # per cent


class PaintedObjects(Pictures):
    """Photographs, each with one bright, red object of known place and size."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        self.boxes, encoded = [], []
        for _ in range(count):
            height, width = (int(side) for side in random.integers(S, 150, 2))
            sides = random.uniform(0.3, 0.5, 2) * min(height, width)
            left, top = (random.uniform(0, room) for room in (width - sides[0], height - sides[1]))
            box = np.array([left, top, left + sides[0], top + sides[1]]).round().astype(int)
            pixels = photograph(random, height, width, things=0)
            pixels[box[1] : box[3], box[0] : box[2]] = (250, 30, 30)
            self.boxes.append(box[None].astype(np.float32))
            encoded.append(jpeg(pixels))
        super().__init__(encoded, [0] * count)

    def boxes_of(self, image: int) -> NDArray[np.float32]:
        return self.boxes[image]


class WithoutFlips(BoxTargets):
    """Targets that forget that a crop may be flipped."""

    def __call__(self, ids: Ints, draws: Draws) -> torch.Tensor:
        return super().__call__(ids, replace(draws, flip=np.zeros_like(draws.flip)))


def learnt(images: PaintedObjects, targets: BoxTargets) -> VGG:
    """Return a net with one box for all classes after STEPS steps."""
    net = VGG("A", 4, crop=CROP, width=1 / 16, fc=64, dropout=0.0).to(memory_format=torch.channels_last)
    randomise(net, "he", 0.01, 0.01, 0)
    schedule = TrainingSchedule(0.003, 1, 0.9, 5e-4, drops=0, patience=9, first_drop=0, tail=0)
    stream = training_stream(images, StreamConfig(0, BATCH, CROP, (S, S)), target=targets)
    nothing = Callbacks(lambda: (0.0, 0.0), lambda *_: None, lambda _: None)
    state, config = State(learning_rate=0.003), StepConfig(BATCH, loss=box_loss)
    fit(net, optimiser(net, schedule), islice(stream, STEPS + 1), NORMALISE, schedule, state, STEPS, nothing, config)
    return net


def error(net: VGG, images: PaintedObjects) -> float:
    """Return protocol 1's error in per cent."""
    sizes = np.stack(rescaled(images.heights, images.widths, S), 1)
    stored = np.stack([images.heights, images.widths], 1)
    batches = rescaled_batches(images, S, 64)
    boxes = centre_boxes(Scorer(net, NORMALISE, CROP, CPU), batches, images.labels, sizes, stored)
    truth, of = np.concatenate(images.boxes).astype(np.float64), np.arange(len(images))
    return error_of(first_right(boxes[:, None], images.labels[:, None], images.labels, truth, of), 1).error


@pytest.mark.slow
@pytest.mark.exhaustive
def test_objects_anywhere_are_found_and_with_a_flip_forgotten_they_are_not() -> None:
    random = np.random.default_rng(run_seed())
    training, held_out = (PaintedObjects(random, count) for count in (IMAGES, 200))
    errors = {
        kind.__name__: error(learnt(training, kind(training, CROP, 0.5)), held_out)
        for kind in (BoxTargets, WithoutFlips)
    }
    assert errors["BoxTargets"] < RIGHT_BELOW and errors["WithoutFlips"] > WRONG_ABOVE, errors
