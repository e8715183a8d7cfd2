"""The official archives of a data set: the files in them and in unpacked folders, by one name each, read in place."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, NamedTuple, Self, cast

from pipeline.datasets.readers.base import Reader
from pipeline.datasets.sources.base import Known, Unreadable, root_of
from pipeline.datasets.sources.folder import (
    HIDDEN_ONE,
    KINDS,
    file_bytes,
    is_folder,
    is_hidden,
    leads_inside,
    printable,
    sorted_in,
    why_not,
)
from pipeline.datasets.sources.ilsvrc.tar import BROKEN, Member, members, walk
from pipeline.datasets.sources.ilsvrc.zips import zip_members
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Profile
from pipeline.system.atomic_files import digest
from pipeline.system.memory import check

PACKED = (".gz", ".tgz")  # tars that are packed as a whole


class ArchivedFile(NamedTuple):
    """A file of a data set: in a folder, in a tar, or in a packed tar, which may be in a zip."""

    path: str  # of the file or of its archive
    offset: int = -1  # of its bytes in the unpacked tar; -1: it is in a folder
    size: int = 0  # bytes
    inside: str = ""  # the name of the packed tar in the zip
    reason: str = ""  # why it is not used; empty if it can be

    def read(self) -> bytes:
        """Return the file's bytes. Raise Unreadable if it cannot be read, and Failure if the disk fails."""
        if self.offset < 0:
            return file_bytes(Path(self.path))
        try:
            if self.inside or self.path.endswith(PACKED):
                data = _at(_kept_open(self.path, self.inside), self.offset, self.size)
            else:
                with open(self.path, "rb", buffering=0) as file:
                    data = _at(file, self.offset, self.size)
        except (*BROKEN, zipfile.BadZipFile, OSError) as error:
            check(error)
            raise Failure(f"{self.path} could not be read: {error}") from None
        if len(data) < self.size:
            raise Unreadable("the archive ends before it")
        return data


Files = Mapping[str, ArchivedFile]  # by their path below the data set's folder


@dataclass(frozen=True)
class ArchivedReader(Reader):
    """A data set in its official archives or unpacked, in the folder `root`, which may have other files too.

    If both are there, the archives are read, and of the folder what they do not have.
    """

    root: Path

    place = "given"
    comparable = True
    top: ClassVar[str]  # the folder that has its files, unpacked and in the archives
    archives: ClassVar[tuple[tuple[str, ...], ...]]  # all that are needed, each by its possible names
    optional: ClassVar[tuple[tuple[str, ...], ...]] = ()  # those that may be there too
    size: ClassVar[tuple[int, int]]  # the published numbers of images and of classes

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return the set in the folder that the profile names. Raise UsageError if it names none."""
        if not profile.data.path:
            raise UsageError(f"{cls.name} is read from a folder: vgg-repro prepare {cls.name} --path FOLDER")
        root = root_of(profile.data)
        return cls(root.parent if root.is_file() else root)  # an archive may be named too

    @property
    def known(self) -> Known:
        """Return the published numbers of images and classes."""
        images, classes = self.size
        return Known(0, images, classes)

    def departures(self, images: int, classes: int) -> list[str]:
        """Return how the numbers of images and classes differ from the published ones."""
        pairs = zip((images, classes), self.size, ("images", "classes"), strict=True)
        return [f"{here:,} {what} instead of {there:,}" for here, there, what in pairs if here != there]

    def missing(self) -> str:
        """Return which files are missing, or an empty string."""
        if not self.root.is_dir():
            return f"there is no folder {self.root}"
        present = self._present()
        lacking = [" or ".join(names) for names in self.archives if not any(path.name in names for path in present)]
        if not lacking or self._unpacked():
            return ""
        there = [item.name for item in sorted_in(self.root) if not is_hidden(item.name)][:5]
        has = f"it has {', '.join(map(printable, there))}" if there else "it is empty"
        return f"{self.root} has neither {' and '.join(lacking)} nor a folder {self.top} ({has})"

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of the names, sizes and times of the archives and of the unpacked files."""
        if lacking := self.missing():
            raise Failure(lacking)
        rows = [_stat(archive.name, archive) for archive in self._present()]
        rows += [_stat(name, Path(file.path)) for name, file in self._folder_files().items()]
        return {"source": self.name, "files": len(rows), "listing": digest(rows)}

    def files(self) -> Files:
        """Return all files below `top`. Raise Failure if an archive is damaged or another one."""
        if lacking := self.missing():
            raise Failure(lacking)
        found = dict[str, ArchivedFile]()
        for archive in self._present():
            inside = _contents(archive, self.top, _stat(archive.name, archive.resolve()))
            if not inside:
                raise Failure(f"{archive} has no files in a folder {self.top}: it is another archive of this name")
            found |= inside
        return found | {name: file for name, file in self._folder_files().items() if name not in found}

    def _present(self) -> list[Path]:
        """Return the archives that are there, one of each kind."""
        wanted = (*self.archives, *self.optional)
        paths = ([self.root / name for name in names if (self.root / name).is_file()] for names in wanted)
        return [there[0] for there in paths if there]

    def _unpacked(self) -> Path | None:
        """Return the folder `top` if there is one: the root, or one or two levels below it."""
        below = sorted(path for path in (*self.root.glob(self.top), *self.root.glob(f"*/{self.top}")) if path.is_dir())
        shown = [path for path in below if not any(map(is_hidden, path.relative_to(self.root).parts))]
        return self.root if self.root.resolve().name == self.top else next(iter(shown), None)

    def _folder_files(self) -> Files:
        folder = self._unpacked()
        return dict(_files_below(folder, folder.resolve())) if folder else {}


