"""PASCAL VOC's classification tasks of 2007 and 2012: labels come from ImageSets/Main/CLASS_SET.txt (appendix B)."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import numpy as np

from pipeline.datasets.readers.archives import ArchivedReader, Files, is_image
from pipeline.datasets.readers.base import NEGATIVE, NEITHER, POSITIVE, WHOLE, Annotations, in_order
from pipeline.datasets.sources.base import Encoded, Entry, Listing, Skipped, Unreadable
from pipeline.datasets.sources.folder import NOT_AN_IMAGE, printable
from pipeline.errors import Failure

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
IMAGES = "JPEGImages/"
NO_FILE = "it is in the sets, but its file is missing"
IN_NO_SET = "an image that is in none of the sets"
LABELS = {"1": POSITIVE, "0": NEITHER, "-1": NEGATIVE}


class VocReader(ArchivedReader):
    """A task of VOC: images by id, and sets of them. A subclass says what its examples are."""

    task: ClassVar[str]  # the folder of its sets
    sets: ClassVar[tuple[str, ...]]
    other_tasks: ClassVar[bool] = False  # whether there are also images of other tasks, which are not listed

    def listing(self) -> Listing:
        """Return the images of the sets, those without a file, and the strays."""
        files = self.files()
        ids = sorted(self.image_ids(files))
        lost = {id: reason for id in ids if (reason := self.why_lost(files, id))}
        entries = [Entry(id, 0, self.where(files, id)) for id in ids if id not in lost]
        skipped = [Skipped("val", printable(id), reason, lost=True) for id, reason in lost.items()]
        classes = self.class_names()
        return Listing(
            classes,
            {"train": [], "val": entries},
            [*skipped, *self._strays(files, set(ids))],
            departures=self.departures(len(entries), len(classes)),
        )

    def annotations(self) -> Annotations:
        """Return the examples of the sets, one set after the other. Raise Failure if a file is missing or broken."""
        return self.examples(self.files())

    def examples(self, files: Files) -> Annotations:
        """Return the annotations in `files`."""
        raise NotImplementedError

    def image_ids(self, files: Files) -> set[str]:
        """Return the ids of the images that are in the sets."""
        return set(self.examples(files).images)

    def why_lost(self, files: Files, id: str) -> str:
        """Return why an image of the sets cannot be read; an empty string if it can."""
        file = files.get(f"{IMAGES}{id}.jpg")
        return file.reason if file else NO_FILE

    def class_names(self) -> list[str]:
        """Return the classes' names."""
        return list(VOC_CLASSES)

    def where(self, files: Files, id: str) -> object:
        """Return what an image is read by."""
        return files[f"{IMAGES}{id}.jpg"]

    def read(self, entry: Entry) -> Encoded:
        """Return an image's bytes."""
        return Encoded(entry.where.read())

    def rows(self, files: Files, name: str, fields: int) -> list[list[str]]:
        """Return the fields of each line of the task's file `name`. Raise Failure if it is missing or otherwise."""
        place = f"ImageSets/{self.task}/{name}.txt"
        if place not in files:
            needed = " and ".join(names[0] for names in self.archives)
            raise Failure(f"{self.root} has no {self.top}/{place}, which {needed} should have: download or unpack both")
        try:
            text = files[place].read().decode()
        except (Unreadable, UnicodeDecodeError) as error:
            raise Failure(f"{self.root}: {self.top}/{place} cannot be read: {error}") from None
        rows = [line.split() for line in text.splitlines() if line.strip()]
        for row in rows:
            if len(row) != fields or (fields > 1 and row[-1] not in LABELS):
                line = printable(" ".join(row))[:60]
                raise Failure(f"{self.root}: {self.top}/{place} has a line {line!r}, which is not as in VOC")
        return rows

    def _strays(self, files: Files, ids: set[str]) -> list[Skipped]:
        """Return what is in the folder of the images besides them."""
        strays = []
        for name, file in files.items():
            id = name.removeprefix(IMAGES).removesuffix(".jpg")
            if not name.startswith(IMAGES) or id in ids:
                continue
            reason = file.reason or ("" if is_image(name) else NOT_AN_IMAGE)
            if reason or not self.other_tasks:
                strays.append(Skipped("val", printable(name), reason or IN_NO_SET))
        return strays


class VocImages(VocReader):
    """Classification: an example is an image."""

    task = "Main"

    def examples(self, files: Files) -> Annotations:
        """Return the labels of the images; difficult ones are NEITHER."""
        by_set = {name: [row[0] for row in self.rows(files, name, 1)] for name in self.sets}
        ids = [id for members in by_set.values() for id in members]
        self._check_once(ids)
        labels = np.concatenate([self._labels(files, name, members) for name, members in by_set.items()])
        subsets = in_order([(name, len(members)) for name, members in by_set.items()])
        return Annotations(self.class_names(), ids, np.full(len(ids), WHOLE), labels, subsets)

    def _labels(self, files: Files, name: str, ids: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
        """Return the labels (images, classes) of a set. Raise Failure if a class's file has other images."""
        labels = np.empty((len(ids), len(VOC_CLASSES)), np.int8)
        for column, label in enumerate(VOC_CLASSES):
            values = {id: LABELS[value] for id, value in self.rows(files, f"{label}_{name}", 2)}
            if differing := set(ids) ^ set(values):
                file, one = f"{self.top}/ImageSets/{self.task}/{label}_{name}.txt", printable(min(differing))
                raise Failure(
                    f"{self.root}: {file} and {name}.txt have different images, such as {one}: download it again"
                )
            labels[:, column] = [values[id] for id in ids]
        return labels

    def _check_once(self, ids: list[str]) -> None:
        if twice := [id for id, times in Counter(ids).items() if times > 1]:
            sets = ", ".join(self.sets)
            raise Failure(f"{self.root}: image {printable(twice[0])} is there twice in the sets {sets} of {self.top}")


class Voc2007(VocImages):
    """VOC-2007: train and val to train on, test to report."""

    name = "voc2007"
    published = "VOC-2007"
    about = "PASCAL VOC-2007, classification"
    top = "VOC2007"
    archives = (("VOCtrainval_06-Nov-2007.tar",), ("VOCtest_06-Nov-2007.tar",))
    size = (9963, 20)
    sets = ("train", "val", "test")


class Voc2012(VocImages):
    """VOC-2012: train to train on, val to report, because the labels of the test images are not public."""

    name = "voc2012"
    published = "VOC-2012"
    about = "PASCAL VOC-2012, classification, train and val"
    top = "VOC2012"
    archives = (("VOCtrainval_11-May-2012.tar",),)
    size = (11540, 20)
    sets = ("train", "val")
    other_tasks = True
