"""Stage boxes: a localiser's box of the true class at one central crop of each image (appendix A.2, protocol 1)."""

from __future__ import annotations

import time

import numpy as np
import torch

from pipeline.datasets.facts import read_statistics
from pipeline.experiment.modes import CENTRE_BOXES, single_scale
from pipeline.experiment.params import Params
from pipeline.system.progress import Progress
from stages.boxes import BoxScores, localiser_of, sizes_of, true_boxes
from stages.common import batches_at, open_shards
from stages.distributed import shared
from vgg.distributed import Ranks
from vgg.localise import centre_boxes


def main(params: Params, name: str) -> None:
    """Predict the boxes of localiser `name`, in the number of processes that `params` set."""
    shared(params, params.active.score, f"boxes {name}", _predict, name)


def _predict(params: Params, name: str, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`."""
    started = time.monotonic()
    statistics = read_statistics()
    images = open_shards(params, "val", statistics)
    localiser = localiser_of(params, name, statistics, where, ranks)
    scale = single_scale(params.localiser_run(name))
    torch.backends.cudnn.benchmark = True  # all crops have one shape
    with Progress(f"boxes {name}", len(images), "images") as progress:
        batches = batches_at(params, localiser, images, scale, progress)
        sizes = sizes_of(images, params.active.net.pixels(scale))
        boxes = centre_boxes(localiser, batches, images.labels, *sizes)
    if not ranks.first:
        return
    truth, of = true_boxes(images)
    arrays = {"boxes": boxes.astype(np.float32), "labels": images.labels, "truth": truth, "truth_of": of}
    BoxScores(params, name, CENTRE_BOXES, statistics.manifest, where).write(arrays, len(images), started, ranks.size)
