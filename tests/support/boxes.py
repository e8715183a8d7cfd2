"""Boxes of localisers that are made up, as their stages write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import errors, posteriors
from pipeline.system.atomic_files import write_json
from tests.support.tables import FACTS

IMAGES, CLASSES, K = FACTS.val, len(FACTS.classes), 5


def write(params: Params, name: str, mode: str, **arrays: np.ndarray) -> None:
    """Boxes of a localiser as its stage writes them."""
    path = posteriors(name, mode)
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays, weights=np.array(f"hash of {name}"))
    record = {"profile": params.profile, "data": "m", "posteriors_sha256": f"hash of {name}'s", "precision": "float32"}
    write_json(errors(name, mode), record)


def truth_of(images: int, without: int = 0) -> dict[str, np.ndarray]:
    """A box of 100 pixels in each image but the first `without`, all of class 3."""
    of = np.arange(without, images)
    boxes = np.tile([100.0, 100, 199, 199], (len(of), 1))
    return {"labels": np.full(images, 3), "truth": boxes, "truth_of": of}


def moved(images: int, right: int, by: float = 80.0) -> np.ndarray:
    """The true box in the first `right` images, and one that is too far away in the others, (images, 4)."""
    boxes = np.tile([100.0, 100, 199, 199], (images, 1))
    boxes[right:] += [by, 0, by, 0]
    return boxes.astype(np.float32)


def write_windows(params: Params, name: str, random: np.random.Generator) -> None:
    """Windows near the true box, and some of a distractor with the same scores in sum, of two images of each split."""
    arrays: dict[str, Any] = {}
    order = np.stack([random.permutation(CLASSES)[:K] for _ in range(IMAGES)])
    for prefix, images, classes in (("", IMAGES, K), ("train-", 12, 1)):
        arrays |= {f"{prefix}{key}": value for key, value in truth_of(images).items()}
        for scale in params.windows[name].scales:
            counts = random.integers(2, 7, images)
            near = np.array([100.0, 100, 199, 199]) + random.normal(0, 30, (counts.sum(), classes, 4))
            rows = np.concatenate([near, random.random((counts.sum(), classes, 1))], 2)
            arrays |= {f"{prefix}{scale}": rows.astype(np.float32), f"{prefix}{scale}-counts": counts}
    write(params, name, WINDOWS, **arrays, classes=order)
