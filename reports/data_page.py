"""The page of the prepared data: counts, sizes, colours, changes to images and skipped images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipeline.datasets.facts import Facts
from pipeline.datasets.manifest_summary import ManifestSummary, OddBoxes, SplitSummary, Spread
from pipeline.datasets.sources.base import Split
from pipeline.experiment.paths import CLASSIFICATION
from reports.page import Block, Bullets, Code, Figure, Heading, Inline, Page, Paragraph, Table, left, right
from reports.phrases import NONE, number

MANY = 50  # classes; of more, only the smallest and largest are shown
NAMES = 20  # images shown by name in a list; all are in the manifest
LISTED = 200  # classes listed by name in a sentence
PICTURE = "crops.jpg"


def data_page(profile: str, facts: Facts, manifest: ManifestSummary, odd: OddBoxes, crop: int) -> Page:
    """Return everything about the prepared data; `crop` is the training crop's side in pixels."""
    splits = {split: manifest.splits[split] for split in facts.splits}
    return (
        Heading(1, ("Data of profile ", Code(profile))),
        Paragraph(_about(facts)),
        Table((*left(""), *right(*splits)), _figures(splits.values(), crop)),
        Heading(2, "Classes"),
        *_classes(splits, facts.classes),
        Heading(2, "Skipped"),
        *_skipped(manifest),
        *_doubtful(manifest.doubtful),
        *_boxes(facts.splits, odd),
    )


def crops_section(crops: int) -> Page:
    """Return the section that shows a contact sheet of `crops` training crops."""
    return (
        Heading(2, "Training crops as the net receives them"),
        Paragraph(
            f"{crops} training crops with random S from the range of all runs, random flips and colour shifts, as in "
            "training. The mean is added back for display."
        ),
        Figure(PICTURE, "Training crops"),
    )


def data_summary(facts: Facts, crops: bool) -> Page:
    """Return what the facts alone say of the data; `crops` says whether a contact sheet of them was written."""
    counts = ((split, f"{getattr(facts, split):,}") for split in facts.splits)
    sheet = "Training crops as the net receives them: random S, flips and colour shifts. The mean is added back."
    return (
        Heading(1, "Data"),
        Paragraph(_about(facts)),
        Table((*left("split"), *right("images")), tuple(counts)),
        Paragraph(f"Classes: {', '.join(facts.classes[:LISTED])}{_remainder(len(facts.classes), LISTED)}."),
        *[Figure(PICTURE, "Training crops", sheet)] * (crops and bool(facts.train)),
    )


def _about(facts: Facts) -> tuple[Inline, ...]:
    return (
        f"{facts.about[0].upper()}{facts.about[1:]}: {len(facts.classes)} classes. {_colours(facts)}{_decoder(facts)} "
        "The manifest begins with ",
        Code(facts.manifest[:16]),
        ".",
    )


def _colours(facts: Facts) -> str:
    """Return the training images' colours as a sentence: mean RGB and standard deviation in grey levels."""
    if not facts.train:
        return "Validation images only: this profile does not train."
    mean, std = (", ".join(number(level) for level in levels) for levels in (facts.mean_rgb, facts.std_rgb))
    return (
        f"Over the training images, weighted equally, the mean RGB is {mean} and its standard deviation {std}, "
        "in grey levels."
    )


def _decoder(facts: Facts) -> str:
    """Return a sentence on the decoder of the images if it is not DALI; it begins with a space."""
    if "decoder" not in facts.stored:
        return ""
    return " They are decoded and rescaled by simplejpeg and Pillow, whose pixels differ from DALI's by a grey level."


def _figures(splits: Iterable[SplitSummary], crop: int) -> tuple[tuple[str, ...], ...]:
    """Return one row per figure, with one column per split."""
    columns = [_column(split, crop) for split in splits]
    return tuple((name, *(column[name] for column in columns)) for name in columns[0])


