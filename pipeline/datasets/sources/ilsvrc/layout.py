"""What lies in a data set's folder, looked at once for all questions: the copies, and what is beside the images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.datasets.sources.base import Split
from pipeline.datasets.sources.ilsvrc.copies import Copy, Kind, copies
from pipeline.datasets.sources.ilsvrc.solutions import SOLUTIONS
from pipeline.datasets.sources.ilsvrc.tar import members_before_images
from pipeline.datasets.sources.ilsvrc.truth import ANNOTATIONS, SYNSETS, Truth, places, read_truth
from pipeline.datasets.sources.ilsvrc.zips import ZipMember, zip_content, zip_members

TRUTHS = (*SYNSETS, SOLUTIONS["val"], ANNOTATIONS)
STREAMED = ("tars", "parquet")  # kinds of copies that are read from their beginning
XML_FOLDERS = ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC")  # Kaggle's


@dataclass(frozen=True)
class Layout:
    """A data set's folder as it was when it was looked at. It is large, so it is not sent to other processes."""

    root: Path
    found: Mapping[Split, Sequence[Copy]]  # of each split that is read, the copy that is read first

    @classmethod
    def of(cls, root: Path, splits: Sequence[Split]) -> Layout:
        """Return the layout of a folder."""
        return cls(root, {split: copies(root, split) for split in splits})

    @cached_property
    def copies(self) -> dict[Split, Copy]:
        """The copy of each split that is read. The published archive comes first, then a tree.

        Of the other kinds the largest is read, since a copy that is still being downloaded is small.
        """
        return {split: copies[0] for split, copies in self.found.items() if copies}

    @cached_property
    def folders(self) -> list[Path]:
        """The folders in which the kit, lists and annotations may be."""
        kaggles = self.root.name == "CLS-LOC"
        return places(self.root, [self.root / copy.base for copy in self.copies.values() if copy.base or kaggles])

    @cached_property
    def zips(self) -> dict[str, list[ZipMember]]:
        """The members of each zip, by its path below the root."""
        return {file: list(zip_members(self.root / file)) for file in self._files("zip")}

    @cached_property
    def tars(self) -> list[str]:
        """The paths below the root of tars that may hold both splits, and other things than images."""
        return [file for file in self._files("tars") if all(file in copy.files for copy in self.copies.values())]

    def _files(self, kind: Kind) -> list[str]:
        return sorted({file for copy in self.copies.values() if copy.kind == kind for file in copy.files})

    def lists_inside(self, names: Collection[str], whole: bool = False) -> dict[str, bytes]:
        """Return the lists of these names in archives, by their paths; in tars those before the images, or all."""

        def wanted(name: str) -> bool:
            return name.rpartition("/")[2] in names

        inside = {
            member.name: zip_content(self.root / file, member)
            for file, members in self.zips.items()
            for member in members
            if wanted(member.name)
        }
        for file in self.tars:
            inside.update(members_before_images(self.root / file, wanted, whole))
        return inside

    @cached_property
    def truth(self) -> Truth:
        """What is known about the classes, as far as it can be read quickly. Raise Failure if a list is broken."""
        return read_truth(self.folders, self.lists_inside(TRUTHS))

    def late_truth(self) -> Truth:
        """Return the same with the lists behind the images of tars."""
        return read_truth(self.folders, self.lists_inside(TRUTHS, whole=True))

    def annotation_folder(self, split: Split) -> Path | None:
        """Return the folder with Kaggle's annotations of a split, or None."""
        places = (folder / name / split for folder in self.folders for name in XML_FOLDERS)
        return next((place for place in places if place.is_dir()), None)
