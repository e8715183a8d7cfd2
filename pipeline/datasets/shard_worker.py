"""The work on one shard, in its own process: images are read, checked, decoded, downscaled and written."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.colour_stats import moments
from pipeline.datasets.image_file import (
    AS_IT_IS,
    OTHER_COLOURS_IGNORED,
    NoImage,
    StoredImage,
    encode,
    libjpegs_warning,
    look,
    recoded,
    turned,
    turned_box,
)
from pipeline.datasets.shards import BETWEEN, ImageRecord, ShardWriter, read_part, stream_name
from pipeline.datasets.sources.base import Box, Encoded, Entry, Source, Split, Stream, Unreadable
from pipeline.datasets.sources.folder import NOT_AN_IMAGE, is_named_otherwise
from pipeline.experiment.params import Prepare
from pipeline.system.atomic_files import write_json
from pipeline.system.decoders import DALI
from pipeline.system.devices import gpu_of
from pipeline.system.memory import check, noticed
from pipeline.system.worker_pool import stderr_file
from vgg.draws import rescaled
from vgg.images import PIXELS, Decoder

BATCH = 32  # images decoded at once
NO_BOXES = np.zeros((0, 4))


@dataclass(frozen=True)
class ShardSettings:
    """The settings common to all shards of a data set. Lengths are in this profile's pixels."""

    source: Source
    folder: Path
    params: Prepare
    largest: int  # S; larger training images are downscaled to it
    crop: int
    convert_colours: bool = False
    decoder: str = DALI


class ShardTask(NamedTuple):
    """A shard to make."""

    split: Split
    number: int
    entries: Iterable[Entry]


class StreamTask(NamedTuple):
    """A stream to be read into shards: number `number`, and every `streams`-th after it."""

    stream: Stream
    number: int
    streams: int  # of its split

    @property
    def split(self) -> Split:
        """Return the split of its images."""
        return self.stream.split


class Done(NamedTuple):
    """A finished shard's counts."""

    images: int  # images read
    unreadable: list[tuple[str, str]]  # ids and reasons


class Candidate(NamedTuple):
    """An image that was read and checked."""

    entry: Entry
    source: Encoded
    image: StoredImage | None
    reason: str  # why it is unusable; empty if it is usable


def make_shards(work: ShardSettings, task: ShardTask | StreamTask, distrust: bool = False) -> Done:
    """Do a task. With `distrust`, DALI gets only images that Pillow decoded whole. Raise OSError."""
    if isinstance(task, ShardTask):
        return make_shard(work, task, distrust)
    return _make_stream(work, task, distrust)


def _make_stream(work: ShardSettings, task: StreamTask, distrust: bool) -> Done:
    """Write the shards of a stream that are not complete, and a note of their number at its end."""
    entries, number, shards, done = iter(work.source.stream(task.stream)), task.number, 0, Done(0, [])
    while (first := next(entries, None)) is not None:
        inside = itertools.chain([first], itertools.islice(entries, work.params.shard_images - 1))
        if read_part(work.folder, task.split, number) is None:
            made = make_shard(work, ShardTask(task.split, number, inside), distrust)
            done = Done(done.images + made.images, done.unreadable + made.unreadable)
        else:
            deque(inside, 0)  # read past them
        number, shards = number + task.streams, shards + 1
    write_json(work.folder / stream_name(task.split, task.number), {"shards": shards})
    return done


def make_shard(work: ShardSettings, task: ShardTask, distrust: bool = False) -> Done:
    """Write one shard and its part. With `distrust`, DALI gets only images that Pillow decoded whole. Raise OSError."""
    decoder = _decoder(gpu_of(work.params.device, task.number), work.decoder)
    with CapturedStderr() as stderr, ShardWriter(work.folder, task.split, task.number) as writer:
        for group in _groups(_candidates(work, task.entries, distrust)):
            for row, stored in _rows(work, task.split, group, decoder, stderr):
                writer.add(row, stored)
    return Done(len(writer.rows), [(row.id, row.skipped) for row in writer.rows if is_unreadable(row.skipped)])


@cache
def _decoder(gpu: int | None, name: str) -> Decoder:
    """Return this process's decoder. All its shards share it, since a GPU's pipeline takes up to a second to build."""
    return Decoder(BATCH, gpu, name)