def _column(split: SplitSummary, crop: int) -> dict[str, str]:
    return {
        "images": f"{split.images:,}",
        "skipped": f"{split.skipped:,}",
        "images per class": _range(split.per_class),
        "shorter side as stored, pixels": _range(split.shorter),
        "longer side as stored, pixels": _range(split.longer),
        "aspect ratio, longer side to shorter": _range(split.aspect, "{:.2f}"),
        f"smaller than the {crop}-pixel crop, upscaled for use": _count(split.small),
        "downscaled": _count(split.rescaled),
        "rotated or mirrored upright": _count(split.turned),
        "converted from another format": _count(split.converted),
        "converted to sRGB from another colour profile": _count(split.converted_colours),
        "read as sRGB despite another colour profile": _count(split.ignored_colours),
        "original files, megabytes": f"{split.bytes / 1e6:,.1f}",
    }


def _count(images: int) -> str:
    return f"{images:,}" if images else NONE


def _range(values: Spread | None, form: str = "{:,.0f}") -> str:
    """Return the smallest, median and largest value: 120 to 300, median 200."""
    if values is None:
        return NONE
    low, middle, high = (form.format(value) for value in (values.smallest, values.median, values.largest))
    return low if low == high else f"{low} to {high}, median {middle}"


def _classes(splits: Mapping[Split, SplitSummary], names: list[str]) -> Iterator[Block]:
    counts = [split.classes for split in splits.values()]
    rows = [(name, [count.get(label, 0) for count in counts]) for label, name in enumerate(names)]
    if len(rows) > MANY:
        rows.sort(key=lambda row: row[1][0])
        called = "training" if "train" in splits else "validation"
        yield Paragraph(f"Classes with the fewest and the most {called} images, five each, of {len(names):,}:")
        rows = [*rows[:5], *rows[-5:]]
    cells = ((name, *(f"{images:,}" for images in each)) for name, each in rows)
    yield Table((*left("class"), *right(*splits)), tuple(cells))
    if without := [name for label, name in enumerate(names) if not counts[-1].get(label, 0)]:
        yield Paragraph(f"Classes without validation images: {', '.join(without[:NAMES])}{_remainder(len(without))}.")


def _skipped(manifest: ManifestSummary) -> Iterator[Block]:
    if not manifest.skipped:
        yield Paragraph("No image was skipped.")
        return
    kinds = tuple((kind, f"{count:,}") for kind, count in manifest.reasons.items())
    yield Table((*left("why"), *right("images")), kinds[:NAMES])
    yield from _named(manifest.skipped)


def _doubtful(warned: Sequence[tuple[str, str]]) -> Iterator[Block]:
    if warned:
        yield Heading(2, "Kept with a warning")
        yield Paragraph("The decoder warned about these images; parts of them may be wrong.")
        yield from _named(warned)


def _boxes(splits: Sequence[Split], odd: OddBoxes) -> Iterator[Block]:
    """Yield the boxes that were not as they should be; nothing if there are none."""
    kinds = dict.fromkeys(kind for split in splits for kind in odd.images[split])
    if not kinds:
        return
    yield Heading(2, "Boxes")
    yield Paragraph(
        "Images with boxes that were repaired or not used. Boxes whose min and max are exchanged are turned round, "
        "those that reach beyond the image are cut, and those measured in another size of the image are rescaled."
    )
    rows = tuple((kind, *(_count(odd.images[split].get(kind, 0)) for split in splits)) for kind in kinds)
    yield Table((*left("boxes"), *right(*splits)), rows)
    if odd.unused:
        yield Paragraph("Images with boxes that are not used:")
        yield from _named(odd.unused)


def _named(images: Sequence[tuple[str, str]]) -> Iterator[Block]:
    """Yield the first images by name, each with its text."""
    yield Bullets(tuple((Code(name), f": {text}") for name, text in images[:NAMES]))
    if len(images) > NAMES:
        yield Paragraph((f"And {len(images) - NAMES:,} more, all listed in ", Code(str(CLASSIFICATION.manifest)), "."))


def _remainder(count: int, shown: int = NAMES) -> str:
    return f" and {count - shown:,} more" if count > shown else ""
