"""The page of the prepared data: counts, sizes, colours, changes to images and skipped images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.datasets.facts import PREPARE, Facts
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION
from reports.page import Block, Bullets, Code, Figure, Heading, Inline, Page, Paragraph, Table, left, right
from reports.phrases import NONE, number

MANY = 50  # classes; of more, only the smallest and largest are shown
NAMES = 20  # images shown by name in a list; all are in the manifest
PICTURE = "crops.png"


def read_manifest() -> pd.DataFrame:
    """Return the manifest, one row per image, kept or skipped. Raise Failure if there is none."""
    try:
        texts = dict.fromkeys(("split", "id", "sha256", "changed", "small", "warning", "skipped"), str)
        missing = {name: [""] for name in ("class", "height", "width", "bytes")}
        return pd.read_csv(CLASSIFICATION.manifest, dtype=texts, keep_default_na=False, na_values=missing)
    except FileNotFoundError:
        raise Failure(f"{CLASSIFICATION.manifest} is not there; make it with: {PREPARE}") from None


def data_page(profile: str, facts: Facts, manifest: pd.DataFrame, crop: int) -> Page:
    """Return everything about the prepared data; `crop` is the training crop's side in pixels."""
    kept, skipped = manifest[manifest["skipped"] == ""], manifest[manifest["skipped"] != ""]
    return (
        Heading(1, ("The data of profile ", Code(profile))),
        Paragraph(_about(facts)),
        Table((*left(""), *right(*facts.splits)), _figures(kept, skipped, crop, facts.splits)),
        Heading(2, "Classes"),
        *_classes(kept, facts.classes, facts.splits),
        Heading(2, "Skipped"),
        *_skipped(skipped),
        *_doubtful(kept[kept["warning"] != ""]),
    )


def crops_section(crops: int) -> Page:
    """Return the section that shows a contact sheet of `crops` training crops."""
    return (
        Heading(2, "As the net sees them"),
        Paragraph(
            f"{crops} training crops, S drawn from the grid's range, flipped and their colours shifted as in training; "
            "the mean is added back for the eye."
        ),
        Figure(PICTURE, "Training crops"),
    )


def _about(facts: Facts) -> tuple[Inline, ...]:
    return (
        f"{facts.about[0].upper()}{facts.about[1:]}: {len(facts.classes)} classes. {_colours(facts)} The manifest "
        "begins with ",
        Code(facts.manifest[:16]),
        ".",
    )


def _colours(facts: Facts) -> str:
    """Return the training images' colours as a sentence: mean RGB and standard deviation in grey levels."""
    if not facts.train:
        return "Validation images alone: nothing is trained on them."
    mean, std = (", ".join(number(level) for level in levels)
                       for levels in (facts.mean_rgb, np.sqrt(np.diag(facts.covariance))))  # fmt: skip
    return (
        f"Over the training images, each weighing the same, the mean RGB is {mean} and its standard deviation {std}, "
        "in grey levels."
    )


def _figures(
    kept: pd.DataFrame, skipped: pd.DataFrame, crop: int, splits: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return one row per figure, with one column per split."""
    columns = [_column(kept[kept["split"] == split], skipped[skipped["split"] == split], crop) for split in splits]
    return tuple((name, *(column[name] for column in columns)) for name in columns[0])


def _column(kept: pd.DataFrame, skipped: pd.DataFrame, crop: int) -> dict[str, str]:
    sides = np.sort(kept[["height", "width"]].to_numpy(np.int64), axis=1)  # (images, 2): shorter, longer
    aspects = sides[:, 1] / sides[:, 0]
    per_class = kept.groupby("class").size()
    return {
        "images": f"{len(kept):,}",
        "skipped": f"{len(skipped):,}",
        "images a class": _range(per_class.to_numpy()),
        "shorter side as stored, pixels": _range(sides[:, 0]),
        "longer side as stored, pixels": _range(sides[:, 1]),
        "longer side to shorter": _range(aspects, "{:.2f}"),
        f"smaller than the crop of {crop} pixels, to be enlarged": _count(kept["small"] == "yes"),
        "made smaller": _count(kept["changed"].str.contains("rescaled")),
        "turned upright": _count(kept["changed"].str.contains("turned")),
        "converted from another kind": _count(kept["changed"].str.contains("converted")),
        "as they came, megabytes": f"{kept['bytes'].sum() / 1e6:,.1f}",
    }


def _count(which: pd.Series) -> str:
    return f"{int(which.sum()):,}" if which.any() else NONE


def _range(values: Any, form: str = "{:,.0f}") -> str:
    """Return the smallest, median and largest value: 120 to 300, median 200."""
    if not len(values):
        return NONE
    low, middle, high = (form.format(value) for value in (values.min(), np.median(values), values.max()))
    return low if low == high else f"{low} to {high}, median {middle}"


def _classes(kept: pd.DataFrame, names: list[str], splits: Sequence[str]) -> Iterator[Block]:
    counts = [kept[kept["split"] == split].groupby("class").size() for split in splits]
    rows = [(name, [int(count.get(label, 0)) for count in counts]) for label, name in enumerate(names)]
    if len(rows) > MANY:
        rows.sort(key=lambda row: row[1][0])
        called = "training" if splits[0] == "train" else "validation"
        yield Paragraph(f"The five with the fewest and the five with the most {called} images, of {len(names):,}:")
        rows = [*rows[:5], *rows[-5:]]
    cells = ((name, *(f"{images:,}" for images in each)) for name, each in rows)
    yield Table((*left("class"), *right(*splits)), tuple(cells))
    if without := [name for label, name in enumerate(names) if not counts[-1].get(label, 0)]:
        yield Paragraph(f"Without a validation image: {', '.join(without[:NAMES])}{_remainder(len(without))}.")


def _skipped(skipped: pd.DataFrame) -> Iterator[Block]:
    if skipped.empty:
        yield Paragraph("Nothing.")
        return
    kinds = skipped["skipped"].str.partition(":")[0].value_counts().head(NAMES)
    yield Table((*left("why"), *right("images")), tuple((str(kind), f"{count:,}") for kind, count in kinds.items()))
    yield from _named(skipped, "skipped")


def _doubtful(warned: pd.DataFrame) -> Iterator[Block]:
    if not warned.empty:
        yield Heading(2, "Kept, and doubtful")
        yield Paragraph("The decoder warns of these; their pixels may be wrong in places.")
        yield from _named(warned, "warning")


def _named(rows: pd.DataFrame, column: str) -> Iterator[Block]:
    """Yield the first images by name, each with the text in `column`."""
    yield Bullets(tuple((Code(row["id"]), f": {row[column]}") for _, row in rows.head(NAMES).iterrows()))
    if len(rows) > NAMES:
        yield Paragraph((f"And {len(rows) - NAMES:,} more: ", Code(str(CLASSIFICATION.manifest)), " has all."))


def _remainder(count: int) -> str:
    return f" and {count - NAMES:,} more" if count > NAMES else ""
