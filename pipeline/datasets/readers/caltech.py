"""Caltech-101 and Caltech-256: one folder per class, and stray files among them. Splits are drawn (appendix B)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.datasets.readers.archives import ArchivedFile, ArchivedReader, Files, is_image
from pipeline.datasets.readers.base import NEGATIVE, POSITIVE, WHOLE, Annotations
from pipeline.datasets.sources.base import Encoded, Entry, Listing, Skipped
from pipeline.datasets.sources.folder import BESIDE, NOT_AN_IMAGE, printable
from pipeline.errors import Failure

DEEPER = "in a folder inside a class's folder"


class Caltech(ArchivedReader):
    """A data set whose folders are its classes; the background, or clutter, is one of them, as in the paper."""

    def listing(self) -> Listing:
        """Return the images and the strays."""
        files = self.files()
        classes = self._classes(files)
        labels = {name: number for number, name in enumerate(classes)}
        used = [(name, file) for name, file in files.items() if not _stray(name, file)]
        entries = [Entry(printable(name), labels[_class(name)], file) for name, file in used]
        strays = [Skipped("val", printable(name), why) for name, file in files.items() if (why := _stray(name, file))]
        named = [printable(name) for name in classes]
        departures = self.departures(len(entries), len(classes))
        return Listing(named, {"train": [], "val": entries}, strays, departures=departures)

    def annotations(self) -> Annotations:
        """Return each image's only class, the images in the order of their names."""
        files = self.files()
        classes = self._classes(files)
        names = sorted(name for name, file in files.items() if not _stray(name, file))
        labels = np.full((len(names), len(classes)), NEGATIVE, np.int8)
        labels[np.arange(len(names)), [classes.index(_class(name)) for name in names]] = POSITIVE
        whole = np.full(len(names), WHOLE)
        return Annotations([printable(name) for name in classes], [*map(printable, names)], whole, labels, {})

    def read(self, entry: Entry) -> Encoded:
        """Return an image's bytes."""
        return Encoded(entry.where.read())

    def _classes(self, files: Files) -> list[str]:
        """Return the folders that have images, by name. Raise Failure if there are fewer than two."""
        classes = sorted({_class(name) for name, file in files.items() if not _stray(name, file)})
        if len(classes) < 2:
            raise Failure(f"{self.root} has {len(classes)} classes with images in {self.top}/CLASS/: download it again")
        return classes


class Caltech101(Caltech):
    """Caltech-101 with its background class, BACKGROUND_Google."""

    name = "caltech101"
    published = "Caltech-101"
    about = "Caltech-101, with its background as a class"
    top = "101_ObjectCategories"
    archives = (("101_ObjectCategories.tar.gz", "caltech-101.zip"),)
    size = (9144, 102)


class Caltech256(Caltech):
    """Caltech-256 with its clutter, 257.clutter."""

    name = "caltech256"
    published = "Caltech-256"
    about = "Caltech-256, with its clutter as a class"
    top = "256_ObjectCategories"
    archives = (("256_ObjectCategories.tar",),)
    size = (30607, 257)


def _class(name: str) -> str:
    return name.partition("/")[0]


def _stray(name: str, file: ArchivedFile) -> str:
    """Return why a file is no image of a class; an empty string if it is one."""
    return next(_reasons(name, file), "")


def _reasons(name: str, file: ArchivedFile) -> Iterator[str]:
    if file.reason:
        yield file.reason
    if (depth := name.count("/")) != 1:
        yield DEEPER if depth else BESIDE
    if not is_image(name):
        yield NOT_AN_IMAGE
