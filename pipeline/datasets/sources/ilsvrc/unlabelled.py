"""The source `ilsvrc-test`: ILSVRC-2012's test images, whose labels are not published, for the evaluation server.

They are read in place from the published archive, from a folder such as Kaggle's, or from Kaggle's zip. The server
knows an image by the number of its line, so no image before the last one may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.sources.base import Encoded, Entry, Known, Listing, Skipped, Source, root_of
from pipeline.datasets.sources.folder import (
    NOT_AN_IMAGE,
    is_folder,
    is_hidden,
    is_named_otherwise,
    limit_of,
    printable,
    sorted_in,
)
from pipeline.datasets.sources.ilsvrc.compact import Found
from pipeline.datasets.sources.ilsvrc.copies import WHOLE_SET, Copy, folders_in
from pipeline.datasets.sources.ilsvrc.listed import file_content, in_archive, in_tree
from pipeline.datasets.sources.ilsvrc.names import TEST
from pipeline.datasets.sources.ilsvrc.presence import identity_of
from pipeline.datasets.sources.ilsvrc.settle import TWICE
from pipeline.datasets.sources.ilsvrc.zips import zip_members
from pipeline.errors import Failure
from pipeline.experiment.params import Profile
from pipeline.experiment.server_sets import ILSVRC_TEST, TEST_IMAGES

ARCHIVE = "ILSVRC2012_img_test.tar"  # or ILSVRC2012_img_test_v10102019.tar, which has the folder test/
ARCHIVES = re.compile(r"ILSVRC2012_img_test.*\.tar")
TREES = re.compile(r"test|ILSVRC2012_img_test.*")
NOT_ITS_NAME = "not a file name of ILSVRC-2012's test images"
UNKNOWN = "unlabelled"  # the class of all of them


def id_of(number: int) -> str:
    """Return the id of a test image, by its number from 1: its published name without the ending."""
    return f"ILSVRC2012_test_{number:08d}"


def number_of(id: str) -> int:
    """Return the number of the test image `id`."""
    return int(id.rpartition("_")[2])


def missing_numbers(numbers: set[int]) -> list[int]:
    """Return which numbers are missing before the largest of `numbers`."""
    return sorted(set(range(1, max(numbers, default=0))) - numbers)


@dataclass(frozen=True)
class IlsvrcTest(Source):
    """The test images in the folder `root` or below it, or in `file` there."""

    root: Path
    file: str = ""

    name = ILSVRC_TEST
    about = "the test images of ILSVRC-2012 (Russakovsky et al., 2015), whose labels are not published"
    published = "ILSVRC-2012"
    comparable = False
    place = "given"
    downloads = False
    known = Known(0, TEST_IMAGES, 1)

    @classmethod
    def of(cls, profile: Profile) -> IlsvrcTest:
        """Return the images in the folder, or in the archive, that data.path names."""
        root = root_of(profile.data)
        return cls(root.parent, root.name) if root.is_file() else cls(root)

    def missing(self) -> str:
        """Return what was looked for if nothing is there, or an empty string."""
        if not self.root.is_dir():
            return f"there is no folder {self.root}"
        if self._copies():
            return ""
        return (
            f"{self.root / self.file} has no test images of ILSVRC-2012: neither {ARCHIVE} (or _v10102019), nor a "
            f"folder test with {id_of(1)}.JPEG, nor Kaggle's zip. Other archives must be unpacked"
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return values that identify the archive by its length and ends, or the folder by its time."""
        paths = [self.root / file for file in self._copies_or_fail()[0].files]
        files, trees = ([path for path in paths if path.is_file() == is_file] for is_file in (True, False))
        return {"source": self.name, **identity_of(self.root, files, trees)}

    def listing(self) -> Listing:
        """Return all images in the order of their numbers.

        Raise Failure, with the numbers, if images before the last one are missing, and if the archive is damaged.
        """
        copies, skipped, found = self._copies_or_fail(), list[Skipped](), dict[int, Found]()
        copy = copies[0]
        for path, file in self._files(copy, skipped):
            reason, number = _number_in(path)
            if number in found:
                reason = TWICE
            if reason:
                skipped.append(Skipped("val", printable(f"{file.place}/{path}"), reason))
            else:
                found[number] = file
        departures = self._departures(copy, set(found))
        if others := ", ".join(other.title for other in copies[1:]):
            print(f"prepare: the test images are read from {copy.title}; also there and not read: {others}", flush=True)
        entries = [Entry(id_of(number), 0, found[number]) for number in sorted(found)]
        size = sum(file.size for file in found.values())
        return Listing([UNKNOWN], {"train": [], "val": entries}, skipped, size, departures)

    def read(self, entry: Entry) -> Encoded:
        """Return an image's bytes."""
        return Encoded(file_content(self.root, entry.where))

    def _departures(self, copy: Copy, numbers: set[int]) -> list[str]:
        """Return a sentence if there are not all images. Raise Failure if lines of the server's file would move."""
        place, count = self.root / copy.files[0], f"{len(numbers):,} of the {TEST_IMAGES:,} test images"
        if lacking := missing_numbers(numbers):
            raise Failure(
                f"{place} has {count}: {len(lacking):,} before the last one are missing, the first "
                f"{id_of(lacking[0])}, and every later line of a file of predictions would be that of another image. "
                "Download or unpack it again"
            )
        if not numbers:
            raise Failure(f"{place} has no test images, which are called {id_of(1)}.JPEG and so on")
        if len(numbers) == TEST_IMAGES:
            return []
        return [f"{place} has {count}; the first that is missing is {id_of(len(numbers) + 1)}"]

    def _files(self, copy: Copy, skipped: list[Skipped]) -> Iterator[tuple[str, Found]]:
        """Yield the files of a copy with their paths in it. Add what cannot be read to `skipped`."""
        (place,) = copy.files
        if copy.kind == "archive":
            yield from in_archive(self.root, place)
        elif copy.kind == "tree":
            yield from in_tree(self.root, "val", place, "", skipped, limit_of(self.root, follow_links=False))
        else:
            for member in zip_members(self.root / place):
                if TEST.search(PurePosixPath(member.name).name):  # it has the other images too
                    yield member.name, Found(member.name, place, member.offset, member.size)

    def _copies_or_fail(self) -> list[Copy]:
        """Return the copies, first the one that is read. Raise Failure if there is none."""
        copies = self._copies()
        if not copies:
            raise Failure(self.missing())
        return copies

    def _copies(self) -> list[Copy]:
        """Return the copies in the nearest folder that has any: the published archives, the newest first, then a tree.

        Only if there is neither, zips, of which the names do not say what is in them.
        """
        if self.file:
            return [Copy("zip" if self.file.endswith(".zip") else "archive", "", (self.file,))]
        folders = list(folders_in(self.root))
        for kinds in (("archive", "tree"), ("zip",)):
            for folder, base in folders:
                if found := [copy for copy in _copies_in(folder, base) if copy.kind in kinds]:
                    return sorted(found, key=lambda copy: copy.kind)
        return []


