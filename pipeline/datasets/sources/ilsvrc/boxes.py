"""ILSVRC-2012's boxes around objects: one small XML file per image, in two archives."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, fromstring

from PIL import Image

from pipeline.datasets.sources.base import WNID, Box
from pipeline.datasets.sources.folder import printable
from pipeline.datasets.sources.ilsvrc.tar import sequential_members
from pipeline.errors import Failure
from pipeline.system.memory import check

ARCHIVES = {"train": "ILSVRC2012_bbox_train_v2.tar.gz", "val": "ILSVRC2012_bbox_val_v3.tgz"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")
EXCHANGED, CUT, OUTSIDE, FOREIGN, RESCALED = (
    "min and max exchanged",
    "cut at the edge",
    "outside the image or empty",
    "of another class",
    "of another image size",
)  # what is odd about a box: the first two and the last are repaired, the others are not used
UNUSED = (OUTSIDE, FOREIGN)


class AnnotatedBox(NamedTuple):
    """A box as annotated: in pixels of an image of the annotation's size, which is not always the real one."""

    left: float
    top: float
    right: float
    bottom: float
    width: float = 0  # of the image that was annotated; 0 if it is not stated: that of the image itself
    height: float = 0
    foreign: bool = False  # an object of another class, by its name


class FoundBoxes(NamedTuple):
    """An image's boxes in its own pixels, and what was odd about those that were annotated."""

    boxes: tuple[Box, ...] = ()
    odd: tuple[str, ...] = ()  # kinds, each once


Boxes = tuple[AnnotatedBox, ...]  # an image's


def read_boxes(archive: Path) -> Iterator[tuple[str, Boxes]]:
    """Yield each annotation's image name, without its ending, and boxes. Raise Failure, naming it, if one is broken."""
    yield from parsed(str(archive), sequential_members(archive))


def read_annotations(folder: Path) -> Iterator[tuple[str, Boxes]]:
    """Yield the same from a folder of annotations, such as Kaggle's."""
    names = (Path(place, name) for place, _, inside in os.walk(folder) for name in inside if name.endswith(".xml"))
    yield from parsed(str(folder), ((str(path.relative_to(folder)), path.read_bytes()) for path in names))


def parsed(archive: str, annotations: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Boxes]]:
    """Yield the same from annotations by name, which come from `archive`."""
    for name, content in annotations:
        if not name.endswith(".xml"):
            continue
        try:
            if b"<!" in content:  # entity declarations, whose expansion may be unbounded
                raise ValueError("it contains declarations")
            id = PurePosixPath(name).stem
            yield id, tuple(_annotated(fromstring(content), id.partition("_")[0]))
        except (ParseError, ValueError, LookupError) as error:
            raise Failure(f"{archive}: {printable(name)} is not an annotation ({error}); download it again") from None


def in_pixels(boxes: Boxes, encoded: bytes) -> FoundBoxes:
    """Return the boxes in pixels of their image, or none if it cannot be opened.

    Boxes whose min and max are exchanged are turned round, those that reach beyond the image are cut, and those that
    were measured in another size of the image are rescaled. Boxes without an area inside the image, and those of
    objects of other classes, are not used.
    """
    if not boxes:
        return FoundBoxes()
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
    except Exception as error:  # Pillow's readers raise any exception; checking the image reports it later
        check(error)
        return FoundBoxes()
    kept, odd = list[Box](), dict[str, None]()
    for box in boxes:
        own, found = repaired(box, width, height)
        kept += [own] if own else []
        odd |= dict.fromkeys(found)
    return FoundBoxes(tuple(kept), tuple(odd))


def repaired(box: AnnotatedBox, width: int, height: int) -> tuple[Box | None, list[str]]:
    """Return a box in pixels of its image, None if it is not used, and what is odd about it."""
    if box.foreign:
        return None, [FOREIGN]
    size = box.width or width, box.height or height
    odd = [RESCALED] * (size != (width, height))
    odd += [EXCHANGED] * (box.left > box.right or box.top > box.bottom)
    (left, right), (top, bottom) = sorted((box.left, box.right)), sorted((box.top, box.bottom))
    inside = max(left, 0.0), max(top, 0.0), min(right, size[0]), min(bottom, size[1])
    if not (inside[0] < inside[2] and inside[1] < inside[3]):  # also if one is no number
        return None, [*odd, OUTSIDE]
    odd += [CUT] * (inside != (left, top, right, bottom))
    across, down = width / size[0], height / size[1]
    return (inside[0] * across, inside[1] * down, inside[2] * across, inside[3] * down), odd


def _annotated(annotation: Element, wnid: str) -> Iterator[AnnotatedBox]:
    """Yield the boxes of an image whose name begins with a class. Raise ValueError if the annotation is broken.

    Many objects are named in words, such as Scottish_deerhound, so only another WordNet id says that an object is of
    another class. The names of validation images do not begin with a class: all their objects count.
    """
    width, height = (float(_text(annotation, f"size/{side}")) for side in ("width", "height"))
    if not (width >= 1 and height >= 1):
        raise ValueError("its size is not a size")
    for thing in annotation.iterfind("object"):
        name = (thing.findtext("name") or "").strip()
        foreign = bool(WNID.fullmatch(wnid) and WNID.fullmatch(name)) and name != wnid
        for box in thing.iterfind("bndbox"):
            left, top, right, bottom = (float(_text(box, corner)) for corner in CORNERS)
            yield AnnotatedBox(left, top, right, bottom, width, height, foreign)


def _text(element: Element, path: str) -> str:
    """Return the text of a child element. Raise ValueError if there is none."""
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text
