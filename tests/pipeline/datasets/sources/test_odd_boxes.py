"""ILSVRC's boxes as people have them: what is repaired, what is not used, and what `vgg-repro data` says of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.manifest import ODD_BOXES
from pipeline.datasets.manifest_summary import read_odd_boxes
from pipeline.datasets.sources.base import SPLITS
from pipeline.datasets.sources.ilsvrc.boxes import (
    CUT,
    EXCHANGED,
    FOREIGN,
    OUTSIDE,
    RESCALED,
    FoundBoxes,
    in_pixels,
    parsed,
)
from reports.data_page import _boxes
from reports.markdown import markdown

WIDTH, HEIGHT = 200, 100
WNID = "n02110185"


def image() -> bytes:
    """An image of WIDTH x HEIGHT pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG")
    return buffer.getvalue()


def found(
    *objects: tuple[str, tuple[int, ...]], size: tuple[int, int] = (WIDTH, HEIGHT), id: str = f"{WNID}_7"
) -> FoundBoxes:
    """What is found in an annotation with these objects, by name."""
    names = ("xmin", "ymin", "xmax", "ymax")
    corners = ["".join(f"<{key}>{at}</{key}>" for key, at in zip(names, box, strict=True)) for _, box in objects]
    inside = "".join(
        f"<object><name>{name}</name><bndbox>{corner}</bndbox></object>"
        for (name, _), corner in zip(objects, corners, strict=True)
    )
    text = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{inside}</annotation>"
    ((name, boxes),) = parsed("archive", [(f"{WNID}/{id}.xml", text.encode())])
    assert name == id
    return in_pixels(boxes, image())


@pytest.mark.parametrize(
    ("box", "boxes", "odd"),
    [
        ((10, 20, 60, 80), ((10, 20, 60, 80),), ()),
        ((60, 20, 10, 80), ((10, 20, 60, 80),), (EXCHANGED,)),
        ((60, 80, 10, 20), ((10, 20, 60, 80),), (EXCHANGED,)),
        ((-5, 20, 60, 130), ((0, 20, 60, 100),), (CUT,)),
        ((260, 20, -5, 80), ((0, 20, 200, 80),), (EXCHANGED, CUT)),
        ((210, 20, 260, 80), (), (OUTSIDE,)),
        ((10, 20, 10, 80), (), (OUTSIDE,)),
    ],
)
def test_a_box_is_repaired_where_that_is_safe(
    box: tuple[int, ...], boxes: tuple[tuple[int, ...], ...], odd: tuple[str, ...]
) -> None:
    assert found((WNID, box)) == (boxes, odd)


def test_a_box_of_another_image_size_is_rescaled() -> None:
    assert found((WNID, (20, 60, 120, 240)), size=(2 * WIDTH, 3 * HEIGHT)) == (((10, 20, 60, 80),), (RESCALED,))


def test_only_another_word_net_id_says_that_an_object_is_of_another_class() -> None:
    box, other = (10, 20, 60, 80), (1, 2, 30, 40)
    assert found(("Siberian_husky", box), (WNID, other)) == ((box, other), ())
    assert found(("n02109961", box), (WNID, other)) == ((other,), (FOREIGN,))
    assert found(("n02109961", box), id="ILSVRC2012_val_00000001") == ((box,), ())


def test_the_page_counts_each_kind_and_names_the_images_whose_boxes_are_not_used(tmp_path: Path) -> None:
    rows = [("train", "train/a", EXCHANGED), ("train", "train/a", OUTSIDE), ("train", "train/b", EXCHANGED),
            ("val", "val/c", RESCALED)]  # fmt: skip
    with (tmp_path / ODD_BOXES).open("w", newline="") as file:
        csv.writer(file).writerows([("split", "id", "kind"), *rows])
    odd = read_odd_boxes(tmp_path)
    assert odd.images == {"train": {EXCHANGED: 2, OUTSIDE: 1}, "val": {RESCALED: 1}}
    assert odd.unused == [("train/a", OUTSIDE)]
    text = markdown(tuple(_boxes(SPLITS, odd)))
    assert "min and max exchanged" in text and f"`train/a`: {OUTSIDE}" in text and "train/b" not in text


def test_shards_that_are_older_have_none(tmp_path: Path) -> None:
    assert not any(read_odd_boxes(tmp_path).images.values())
