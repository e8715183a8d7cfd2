"""ILSVRC-2012's boxes around objects: one small XML file per image, in two archives."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, fromstring

from PIL import Image

from pipeline.datasets.sources.base import Box
from pipeline.datasets.sources.folder import printable
from pipeline.datasets.sources.ilsvrc.tar import sequential_members
from pipeline.errors import Failure
from pipeline.system.memory import check

ARCHIVES = {"train": "ILSVRC2012_bbox_train_v2.tar.gz", "val": "ILSVRC2012_bbox_val_v3.tgz"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class AnnotatedBox(NamedTuple):
    """A box as annotated: in pixels of an image of the annotation's size, which is not always the real one."""

    left: float
    top: float
    right: float
    bottom: float
    width: float = 0  # of the image that was annotated; 0 if it is not stated: that of the image itself
    height: float = 0


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
            yield PurePosixPath(name).stem, tuple(_annotated(fromstring(content)))
        except (ParseError, ValueError, LookupError) as error:
            raise Failure(f"{archive}: {printable(name)} is not an annotation ({error}); download it again") from None


def in_pixels(boxes: Boxes, encoded: bytes) -> tuple[Box, ...]:
    """Return the boxes in pixels of their image, clipped to it, or none if it cannot be opened.

    Those without a positive area are dropped: some are outside of the image or reversed.
    """
    if not boxes:
        return ()
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
    except Exception as error:  # Pillow's readers raise any exception; checking the image reports it later
        check(error)
        return ()
    found = ((*_along(box.left, box.right, box.width or width, width),
              *_along(box.top, box.bottom, box.height or height, height)) for box in boxes)  # fmt: skip
    return tuple((left, top, right, bottom) for left, right, top, bottom in found if left < right and top < bottom)


def _along(start: float, end: float, annotated: float, length: int) -> tuple[float, float]:
    """Return a box's extent along a side of `length` pixels, from that in an image whose side was `annotated`."""
    return min(max(start / annotated, 0.0), 1.0) * length, min(max(end / annotated, 0.0), 1.0) * length


def _annotated(annotation: Element) -> Iterator[AnnotatedBox]:
    """Yield the boxes. Raise ValueError if the annotation is broken."""
    width, height = (float(_text(annotation, f"size/{side}")) for side in ("width", "height"))
    if width < 1 or height < 1:
        raise ValueError("its size is zero")
    for box in annotation.iterfind("object/bndbox"):
        left, top, right, bottom = (float(_text(box, corner)) for corner in CORNERS)
        yield AnnotatedBox(left, top, right, bottom, width, height)


def _text(element: Element, path: str) -> str:
    """Return the text of a child element. Raise ValueError if there is none."""
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text
