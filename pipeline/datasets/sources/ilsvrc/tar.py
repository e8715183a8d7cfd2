"""Tar archives read in place: members by name, offset and size. Nothing is unpacked, and errors name the member."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.datasets.sources.folder import is_named_otherwise, printable
from pipeline.errors import Failure
from pipeline.system.memory import check

PADDING = 2**20  # largest number of zero bytes after the last member; usually below 10240
LARGEST = 2**28  # largest size in bytes of a member of an archive that is read in order; each is read whole
GZIP = b"\x1f\x8b"  # how gzip's files begin
KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
# errors of tarfile and zlib for an incomplete archive
BROKEN = (tarfile.TarError, zlib.error, EOFError, OverflowError, ValueError, RecursionError)


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # without a leading ./
    offset: int  # of its bytes in the archive's file
    size: int  # bytes


def members(archive: Path, inside: Member | None = None) -> Iterator[Member]:
    """Yield the files in a tar, or in the tar `inside` it. Only headers are read.

    Raise Failure, naming the archive and the member, if a member is a link or leads out of the archive, or if the
    archive is truncated or damaged.
    """
    title = f"{archive}: {printable(inside.name)}" if inside else str(archive)
    with _opened(archive) as file:
        if inside is None:
            yield from walk(file, title, marked=True)
        else:
            for member in walk(_Window(file, inside.offset, inside.size), title, marked=False):
                yield member._replace(offset=inside.offset + member.offset)


def sequential_members(archive: Path, wanted: Callable[[str], bool] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the files in a tar, packed by gzip or not; of tars inside it, those of their files.

    The bytes of files whose names are not `wanted` are empty, and are not read if the tar is not packed. Raise Failure
    as `members` does.
    """
    title = str(archive)
    try:
        with _opened(archive) as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            if packed:
                with gzip.open(file) as plain:
                    yield from _contents(plain, title, wanted)
            else:
                yield from _contents(file, title, wanted)
    except (*BROKEN, OSError) as error:
        check(error)
        raise Failure(f"{title} is truncated or damaged: {error}; download it again") from None


def members_before_images(
    archive: Path, wanted: Callable[[str], bool], whole: bool = False
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """Yield the `wanted` files of a tar up to its first image or, if it is to be read as a `whole`, all of them."""
    for name, content in sequential_members(archive, wanted):
        if wanted(name):
            yield name, content
        elif not whole and not is_named_otherwise(name):
            return


def _contents(
    file: Any, title: str, wanted: Callable[[str], bool] | None, marked: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the files in an opened tar. Raise ReadError if it has no end, or more behind it."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (info := _next(tar)) is not None:
            if not _is_file(info, title):
                continue
            if info.size > LARGEST:
                raise Failure(f"{title}: {printable(info.name)} is larger than any expected member")
            inside = info.name.endswith(".tar")
            content = b""
            if inside or wanted is None or wanted(info.name):
                opened = tar.extractfile(info)
                assert opened is not None
                content = opened.read()
            if inside:
                name = _plain(info.name).removesuffix(".tar")
                inner = _contents(io.BytesIO(content), f"{title}: {printable(info.name)}", wanted, False)
                yield from ((f"{name}/{below}", data) for below, data in inner)
            else:
                yield _plain(info.name), content
        end = tar.offset
    _check_rest(file, end, marked)


def _check_rest(file: Any, end: int, marked: bool) -> None:
    """Raise ReadError if a tar does not end at byte `end` with nothing but zeros."""
    file.seek(end)
    rest = file.read(PADDING + 1)
    least = tarfile.BLOCKSIZE if marked else 0
    if len(rest) not in range(least, PADDING + 1) or any(rest) or not end:
        raise tarfile.ReadError(f"no end marker at byte {end:,} of the uncompressed data")


def _opened(archive: Path) -> IO[bytes]:
    """Return the archive, opened. Raise Failure if it cannot be read."""
    try:
        return archive.open("rb", buffering=0)  # a buffer would read 1/16 of all image data just for the headers
    except OSError as error:
        raise Failure(f"{archive} cannot be read: {error.strerror}") from None


def walk(file: Any, title: str, marked: bool) -> Iterator[Member]:
    """Yield the files whose headers are in `file`, in order. The tar ends with a mark, optional if not `marked`.

    Raise Failure as `members` does.
    """
    last, end, reason, length = "its beginning", 0, "", file.seek(0, io.SEEK_END)
    try:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := _next(tar)) is not None:
                end = tar.offset
                if info.offset_data + info.size > length:
                    break
                if _is_file(info, title):
                    yield Member(_plain(info.name), info.offset_data, info.size)
                last = printable(info.name)
    except BROKEN as error:
        reason = str(error)
    except OSError as error:
        raise Failure(f"{title} could not be read: {error.strerror or error}") from None
    _check_end(file, end, title, last, marked, reason)


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """Return the next member; earlier ones are not kept in memory. Raise ReadError if its header leads backwards."""
    info = tar.next()
    tar.members.clear()  # type: ignore[attr-defined]
    if info is not None and (info.size < 0 or tar.offset < info.offset_data):
        raise tarfile.ReadError("a header with a negative size")
    return info


def _check_end(file: Any, end: int, title: str, last: str, marked: bool, reason: str) -> None:
    """Raise Failure if there was a `reason` to stop, or if the tar does not end at byte `end` with nothing but zeros.

    A tar inside another may lack the zeros, because the outer one has its length.
    """
    length = file.seek(0, io.SEEK_END)
    if end > length or (marked and length - end < tarfile.BLOCKSIZE) or 0 < length - end < tarfile.BLOCKSIZE:
        raise Failure(f"{title} is truncated at byte {length:,}, after {last}; download it again")
    file.seek(end)
    if reason or length - end > PADDING or any(file.read(length - end)) or not end:
        suffix = f": {reason}" if reason else ""
        raise Failure(f"{title} is damaged at byte {end:,}, after {last}{suffix}; download it again")


def _is_file(info: tarfile.TarInfo, title: str) -> bool:
    """Return whether a member is a file, not a folder. Raise Failure if it is a link, a device or leads outside."""
    name, parts = printable(info.name), info.name.split("/")
    if info.name.startswith("/") or ".." in parts:
        raise Failure(f"{title} is rejected: its member {name} points outside the archive")
    if info.isdir():
        return False
    if not info.isreg() or info.issparse():
        kind = "a sparse file" if info.issparse() else KINDS.get(info.type, "of an unknown kind")
        raise Failure(f"{title} is rejected: its member {name} is {kind}")
    return True


def _plain(name: str) -> str:
    """Return a member's name without a leading ./"""
    return name.removeprefix("./")


class _Window(io.RawIOBase):
    """A part of a file, readable as a separate file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = file, start, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position in the part, and return it."""
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        """Return the position in the part of the next byte."""
        return self.at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most up to the part's end."""
        remaining = max(self.size - self.at, 0)
        self.file.seek(self.start + self.at)
        data = self.file.read(remaining if size < 0 else min(size, remaining))
        self.at += len(data)
        return data
