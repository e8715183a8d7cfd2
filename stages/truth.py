"""Stage truth: how many of the prepared images have boxes, and a hash of these, on which localisers depend."""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.shards import Shards
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.system.atomic_files import write_json
from stages.boxes import true_boxes, with_boxes
from stages.common import open_shards


def main(params: Params) -> None:
    """Count the boxes of both splits, and write the counts."""
    statistics = read_statistics()
    counts = {split: _counts(open_shards(params, split, statistics)) for split in params.active.splits}
    write_json(CLASSIFICATION.boxes, counts)
    for split, count in counts.items():
        print(f"{split}: {count['with_boxes']:,} of {count['images']:,} images have boxes, {count['boxes']:,} in all")


def _counts(shards: Shards) -> dict[str, Any]:
    """Return the numbers of images, of those with boxes and of boxes, and a hash of the boxes and their images."""
    boxes, of = true_boxes(shards)
    digest = hashlib.sha256(boxes.astype("<f4").tobytes() + of.astype("<i8").tobytes()).hexdigest()
    return {"images": len(shards), "with_boxes": len(with_boxes(shards)), "boxes": len(boxes), "sha256": digest}
