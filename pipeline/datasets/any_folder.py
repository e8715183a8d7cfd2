"""Any folder of images, for `vgg-repro features`: its files at any depth, read as shards, a part at a time.

The files are judged and converted as those of the source `imagefolder`. Only one part of the images is stored at a
time, in a temporary folder, so that memory and disk space do not grow with their number.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from pipeline.datasets.manifest import parts_of
from pipeline.datasets.prepare import decoding_processes
from pipeline.datasets.shard_worker import ShardSettings, ShardTask, make_shards
from pipeline.datasets.shards import Shards, taken, write_index
from pipeline.datasets.sources.base import Entry
from pipeline.datasets.sources.folder import (
    OUTSIDE,
    File,
    ImageFolder,
    files_in,
    is_folder,
    is_hidden,
    is_other_file,
    leads_inside,
    limit_of,
    printable,
    sorted_in,
)
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.system.decoders import decoder_in_use
from pipeline.system.worker_pool import run_tasks

LOOP = "a link to a folder that contains it"
PART_IMAGES, PART_BYTES = 1024, 2**29  # of the files that are read at a time


class FolderFiles(NamedTuple):
    """The files below a folder, sorted by path."""

    root: Path
    images: list[File]  # candidates: their content has not been read
    skipped: list[tuple[str, str]]  # paths and reasons of images, or of what may be one
    others: int  # files of other kinds


class FolderPart(NamedTuple):
    """Some of a folder's images, as shards."""

    shards: Shards  # those that can be read, by path
    unreadable: list[tuple[str, str]]  # paths and reasons of other images
    files: int  # that were read


def files_below(root: Path, follow_links: bool = False) -> FolderFiles:
    """Return the files below `root`. Raise Failure if a folder cannot be listed, or if no file may be an image."""
    if not root.is_dir():
        what = "is a file: give the folder that contains it" if root.exists() else "does not exist"
        raise Failure(f"{root} {what}")
    files = sorted(_files(root, follow_links), key=lambda file: printable(file.path))
    images = [file for file in files if not file.reason]
    left = [(printable(file.path), file.reason) for file in files if file.reason]
    skipped = [pair for pair in left if not is_other_file(*pair)]
    if not images:
        raise Failure(f"there are no images in {root}{_first(skipped)}")
    return FolderFiles(root, images, skipped, len(left) - len(skipped))


def _first(skipped: Sequence[tuple[str, str]]) -> str:
    return f" that may be read; {skipped[0][0]}: {skipped[0][1]}" if skipped else ""


def _files(root: Path, follow_links: bool) -> Iterator[File]:
    """Yield everything below `root` that is not a folder, and the folders that are not entered. Hidden ones are not."""
    limit = limit_of(root, follow_links)
    waiting: list[tuple[str, Path, tuple[Path, ...]]] = [("", root.resolve(), (root.resolve(),))]
    while waiting:
        place, real, above = waiting.pop()
        inside = sorted_in(root / place)
        folders = [item for item in inside if is_folder(item) and not is_hidden(item.name)]
        yield from files_in(place, "", [item for item in inside if not is_folder(item)], limit)
        for item in folders:
            target = Path(item.path).resolve() if item.is_symlink() else real / item.name
            if not leads_inside(item, limit):
                yield File(f"{place}{item.name}", "", OUTSIDE)
            elif target in above:
                yield File(f"{place}{item.name}", "", LOOP)
            else:
                waiting.append((f"{place}{item.name}/", target, (*above, target)))


def parts_of_folder(params: Params, files: FolderFiles) -> Iterator[FolderPart]:
    """Yield all images, prepared as the active profile says, but in their own size; each part until the next one."""
    for chosen in _parts(files.images):
        with _stored(params, files.root, chosen) as part:
            yield part


def _parts(images: Sequence[File]) -> Iterator[list[File]]:
    """Yield the images in parts of at most PART_IMAGES images and, of several images, PART_BYTES."""
    part: list[File] = []
    size = 0
    for file in images:
        if part and (len(part) == PART_IMAGES or size + file.size > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(file)
        size += file.size
    yield part


@contextmanager
def _stored(params: Params, root: Path, images: Sequence[File]) -> Iterator[FolderPart]:
    """Yield images as shards in a temporary folder. Raise Failure if there is no room for it."""
    profile, net = params.active, params.active.net
    processes = profile.prepare.processes or decoding_processes(profile.prepare.device)
    entries = [Entry(printable(file.path), 0, file.path) for file in images]
    each = -(-len(entries) // processes)
    parts = [entries[first : first + each] for first in range(0, len(entries), each)]
    tasks = [ShardTask("val", number, part) for number, part in enumerate(parts)]
    with TemporaryDirectory(prefix="vgg-repro-") as folder:
        work = ShardSettings(
            ImageFolder(root, 0.0, None), Path(folder), profile.prepare, net.pixels(params.largest_scale), net.crop,
            (profile.prepare.colour_profiles or "convert") == "convert", decoder_in_use(params.decoder),
        )  # fmt: skip
        try:
            done = [*run_tasks(functools.partial(make_shards, work), tasks, processes, "reading images")]
            shards = _indexed(Path(folder), len(tasks))
        except OSError as error:
            reason = error.strerror or error
            raise Failure(f"images could not be stored in {folder}: {reason}; TMPDIR names another place") from error
        yield FolderPart(shards, sorted(pair for made in done for pair in made.unreadable), len(entries))


def _indexed(folder: Path, tasks: int) -> Shards:
    """Return the images that can be read."""
    parts = parts_of(folder, "val", range(tasks))
    write_index(folder, "val", (taken(part, np.flatnonzero(part["skipped"] == "")) for part in parts))
    return Shards(folder, "val")
