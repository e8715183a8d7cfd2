"""Images whose places can be listed before they are read: in the published archives, in trees and in zips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.datasets.sources.base import Skipped, Split
from pipeline.datasets.sources.folder import (
    NOT_AN_IMAGE,
    file_bytes,
    is_folder,
    is_hidden,
    is_named_otherwise,
    leads_inside,
    limit_of,
    printable,
    size_of,
    sorted_in,
    why_not,
)
from pipeline.datasets.sources.ilsvrc.box_files import boxes_of
from pipeline.datasets.sources.ilsvrc.boxes import Boxes
from pipeline.datasets.sources.ilsvrc.compact import Compact, Found
from pipeline.datasets.sources.ilsvrc.layout import Layout
from pipeline.datasets.sources.ilsvrc.names import FILES, NO_LOSS, PathInfo, Unnamed, named, split_and_rest, split_of
from pipeline.datasets.sources.ilsvrc.settle import code_of
from pipeline.datasets.sources.ilsvrc.tar import members
from pipeline.datasets.sources.ilsvrc.zips import ZipMember, zip_content
from pipeline.errors import Failure

BATCH = 1024  # files whose names are examined at once
DEEPEST = 6  # folders in each other in a tree; a link may lead back to a folder above it
Candidate = tuple[str, Found]  # an image's path, with the folders that say its class, and its file


def scanned(layout: Layout, split: Split, skipped: list[Skipped], follow_links: bool = False) -> Compact:
    """Return a split's images, with codes for labels. Add the other files to `skipped`."""
    boxes, parts, published = boxes_of(layout, split), list[Compact](), layout.copies[split].kind == "archive"
    batch: list[tuple[PathInfo, Found]] = []
    for path, file in _candidates(layout, split, skipped, follow_links):
        try:
            if is_named_otherwise(file.name):
                raise Unnamed(NOT_AN_IMAGE)
            batch.append((_named(split, path, published), file))
        except Unnamed as reason:
            lost = str(reason) not in (*NO_LOSS, NOT_AN_IMAGE)
            skipped.append(Skipped(split, _display_path(path, file), str(reason), lost))
        if len(batch) == BATCH:
            parts.append(_compact(batch, boxes))
            batch = []
    return Compact.joined([*parts, _compact(batch, boxes)])


def _named(split: Split, path: str, published: bool) -> PathInfo:
    """Return what a path says; in the `published` archives, all names are the published ones. Raise Unnamed."""
    if published and not FILES[split].fullmatch(PurePosixPath(path).name):
        raise Unnamed("not a file name of ILSVRC-2012")
    return named(split, path)


def _compact(batch: Sequence[tuple[PathInfo, Found]], boxes: Mapping[str, Boxes]) -> Compact:
    """Return images by columns, with codes for labels."""
    ids = [name.id for name, _ in batch]
    return Compact.of([file for _, file in batch], ids, [code_of(name) for name, _ in batch], boxes)


def _display_path(path: str, file: Found) -> str:
    """Return a file's path as shown to people."""
    folder = str(PurePosixPath(path).parent)
    inside = f"{folder}.tar/" if file.offset >= 0 and folder != "." and not file.place.endswith(".zip") else ""
    return printable(f"{file.place}/{inside}{file.name}")


def _candidates(layout: Layout, split: Split, skipped: list[Skipped], follow_links: bool) -> Iterator[Candidate]:
    """Yield a split's files with their paths. Add what is no candidate to `skipped`."""
    root, copy = layout.root, layout.copies[split]
    if copy.kind == "tree":
        limit = limit_of(root, follow_links)
        for folder in copy.files:
            yield from in_tree(root, split, folder, "", skipped, limit)
    elif copy.kind == "zip":
        for file in copy.files:
            yield from _in_zip(file, layout.zips[file], split)
    elif split == "val":
        yield from in_archive(root, copy.files[0])
    else:
        yield from _in_class_archives(root, copy.files[0], skipped)


def _in_class_archives(root: Path, archive: str, skipped: list[Skipped]) -> Iterator[Candidate]:
    """Yield the files in the archive of the training images, a tar of tars. Of a class's tars the first is used."""
    seen = set[str]()
    for inner in members(root / archive):
        folder = PurePosixPath(inner.name).name.removesuffix(".tar")
        again = folder in seen
        if again:
            skipped.append(Skipped("train", printable(folder), "it occurs twice"))
        seen.add(folder)
        for member in members(root / archive, inner):  # read through in any case, so that damage is noticed
            name = PurePosixPath(member.name).name
            if not again:
                yield f"{folder}/{name}", Found(name, archive, member.offset, member.size)


def in_archive(root: Path, archive: str) -> Iterator[Candidate]:
    """Yield the files in the archive of the validation images."""
    for member in members(root / archive):
        name = PurePosixPath(member.name).name
        yield member.name, Found(name, archive, member.offset, member.size)


def _in_zip(archive: str, members: Sequence[ZipMember], split: Split) -> Iterator[Candidate]:
    """Yield the files of a split in a zip, without what describes them."""
    for member in members:
        try:
            said, path = split_and_rest(member.name)
            said = said or split_of(PurePosixPath(archive).stem)
        except Unnamed:
            continue
        if said == split and not is_named_otherwise(member.name):
            yield path, Found(member.name, archive, member.offset, member.size)


def in_tree(
    root: Path, split: Split, place: str, below: str, skipped: list[Skipped], limit: Path
) -> Iterator[Candidate]:
    """Yield the files in a folder of the tree and in those below it, in the order of names.

    Links that lead out of `limit` are not followed, and nothing is that lies deeper than DEEPEST.
    """
    for item in sorted_in(root / place):
        path = f"{below}/{item.name}" if below else item.name
        if is_hidden(item.name):
            skipped.append(Skipped(split, printable(f"{place}/{item.name}"), NO_LOSS[0]))
        elif is_folder(item) and leads_inside(item, limit):
            if path.count("/") < DEEPEST:
                yield from in_tree(root, split, f"{place}/{item.name}", path, skipped, limit)
            else:
                skipped.append(Skipped(split, printable(f"{place}/{item.name}"), "a folder too deep", lost=True))
        elif reason := why_not(item, limit):
            skipped.append(Skipped(split, printable(f"{place}/{item.name}"), reason, lost=True))
        else:
            yield path, Found(item.name, place, -1, size_of(item))


def file_content(root: Path, file: Found) -> bytes:
    """Return the bytes of a file in a folder, a tar or a zip."""
    place = root / file.place
    if file.offset < 0:
        return file_bytes(place / file.name)
    if file.place.endswith(".zip"):
        return zip_content(place, ZipMember(file.name, file.offset, file.size))
    return _part(place, file)


def _part(archive: Path, file: Found) -> bytes:
    """Return the bytes of a file in an archive. Raise Failure if they cannot be read."""
    try:
        with archive.open("rb", buffering=0) as opened:
            opened.seek(file.offset)
            data = opened.read(file.size)
    except OSError as error:
        raise Failure(f"{archive} could not be read: {error.strerror or error}") from None
    if len(data) < file.size:
        raise Failure(f"{archive} is truncated: it ends inside {file.name}; download it again")
    return data