def _number_in(path: str) -> tuple[str, int]:
    """Return why a file is not a test image, or an empty string, and its number."""
    name, hidden = PurePosixPath(path).name, any(map(is_hidden, PurePosixPath(path).parts))
    match = TEST.search(name)
    if hidden or match is None or not int(match[1]):
        return NOT_ITS_NAME, 0
    return (NOT_AN_IMAGE if is_named_otherwise(name) else ""), int(match[1])


def _copies_in(folder: Path, base: str) -> Iterator[Copy]:
    """Yield the copies in a folder, which may be the folder of the images itself; of archives the last name first."""
    if not base and _has_images(folder):
        yield Copy("tree", base, (".",))
    for item in reversed(list(sorted_in(folder))):
        path = f"{base}/{item.name}" if base else item.name
        if is_folder(item):
            if TREES.fullmatch(item.name) and _has_images(folder / item.name, deep=True):
                yield Copy("tree", base, (path,))
        elif ARCHIVES.fullmatch(item.name):
            yield Copy("archive", base, (path,))
        elif item.name.lower().endswith(".zip") and (WHOLE_SET.search(item.name) or item.name.startswith("test")):
            yield Copy("zip", base, (path,))


def _has_images(folder: Path, deep: bool = False) -> bool:
    """Return whether a folder, or a folder in it if it is `deep`, has a test image."""
    items = list(sorted_in(folder))
    if any(TEST.search(item.name) for item in items):
        return True
    return deep and any(_has_images(folder / item.name) for item in items if is_folder(item))
