"""VOC-2012's action task: an example is a person's box, labelled in ImageSets/Action/CLASS_SET.txt (appendix B)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.datasets.readers.archives import ArchivedFile, Files
from pipeline.datasets.readers.base import NEITHER, Annotations
from pipeline.datasets.readers.voc import IMAGES, LABELS, Voc2012, VocReader
from pipeline.datasets.sources.base import Encoded, Entry, Unreadable
from pipeline.datasets.sources.folder import printable
from pipeline.datasets.sources.ilsvrc.boxes import AnnotatedBox, in_pixels, parsed, repaired
from pipeline.errors import Failure

ACTIONS = (
    "jumping", "phoning", "playinginstrument", "reading", "ridingbike", "ridinghorse", "running", "takingphoto",
    "usingcomputer", "walking",
)  # fmt: skip  # the kit does not judge `other`


NO_ANNOTATION = "its annotation in Annotations/ is missing"
UNKNOWN = 2  # the label of a person that is in an action's file without labels


class _Person(NamedTuple):
    id: str  # of the image
    number: str  # of the object in the image's annotation, from 1, of whatever class


class ActionImage(NamedTuple):
    """What an image is read by."""

    file: ArchivedFile
    boxes: tuple[AnnotatedBox, ...]


class Actions(VocReader):
    """VOC-2012's actions: train to train on, val to report. A person may do several actions, or none of these.

    If the test images are there, their persons are examples without labels, for files for the evaluation server.
    """

    name = "actions"
    published = "VOC-2012 actions"
    described = "PASCAL VOC-2012, actions of persons in boxes, train and val"
    top, archives, optional = Voc2012.top, Voc2012.archives, Voc2012.optional
    size = (4588, 10)  # the number of test images is not stated, so it is not compared
    task = "Action"
    sets = ("train", "val")
    other_tasks = True

    def class_names(self) -> list[str]:
        """Return the actions."""
        return list(ACTIONS)

    def examples(self, files: Files) -> Annotations:
        """Return the labels of the persons. A person that an action's file does not have is NEITHER for it.

        A person whose box has no area is not an example; the manifest names such boxes.
        """
        labels, owners = self._persons(files)
        boxes = {person: self._box_number(files, person) for person in labels}
        persons = [person for person in labels if boxes[person] is not None]
        known = np.array([labels[person] for person in persons], np.int8).reshape(-1, len(ACTIONS))
        sets = (*self.sets, *self.unlabelled)
        return Annotations(
            self.class_names(),
            [person.id for person in persons],
            np.array([boxes[person] for person in persons], np.int64),
            np.where(known == UNKNOWN, NEITHER, known),
            {name: np.array([owners[person] == name for person in persons], bool) for name in sets},
            np.array([int(person.number) for person in persons], np.int64),
            known != NEITHER if self.unlabelled else None,
        )

    def sets_of_images(self, files: Files) -> dict[str, str]:
        """Return the set of each image that is in one, by its id."""
        return {person.id: name for person, name in self._persons(files)[1].items()}

    def why_lost(self, files: Files, id: str) -> str:
        """Return why an image of the sets cannot be used; an empty string if it can."""
        return super().why_lost(files, id) or ("" if _annotation(id) in files else NO_ANNOTATION)

    def where(self, files: Files, id: str) -> ActionImage:
        """Return the image's file and the boxes of all its objects."""
        return ActionImage(files[f"{IMAGES}{id}.jpg"], self._objects(files, id))

    def read(self, entry: Entry) -> Encoded:
        """Return an image's bytes and the boxes of all its objects, without those that have no area."""
        where: ActionImage = entry.where
        data = where.file.read()
        return Encoded(data, *in_pixels(where.boxes, data))

    def _persons(self, files: Files) -> tuple[dict[_Person, list[int]], dict[_Person, str]]:
        """Return the labels of each person, and its set. Raise Failure if it is in two sets."""
        labels, owners = dict[_Person, list[int]](), dict[_Person, str]()
        for name in (*self.sets, *self.unlabelled):
            for column, action in enumerate(ACTIONS):
                for person, label in self._rows_of(files, action, name):
                    labels.setdefault(person, [NEITHER] * len(ACTIONS))[column] = label
                    if owners.setdefault(person, name) != name:
                        where = f"object {person.number} of image {printable(person.id)}"
                        raise Failure(f"{self.root}: {where} is in {owners[person]} and in {name}")
        return labels, owners

    def _rows_of(self, files: Files, action: str, name: str) -> Iterator[tuple[_Person, int]]:
        """Yield the persons of an action's file of the set `name` with their labels, UNKNOWN where it has none."""
        if name in self.unlabelled:
            yield from ((_Person(*row[:2]), UNKNOWN) for row in self.rows(files, f"{action}_{name}", 2, 3))
            return
        for id, number, value in self.rows(files, f"{action}_{name}", 3, labelled=True):
            yield _Person(id, number), LABELS[value]

    def _box_number(self, files: Files, person: _Person) -> int | None:
        """Return the number of a person's box among those of its image that are kept; None if it is not.

        Of an image without an annotation, which is not listed, it is 0. Raise Failure if there is no such object.
        """
        if _annotation(person.id) not in files:
            return 0
        boxes = self._objects(files, person.id)
        if person.number not in map(str, range(1, len(boxes) + 1)):
            where = f"{self.top}/{_annotation(printable(person.id))}"
            raise Failure(f"{self.root}: {where} has no object {printable(person.number)}: download it again")
        kept = [bool(repaired(box, int(box.width), int(box.height))[0]) for box in boxes]
        place = int(person.number) - 1
        return sum(kept[:place]) if kept[place] else None

    def _objects(self, files: Files, id: str) -> tuple[AnnotatedBox, ...]:
        """Return the boxes of an image's objects, in pixels from 0, their ends not included."""
        name = _annotation(id)
        try:
            ((_, boxes),) = parsed(f"{self.root}: {self.top}", [(name, files[name].read())])
        except Unreadable as reason:
            raise Failure(f"{self.root}: {self.top}/{name} cannot be read: {reason}") from None
        return tuple(_from_zero(box) for box in boxes)


def _annotation(id: str) -> str:
    return f"Annotations/{id}.xml"


def _from_zero(box: AnnotatedBox) -> AnnotatedBox:
    """Return a box without the pixel that VOC counts from. Exchanged ends stay exchanged."""
    left, right = _ends(box.left, box.right)
    top, bottom = _ends(box.top, box.bottom)
    return box._replace(left=left, top=top, right=right, bottom=bottom)


def _ends(first: float, last: float) -> tuple[float, float]:
    return (first - 1, last) if first <= last else (first, last - 1)