def is_unreadable(reason: str) -> bool:
    """Return whether `reason` is that of a skipped image, not that of another file among the images."""
    return reason not in ("", NOT_AN_IMAGE)


def _candidates(work: ShardSettings, entries: Iterable[Entry], distrust: bool) -> Iterator[Candidate]:
    """Yield each entry's image, read and checked."""
    for entry in entries:
        with noticed(f"reading {entry.id}"):
            candidate = _candidate(work, entry, distrust)
        yield candidate


def _candidate(work: ShardSettings, entry: Entry, distrust: bool) -> Candidate:
    """Return an entry's image, read and checked, or the reason why it is unusable."""
    source = Encoded(b"")
    try:
        source = work.source.read(entry)
        image = look(source.data, work.params.max_aspect, work.params.upright, distrust, work.convert_colours)
        return Candidate(entry, source, image, "")
    except Unreadable as reason:
        other = isinstance(reason, NoImage) and is_named_otherwise(entry.id)
        return Candidate(entry, source, None, NOT_AN_IMAGE if other else str(reason))


def _groups(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    """Yield the candidates in their order, in groups that can be decoded at once."""
    group: list[Candidate] = []
    pixels = 0
    for candidate in candidates:
        area = candidate.image.height * candidate.image.width if candidate.image else 0
        if group and (len(group) == BATCH or pixels + area > PIXELS):
            yield group
            group, pixels = [], 0
        group.append(candidate)
        pixels += area
    if group:
        yield group


def _rows(
    work: ShardSettings, split: Split, group: list[Candidate], decoder: Decoder, stderr: CapturedStderr
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Yield each candidate's row and its bytes as stored, which are empty if it is skipped."""
    images = [candidate.image for candidate in group if candidate.image]
    limit = work.largest if split == "train" and work.params.rescale == "train" else None
    with noticed(f"decoding {group[0].entry.id} and the images after it"):
        results = _decoded(images, _sizes(images, limit), decoder)
    doubt = stderr.heard() or decoder.gpu is not None  # the GPU's decoder prints no warnings
    decoded = iter(results)
    for candidate in group:
        if candidate.image is None:
            yield _row(candidate)._replace(skipped=candidate.reason), b""
            continue
        image, pixels, reason = next(decoded)
        if pixels is None:
            yield _row(candidate)._replace(skipped=reason), b""
        else:
            with noticed(f"storing {candidate.entry.id}"):
                row, stored = _stored(work, split, candidate, image, pixels)
                warning = libjpegs_warning(candidate.source.data) if doubt else ""
            yield row._replace(warning=warning), stored


def _sizes(images: list[StoredImage], largest: int | None) -> NDArray[np.int64]:
    """Return the heights and widths to store, (N, 2). A shorter side above `largest` becomes `largest`."""
    old = np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2)
    if largest is None or not len(old):
        return old
    return np.where(old.min(1, keepdims=True) > largest, np.stack(rescaled(old[:, 0], old[:, 1], largest), 1), old)


class Decoded(NamedTuple):
    """An image in the form that was decoded in the end, and its pixels, or the reason why it has none."""

    image: StoredImage
    pixels: NDArray[np.uint8] | None
    reason: str = ""


def _decoded(images: list[StoredImage], sizes: NDArray[np.int64], decoder: Decoder) -> list[Decoded]:
    """Return the images at their sizes (N, 2). If decoding fails, retry one by one, then fall back to Pillow."""
    try:
        return [Decoded(*pair) for pair in zip(images, _pixels(images, sizes, decoder), strict=True)]
    except RuntimeError as error:
        if len(images) > 1:
            alone = (_decoded([image], sizes[i : i + 1], decoder) for i, image in enumerate(images))
            return [result._replace(pixels=None if result.pixels is None else result.pixels.copy())
                    for results in alone for result in results]  # fmt: skip
        check(error, images[0].height * images[0].width)
    return [_by_pillow(images[0], sizes, decoder)]


def _by_pillow(image: StoredImage, sizes: NDArray[np.int64], decoder: Decoder) -> Decoded:
    """Return an image that DALI cannot decode, decoded from a PNG by Pillow; without pixels if Pillow fails too."""
    try:
        kind = image.converted or "a format that DALI cannot decode"
        plain = image._replace(encoded=recoded(image.encoded), converted=kind)
        return Decoded(plain, _pixels([plain], sizes, decoder)[0])
    except (Unreadable, RuntimeError) as reason:
        check(reason, image.height * image.width)
        return Decoded(image, None, str(reason))


def _pixels(images: list[StoredImage], sizes: NDArray[np.int64], decoder: Decoder) -> list[NDArray[np.uint8]]:
    """Return the images' pixels at their sizes (N, 2). Raise RuntimeError if one fails or has another size."""
    data = [np.frombuffer(image.encoded, np.uint8) for image in images]
    same = [(p.height, p.width) == tuple(size) for p, size in zip(images, sizes.tolist(), strict=True)]
    whole = iter(decoder([encoded for encoded, kept in zip(data, same, strict=True) if kept]))
    others = [encoded for encoded, kept in zip(data, same, strict=True) if not kept]
    smaller = iter(decoder(others, sizes[~np.array(same, bool)]))
    decoded = [next(whole) if kept else next(smaller) for kept in same]
    if any(pixels.shape[:2] != tuple(size) for pixels, size in zip(decoded, sizes.tolist(), strict=True)):
        raise RuntimeError("it is decoded to another size than its header has")
    return decoded


def _stored(
    work: ShardSettings, split: Split, candidate: Candidate, image: StoredImage, pixels: NDArray[np.uint8]
) -> tuple[ImageRecord, bytes]:
    """Return the row and the stored bytes of an image that is kept."""
    smaller = pixels.shape[:2] != (image.height, image.width)
    changes = [
        f"converted from {image.converted}" * bool(image.converted),
        OTHER_COLOURS_IGNORED * image.other_colours,
        "turned" * (image.turn != AS_IT_IS),
        "rescaled" * smaller,
    ]
    boxes = _boxes(candidate.source.boxes, image, pixels.shape[0], pixels.shape[1])
    pixels = turned(pixels, image.turn)
    first, second = moments(pixels) if split == "train" else (np.zeros(3), np.zeros((3, 3)))
    reencoded = smaller or image.turn != AS_IT_IS
    stored = encode(pixels, work.params.quality, work.params.chroma) if reencoded else image.encoded
    row = _row(candidate)
    row = row._replace(
        hash=row.source_hash if stored is candidate.source.data else hashlib.sha256(stored).digest(),
        height=pixels.shape[0], width=pixels.shape[1], boxes=boxes, changed=", ".join(filter(None, changes)),
        odd_boxes=BETWEEN.join(candidate.source.odd_boxes), small=min(image.height, image.width) < work.crop,
        first=first, second=second,
    )  # fmt: skip
    return row, stored


def _boxes(boxes: Sequence[Box], image: StoredImage, height: int, width: int) -> NDArray[np.float64]:
    """Return a source's boxes (n, 4) in the stored image: decoded to `height` x `width`, then made upright."""
    down, across = height / image.height, width / image.width
    stored = [
        turned_box((left * across, top * down, right * across, bottom * down), height, width, image.turn)
        for left, top, right, bottom in boxes
    ]
    return np.array(stored) if stored else NO_BOXES


def _row(candidate: Candidate) -> ImageRecord:
    """Return an image's row as far as it is known before decoding."""
    data = candidate.source.data
    return ImageRecord(candidate.entry.id, candidate.entry.label, 0, 0, NO_BOXES, 0, 0, bytes(32), len(data),
               hashlib.sha256(data).digest(), "", "", False, "", "", np.zeros(3), np.zeros((3, 3)))  # fmt: skip


class CapturedStderr:
    """A capture of what DALI's libraries print on standard error. Rows report the warnings with their images' names."""

    def __enter__(self) -> CapturedStderr:
        self.kept, self.file = os.dup(2), stderr_file()
        os.dup2(self.file.fileno(), 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self.kept, 2)
        os.close(self.kept)
        self.file.close()

    def heard(self) -> bool:
        """Return whether anything, such as libjpeg's warnings, was printed since the last call."""
        if not os.fstat(2).st_size:
            return False
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        return True
