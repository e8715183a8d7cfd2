"""Stand-ins of the official archives of appendix B's data sets, with strays; labels can be read from the pixels."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.readers.actions import ACTIONS
from pipeline.datasets.readers.voc import VOC_CLASSES
from tests.support.images import jpeg

CELL = 8  # pixels of a label's square
LEVELS = {-1: 20, 0: 128, 1: 235}
Contents = dict[str, bytes]  # files by path
Labels = Sequence[int]
PERSON = (3, 11, 83, 19)  # left, top, right, bottom of the box of a person, in pixels from 0


def painted(labels: Labels, height: int = CELL) -> np.ndarray:
    """A row of squares, one per label."""
    levels = np.array([LEVELS[label] for label in labels], np.uint8)
    return np.repeat(np.repeat(levels[None], CELL, 1), height, 0)[..., None].repeat(3, 2)


def labels_in(pixels: np.ndarray) -> list[int]:
    """The labels that `painted` wrote in the upper rows of an image (height, width, 3)."""
    middles = pixels[CELL // 2, CELL // 2 :: CELL].astype(float).mean(1)
    return [min(LEVELS, key=lambda label: abs(LEVELS[label] - level)) for level in middles]


def pixels_of(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def tar_of(contents: Contents, packed: bool = False) -> bytes:
    """A tar of files in the given order, with their folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if packed else "w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(contents: Contents) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def unpack(contents: Contents, folder: Path) -> Path:
    """The files in a folder."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def voc(year: int, sets: Mapping[str, Mapping[str, Labels]]) -> Contents:
    """VOC's classification task: for each set its images' labels of the 20 classes."""
    top, files = f"VOCdevkit/VOC{year}", Contents()
    for name, images in sets.items():
        main = f"{top}/ImageSets/Main"
        files[f"{main}/{name}.txt"] = "".join(f"{id}\n" for id in images).encode()
        for column, label in enumerate(VOC_CLASSES):
            lines = [f"{id} {labels[column]:2d}\n" for id, labels in images.items()]
            files[f"{main}/{label}_{name}.txt"] = "".join(lines).encode()
        for id, labels in images.items():
            files[f"{top}/JPEGImages/{id}.jpg"] = jpeg(painted(labels, 30), 95)
            files[f"{top}/Annotations/{id}.xml"] = xml(id, [])
    return files


def some_labels(seed: int, images: Sequence[str], classes: int = len(VOC_CLASSES)) -> dict[str, list[int]]:
    random = np.random.default_rng(seed)
    return {id: random.integers(-1, 2, classes).tolist() for id in images}


def xml(id: str, objects: Sequence[tuple[str, tuple[float, ...]]], size: tuple[int, int] = (90, 40)) -> bytes:
    """An annotation: each object's class, and its box in pixels from 1, ends included."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        + "</bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for name, box in objects
    )
    width, height = size
    return (
        f"<annotation><filename>{id}.jpg</filename><size><width>{width}</width><height>{height}</height></size>{inner}"
        "</annotation>"
    ).encode()


def actions(sets: Mapping[str, Mapping[str, Labels]]) -> Contents:
    """VOC-2012's action task: a horse and then a person on each image, with the labels of the 10 actions."""
    top, files = "VOCdevkit/VOC2012", Contents()
    left, upper, right, lower = PERSON
    for name, images in sets.items():
        files[f"{top}/ImageSets/Action/{name}.txt"] = "".join(f"{id}\n" for id in images).encode()
        for column, action in enumerate(ACTIONS):
            lines = [f"{id}  2 {labels[column]:2d}\n" for id, labels in images.items()]
            files[f"{top}/ImageSets/Action/{action}_{name}.txt"] = "".join(lines).encode()
        for id, labels in images.items():
            canvas = np.full((40, 90, 3), 60, np.uint8)
            canvas[upper:lower, left:right] = painted(labels)
            files[f"{top}/JPEGImages/{id}.jpg"] = jpeg(canvas, 95)
            boxes = [("horse", (1, 20, 90, 40)), ("person", (left + 1, upper + 1, right, lower))]
            files[f"{top}/Annotations/{id}.xml"] = xml(id, boxes)
    return files


def without_labels(contents: Contents) -> Contents:
    """VOC2012test.tar: the lists of the classes without the labels, which are in the pixels alone."""
    return {
        name: b"".join(b" ".join(line.split()[:-1]) + b"\n" for line in data.splitlines())
        if name.endswith("_test.txt") else data
        for name, data in contents.items()
    }  # fmt: skip


def shade(number: int) -> bytes:
    """An image of a class: its shade is 20 times the class's number."""
    return jpeg(np.full((30, 45, 3), 20 * number, np.uint8), 95)


def shade_in(encoded: bytes) -> int:
    return round(pixels_of(encoded).mean() / 20)


def caltech101(images: int = 3) -> Contents:
    """Caltech-101, not in the order of names, with the file that is no image in the background."""
    classes = ["BACKGROUND_Google", "Faces", "Faces_easy", "accordion"]
    files = {
        f"101_ObjectCategories/{name}/image_{number:04d}.jpg": shade(label)
        for label, name in reversed(list(enumerate(classes)))
        for number in range(images, 0, -1)
    }
    return files | {"101_ObjectCategories/BACKGROUND_Google/tmp": b"no image"}


def caltech256(images: int = 3) -> Contents:
    """Caltech-256 with its strays."""
    classes = ["001.ak47", "056.dog", "198.spider", "257.clutter"]
    files = {
        f"256_ObjectCategories/{name}/{name[:3]}_{number:04d}.jpg": shade(label)
        for label, name in enumerate(classes)
        for number in range(1, images + 1)
    }
    return files | {
        "256_ObjectCategories/198.spider/RENAME2": b"mv", "256_ObjectCategories/056.dog/greg/vision309/a.jpg": shade(1)
    }  # fmt: skip


def nested101(contents: Contents) -> bytes:
    """caltech-101.zip: a packed tar in a zip, beside what macOS adds."""
    packed = tar_of(contents, packed=True)
    return zip_of(
        {
            "__MACOSX/caltech-101/._101_ObjectCategories.tar.gz": b"fork",
            "caltech-101/Annotations.tar": tar_of({"Annotations/x.mat": b""}),
            "caltech-101/101_ObjectCategories.tar.gz": packed,
        }
    )
