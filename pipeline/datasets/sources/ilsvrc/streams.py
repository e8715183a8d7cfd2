"""Images in files that are read from their beginning: the parts in which they are read, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.sources.base import Split, Stream
from pipeline.datasets.sources.folder import printable
from pipeline.datasets.sources.ilsvrc.compact import Compact, Found
from pipeline.datasets.sources.ilsvrc.copies import Copy
from pipeline.datasets.sources.ilsvrc.names import NO_LOSS, PathInfo, Unnamed, named
from pipeline.datasets.sources.ilsvrc.reference import BYTES, IMAGES
from pipeline.datasets.sources.ilsvrc.samples import images_in, samples
from pipeline.datasets.sources.ilsvrc.settle import code_of

PART, PARTS = 2**29, 16  # bytes of shards that one process reads in a row; least number of such parts
AN_IMAGE = BYTES // sum(IMAGES.values())  # bytes, on average


def streams_of(root: Path, split: Split, copy: Copy) -> list[Stream]:
    """Return a copy's files in parts, each for one process at a time."""
    sizes = [(root / file).stat().st_size for file in copy.files]
    most, parts, held = min(PART, sum(sizes) / PARTS), list[list[str]](), 0.0
    for file, size in zip(copy.files, sizes, strict=True):
        if not parts or held + size > most:
            parts.append([])
            held = 0
        parts[-1].append(file)
        held += size
    known = dict(zip(copy.files, sizes, strict=True))
    return [_stream(root, split, part, sum(known[file] for file in part)) for part in parts]


def _stream(root: Path, split: Split, files: Sequence[str], size: int) -> Stream:
    """Return files of `size` bytes with the number of images in them, about where it is not written in them."""
    images = sum(images_in(root / file) for file in files)
    return Stream(split, tuple(files), images or max(1, size // AN_IMAGE), counted=images > 0)


def named_samples(
    root: Path, stream: Stream, names_only: bool
) -> Iterator[tuple[str, PathInfo | Unnamed, int, bytes]]:  # fmt: skip
    """Yield each image's path, what it says, its class's number and its bytes. Images of no use here are left out."""
    for file in stream.files:
        for sample in samples(root / file, stream.split, names_only):
            try:
                yield sample.path, named(stream.split, sample.path), sample.number, sample.data
            except Unnamed as reason:
                if str(reason) not in NO_LOSS:
                    yield printable(f"{file}/{sample.path}"), reason, -1, b""


def names_in(root: Path, stream: Stream) -> Compact:
    """Return all images in a stream, with codes for labels and without their bytes. All of it is read."""
    named = named_samples(root, stream, names_only=True)
    found = [(name, number) for _, name, number, _ in named if isinstance(name, PathInfo)]
    files = [Found("", stream.files[0], 0, 0)] * len(found)
    return Compact.of(files, [name.id for name, _ in found], [code_of(*pair) for pair in found], {})


def narrowed(
    streams: Sequence[Stream], names: Sequence[Compact], chosen: Mapping[Split, frozenset[str]]
) -> list[Stream]:
    """Return the streams that have chosen images, each with their ids. Of an id that occurs twice the first is read."""
    narrowed, left = [], {split: set(ids) for split, ids in chosen.items()}
    for stream, own in zip(streams, names, strict=True):
        if wanted := frozenset(left[stream.split].intersection(id.decode() for id in own.ids.tolist())):
            left[stream.split] -= wanted
            narrowed.append(stream._replace(wanted=wanted, images=len(wanted), counted=True))
    return narrowed