def is_image(name: str) -> bool:
    """Return whether a file's name ends like an image's."""
    return (KINDS.guess_type(name)[0] or "").startswith("image/")


def _stat(name: str, path: Path) -> tuple[str, int, int]:
    """Return a file's name, size and time; of a link, its own."""
    status = path.lstat()
    return printable(name), status.st_size, status.st_mtime_ns


def _files_below(folder: Path, real: Path, place: str = "") -> Iterator[tuple[str, ArchivedFile]]:
    """Yield the names and files below a folder, in the order of names. Links that lead out of `real` have a reason."""
    for item in sorted_in(folder):
        name = f"{place}{item.name}"
        if is_folder(item) and not is_hidden(item.name) and not item.is_symlink():
            yield from _files_below(Path(item.path), real, f"{name}/")
        elif is_folder(item) and item.is_symlink() and leads_inside(item, real):
            yield name, ArchivedFile(item.path, reason="a link to a folder")
        else:
            yield name, ArchivedFile(item.path, reason=why_not(item, real))


@lru_cache(4)
def _contents(archive: Path, top: str, stamp: tuple[str, int, int]) -> Files:
    """Return what `_files_in` yields, walked once in each process: a packed archive takes seconds.

    A file with another `stamp` is walked again.
    """
    return dict(_files_in(archive, top))


def _files_in(archive: Path, top: str) -> Iterator[tuple[str, ArchivedFile]]:
    """Yield the names and places of an archive's files that are below a folder `top`, in the archive's order."""
    inside = _tar_in(archive, top) if archive.suffix == ".zip" else ""
    for member in _members(archive, inside):
        parts = PurePosixPath(member.name).parts
        if top in parts[:-1]:
            reason = HIDDEN_ONE if any(map(is_hidden, parts)) else ""
            name = "/".join(parts[parts.index(top) + 1 :])
            yield name, ArchivedFile(str(archive), member.offset, member.size, inside, reason)


def _members(archive: Path, inside: str) -> Iterator[Member]:
    """Yield the files in a tar, packed or not. Raise Failure if it is truncated or damaged."""
    if not inside and archive.suffix not in PACKED:
        yield from members(archive)
        return
    try:
        with _opened(str(archive), inside) as file:
            yield from walk(file, str(archive), marked=True)
    except (*BROKEN, zipfile.BadZipFile, OSError) as error:
        check(error)
        raise Failure(f"{archive} is truncated or damaged: {error}; download it again") from None


def _tar_in(archive: Path, top: str) -> str:
    """Return the name of the packed tar of `top` in a zip. Raise Failure if there is none."""
    for member in zip_members(archive):
        path = PurePosixPath(member.name)
        if path.name == f"{top}.tar.gz" and not any(map(is_hidden, path.parts)):
            return member.name
    raise Failure(f"{archive} has no {top}.tar.gz: it is another archive of this name")


@contextmanager
def _opened(path: str, inside: str) -> Iterator[IO[bytes]]:
    """Open a packed tar, or the packed tar `inside` a zip, as unpacked bytes."""
    with ExitStack() as stack:
        yield _enter(stack, path, inside)


def _enter(stack: ExitStack, path: str, inside: str) -> IO[bytes]:
    outer = stack.enter_context(zipfile.ZipFile(path)).open(inside) if inside else open(path, "rb")  # noqa: SIM115
    return cast(IO[bytes], stack.enter_context(gzip.open(stack.enter_context(outer))))


class _KeptOpen:
    """A packed tar that stays open."""

    def __init__(self, path: str, inside: str) -> None:
        self.stack = ExitStack()
        self.file = _enter(self.stack, path, inside)

    def __del__(self) -> None:
        self.stack.close()


@lru_cache(1)
def _reopened(path: str, inside: str, process: int) -> _KeptOpen:
    return _KeptOpen(path, inside)


def _kept_open(path: str, inside: str) -> IO[bytes]:
    """Return a packed tar, opened once in each process, because its files are reached by unpacking those before."""
    return _reopened(path, inside, os.getpid()).file


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
