"""The manifest in numbers: each split's images, classes, sizes and changes, and the images that were skipped."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.facts import PREPARE
from pipeline.datasets.image_file import OTHER_COLOURS, OTHER_COLOURS_IGNORED
from pipeline.datasets.manifest import ODD_BOXES
from pipeline.datasets.sources.base import SPLITS, Split
from pipeline.datasets.sources.ilsvrc.boxes import UNUSED
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Spread:
    """The smallest, median and largest of some values."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class SplitSummary:
    """The images of a split; sizes are as stored in the source. A spread is None if there are no images."""

    images: int  # kept
    skipped: int
    classes: Mapping[int, int]  # label to number of images, of the labels that have any
    per_class: Spread | None  # number of images
    shorter: Spread | None  # side in pixels
    longer: Spread | None
    aspect: Spread | None  # longer side over shorter
    small: int  # images smaller than the training crop
    rescaled: int
    turned: int
    converted: int  # from another format
    converted_colours: int  # to sRGB
    ignored_colours: int  # read as sRGB though a colour profile says otherwise
    bytes: int


@dataclass(frozen=True)
class ManifestSummary:
    """A manifest's images in numbers, and the images that people should look at."""

    splits: Mapping[Split, SplitSummary]
    reasons: Mapping[str, int]  # kind of reason to number of skipped images, the most frequent first
    skipped: Sequence[tuple[str, str]]  # id and reason of each skipped image
    doubtful: Sequence[tuple[str, str]]  # id and decoder's warning of kept images


@dataclass(frozen=True)
class OddBoxes:
    """The boxes that were repaired or not used."""

    images: Mapping[Split, Mapping[str, int]]  # number of images with each kind of them
    unused: Sequence[tuple[str, str]]  # id of each image with boxes that are not used, and why


def read_manifest() -> pd.DataFrame:
    """Return the manifest, one row per image, kept or skipped. Raise Failure if there is none."""
    import pandas as pd

    try:
        texts = dict.fromkeys(("split", "id", "sha256", "changed", "small", "warning", "skipped"), str)
        missing = {name: [""] for name in ("class", "height", "width", "bytes")}
        return pd.read_csv(CLASSIFICATION.manifest, dtype=texts, keep_default_na=False, na_values=missing)
    except FileNotFoundError:
        raise Failure(f"{CLASSIFICATION.manifest} does not exist; make it with: {PREPARE}") from None


def summarise(manifest: pd.DataFrame) -> ManifestSummary:
    """Return a manifest in numbers."""
    kept, skipped = manifest[manifest["skipped"] == ""], manifest[manifest["skipped"] != ""]
    notes = _notes(skipped, "skipped")
    return ManifestSummary(
        {split: _split(kept[kept["split"] == split], skipped[skipped["split"] == split]) for split in SPLITS},
        dict(Counter(reason.partition(":")[0] for _, reason in notes).most_common()),
        notes,
        _notes(kept[kept["warning"] != ""], "warning"),
    )


def read_odd_boxes(folder: Path) -> OddBoxes:
    """Return the odd boxes of the data set in `folder`; none if its shards are older than their table."""
    path = folder / ODD_BOXES
    lines = []
    if path.exists():
        with path.open(newline="") as file:
            lines = list(csv.reader(file))[1:]
    unused = dict[str, list[str]]()
    for _, id, kind in lines:
        if kind in UNUSED:
            unused.setdefault(id, []).append(kind)
    kinds = {split: dict(Counter(kind for own, _, kind in lines if own == split).most_common()) for split in SPLITS}
    return OddBoxes(kinds, [(id, "; ".join(found)) for id, found in unused.items()])


def _split(kept: pd.DataFrame, skipped: pd.DataFrame) -> SplitSummary:
    sides = np.sort(kept[["height", "width"]].to_numpy(np.int64), axis=1)  # (images, 2): shorter, longer
    per_class = kept.groupby("class").size()
    return SplitSummary(
        images=len(kept),
        skipped=len(skipped),
        classes={int(label): int(count) for label, count in zip(per_class.index, per_class, strict=True)},
        per_class=_spread(per_class.to_numpy()),
        shorter=_spread(sides[:, 0]),
        longer=_spread(sides[:, 1]),
        aspect=_spread(sides[:, 1] / sides[:, 0]),
        small=int((kept["small"] == "yes").sum()),
        rescaled=int(kept["changed"].str.contains("rescaled").sum()),
        turned=int(kept["changed"].str.contains("turned").sum()),
        converted=int((kept["changed"].str.contains("converted") & ~kept["changed"].str.contains(OTHER_COLOURS)).sum()),
        converted_colours=int(kept["changed"].str.contains(OTHER_COLOURS).sum()),
        ignored_colours=int(kept["changed"].str.contains(OTHER_COLOURS_IGNORED).sum()),
        bytes=int(kept["bytes"].sum()),
    )


def _spread(values: Any) -> Spread | None:
    return Spread(float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


def _notes(rows: pd.DataFrame, column: str) -> Sequence[tuple[str, str]]:
    """Return each image's id with its text in `column`."""
    return list(zip(rows["id"], rows[column], strict=True))
