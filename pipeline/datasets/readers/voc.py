"""PASCAL VOC's classification tasks of 2007 and 2012: labels come from ImageSets/Main/CLASS_SET.txt (appendix B)."""

from __future__ import annotations

from collections import Counter
from itertools import compress
from typing import Any, ClassVar

import numpy as np

from pipeline.datasets.readers.archives import ArchivedReader, Files, is_image
from pipeline.datasets.readers.base import NEGATIVE, NEITHER, POSITIVE, WHOLE, Annotations, in_order
from pipeline.datasets.sources.base import Encoded, Entry, Known, Listing, Skipped, Unreadable
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
UNLABELLED = "test"  # the set whose labels the organisers' server alone has; it comes in the optional archive


class VocReader(ArchivedReader):
    """A task of VOC: images by id, and sets of them. A subclass says what its examples are."""

    described: ClassVar[str]  # `about`, without images that have no labels
    task: ClassVar[str]  # the folder of its sets
    sets: ClassVar[tuple[str, ...]]
    other_tasks: ClassVar[bool] = False  # whether there are also images of other tasks, which are not listed
    unlabelled_images: ClassVar[int | None] = None  # the published number of images of the set UNLABELLED, if known

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Return the set of images without labels if its archive, or its list in an unpacked folder, is there."""
        if not self.optional:
            return ()
        packed = any(path.name in names for path in self._present() for names in self.optional)
        folder = self._unpacked()
        there = packed or (folder is not None and (folder / f"ImageSets/{self.task}/{UNLABELLED}.txt").is_file())
        return (UNLABELLED,) if there else ()

    @property
    def about(self) -> str:
        """Return one sentence."""
        return ", and ".join((self.described, *(f"{name} without labels" for name in self.unlabelled)))

    @property
    def known(self) -> Known:
        """Return the published numbers of images and classes; where that of test images is not known, as many again."""
        images, classes = self.size
        return Known(0, images + (self.unlabelled_images or images) * len(self.unlabelled), classes)

    def fingerprint(self) -> dict[str, Any]:
        """Return that of the files, and whether there are images without labels."""
        return super().fingerprint() | ({"unlabelled": list(self.unlabelled)} if self.unlabelled else {})

    def listing(self) -> Listing:
        """Return the images of the sets, those without a file, and the strays."""
        files = self.files()
        owners = self.sets_of_images(files)
        ids = sorted(owners)
        lost = {id: reason for id in ids if (reason := self.why_lost(files, id))}
        entries = [Entry(id, 0, self.where(files, id)) for id in ids if id not in lost]
        skipped = [Skipped("val", printable(id), reason, lost=True) for id, reason in lost.items()]
        counts, classes = Counter(owners[entry.id] for entry in entries), self.class_names()
        return Listing(
            classes,
            {"train": [], "val": entries},
            [*skipped, *self._strays(files, set(ids))],
            departures=[
                *self.departures(sum(counts[name] for name in self.sets), len(classes)),
                *(line for name in self.unlabelled if (line := self._test_departure(counts[name]))),
            ],
        )

    def _test_departure(self, images: int) -> str:
        """Return how the number of images without labels differs from the published one, if that is known."""
        known = self.unlabelled_images
        return "" if known in (None, images) else f"{images:,} test images instead of {known:,}"

    def annotations(self) -> Annotations:
        """Return the examples of the sets, one set after the other. Raise Failure if a file is missing or broken."""
        return self.examples(self.files())

    def examples(self, files: Files) -> Annotations:
        """Return the annotations in `files`."""
        raise NotImplementedError

    def sets_of_images(self, files: Files) -> dict[str, str]:
        """Return the set of each image that is in one, by its id."""
        annotations = self.examples(files)
        return {id: name for name, mask in annotations.subsets.items() for id in compress(annotations.images, mask)}

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

    def rows(self, files: Files, name: str, *fields: int, labelled: bool = False) -> list[list[str]]:
        """Return each line of the task's file `name`, split into fields. The last one is a label if `labelled`.

        `fields` are the possible numbers of fields. Raise Failure if the file is missing or otherwise.
        """
        place = f"ImageSets/{self.task}/{name}.txt"
        if place not in files:
            raise Failure(f"{self.root} has no {self.top}/{place}, which {self._needed(name)}")
        try:
            text = files[place].read().decode()
        except (Unreadable, UnicodeDecodeError) as error:
            raise Failure(f"{self.root}: {self.top}/{place} cannot be read: {error}") from None
        rows = [line.split() for line in text.splitlines() if line.strip()]
        for row in rows:
            if len(row) not in fields or (labelled and row[-1] not in LABELS):
                line = printable(" ".join(row))[:60]
                raise Failure(f"{self.root}: {self.top}/{place} has a line {line!r}, which is not as in VOC")
        return rows

    def _needed(self, name: str) -> str:
        """Return which archive should have the list `name`, and what to do."""
        if self.optional and name.endswith(UNLABELLED):
            return (
                f"{self.optional[0][0]} should have: download or unpack it again, or read a folder without it and "
                f"without ImageSets/{self.task}/{UNLABELLED}.txt"
            )
        needed = " and ".join(names[0] for names in self.archives)
        return f"{needed} should have: download or unpack both"

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
        """Return the labels of the images; difficult ones, and all without labels, are NEITHER."""
        by_set = {name: [row[0] for row in self.rows(files, name, 1)] for name in (*self.sets, *self.unlabelled)}
        ids = [id for members in by_set.values() for id in members]
        self._check_once(ids, list(by_set))
        labels = np.concatenate([self._labels(files, name, members) for name, members in by_set.items()])
        subsets = in_order([(name, len(members)) for name, members in by_set.items()])
        return Annotations(self.class_names(), ids, np.full(len(ids), WHOLE), labels, subsets)

    def _labels(self, files: Files, name: str, ids: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
        """Return the labels (images, classes) of a set. Raise Failure if a class's file has other images."""
        labels = np.full((len(ids), len(VOC_CLASSES)), NEITHER, np.int8)
        if name in self.unlabelled:
            return labels
        for column, label in enumerate(VOC_CLASSES):
            values = {id: LABELS[value] for id, value in self.rows(files, f"{label}_{name}", 2, labelled=True)}
            if differing := set(ids) ^ set(values):
                file, one = f"{self.top}/ImageSets/{self.task}/{label}_{name}.txt", printable(min(differing))
                raise Failure(
                    f"{self.root}: {file} and {name}.txt have different images, such as {one}: download it again"
                )
            labels[:, column] = [values[id] for id in ids]
        return labels

    def _check_once(self, ids: list[str], sets: list[str]) -> None:
        if twice := [id for id, times in Counter(ids).items() if times > 1]:
            where = f"the sets {', '.join(sets)} of {self.top}"
            raise Failure(f"{self.root}: image {printable(twice[0])} is there twice in {where}")


class Voc2007(VocImages):
    """VOC-2007: train and val to train on, test to report."""

    name = "voc2007"
    published = "VOC-2007"
    described = "PASCAL VOC-2007, classification"
    top = "VOC2007"
    archives = (("VOCtrainval_06-Nov-2007.tar",), ("VOCtest_06-Nov-2007.tar",))
    size = (9963, 20)
    sets = ("train", "val", "test")


class Voc2012(VocImages):
    """VOC-2012: train to train on, val to report, because the labels of the test images are not public.

    If the test images are there, they are examples without labels, for files for the evaluation server.
    """

    name = "voc2012"
    published = "VOC-2012"
    described = "PASCAL VOC-2012, classification, train and val"
    top = "VOC2012"
    archives = (("VOCtrainval_11-May-2012.tar",),)
    optional = (("VOC2012test.tar",),)
    size = (11540, 20)
    unlabelled_images = 10991
    sets = ("train", "val")
    other_tasks = True
