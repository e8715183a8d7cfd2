"""Illustrations that are made up, for the tests of pages and pictures."""

from __future__ import annotations

import numpy as np

from pipeline.results.encoded_images import encoded
from pipeline.results.illustrations import (
    WHOLE,
    CentralCrop,
    CropSeries,
    Draw,
    Illustrations,
    OfClasses,
    Places,
    ScoredImage,
    ScoreMap,
    TrainingCrops,
    crop_name,
    scale_name,
)
from tests.support.images import photograph

EPOCHS = 10


def made_up(
    random: np.random.Generator,
    shape: tuple[int, int] = (246, 330),
    crop: int = 96,
    right: tuple[bool, bool] = (True, False),
    images: bool = True,
    trained: bool = True,
    classes: tuple[str, str] = ("tench", "goldfish"),
) -> Illustrations:
    """Return illustrations of an image of a shape (height, width); its last map row stands for no crop within it."""
    height, width = shape
    tops, lefts = [list(range(0, side - crop + 32, 32)) for side in shape]
    size = (len(tops), len(lefts))
    maps = [(random.uniform(0, 0.5, size)).tolist() for _ in range(6)]
    cut = [[[v if top + crop <= height and left + crop <= width else None for left, v in zip(lefts, row, strict=True)]
            for top, row in zip(tops, values, strict=True)] for values in maps[4:]]  # fmt: skip
    grid = [[round((side - crop) * i / 4) for i in range(5)] for side in shape]
    scored = ScoredImage(
        "val/tench/1.jpg", 0, 1, 512, height, width, OfClasses(0.6, 0.2), OfClasses(0.1, 0.7), *right,
        ScoreMap(tops, lefts, *maps[:4]), Places(tops, lefts, *cut),
        Places(*grid, *(random.uniform(0, 1, (5, 5)).tolist() for _ in range(2))),
        [CentralCrop(256, height // 2, width // 2, (height // 2 - crop) // 2, (width // 2 - crop) // 2),
         CentralCrop(512, height, width, (height - crop) // 2, (width - crop) // 2)],
    )  # fmt: skip
    spans = ([256, 256], [384, 384], [256, 512])
    series = [CropSeries(span, [Draw(130 + e, 160 + e, e, 2 * e, e % 3 == 0, [0.5, -1.0, 2.0]) for e in range(EPOCHS)])
              for span in spans]  # fmt: skip
    training = TrainingCrops("train/tench/2.jpg", 0, 11, series) if trained else None
    return Illustrations("mini", "D-jitter", "m", "w", list(classes), crop, scored, training,
                         _images(random, shape, crop, trained) if images else {})  # fmt: skip


def _images(random: np.random.Generator, shape: tuple[int, int], crop: int, trained: bool) -> dict[str, bytes]:
    side = encoded(photograph(random, crop, crop), crop)
    found = {WHOLE: encoded(photograph(random, *shape), 360), scale_name(256): side, scale_name(512): side}
    names = [crop_name(series, epoch) for series in range(3) for epoch in range(EPOCHS)] if trained else []
    return found | {name: encoded(photograph(random, crop, crop), 112) for name in names}
