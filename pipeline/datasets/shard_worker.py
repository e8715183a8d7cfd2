"""One shard's work, in a process of its own: images read, looked at, decoded by DALI, made smaller, written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.colour_stats import moments
from pipeline.datasets.image_file import (
    AS_IT_IS,
    NoImage,
    Picture,
    encode,
    is_named_otherwise,
    libjpegs_warning,
    look,
    recoded,
    turned,
    turned_box,
)
from pipeline.datasets.shards import ImageRecord, ShardWriter
from pipeline.datasets.sources.base import Box, Encoded, Entry, Source, Split, Unreadable
from pipeline.experiment.params import Prepare
from pipeline.system.devices import gpu_of
from pipeline.system.memory import check, noticed
from pipeline.system.worker_pool import stderr_file
from vgg.draws import rescaled
from vgg.images import PIXELS, Decoder

BATCH = 32  # images decoded at a time
OTHER_FILE = "no image, and not named like one"
NO_BOXES = np.zeros((0, 4))


@dataclass(frozen=True)
class Work:
    """What all shards of a data set have in common; lengths in this profile's pixels."""

    source: Source
    folder: Path
    params: Prepare
    largest: int  # S; training images above it become it
    crop: int


class Task(NamedTuple):
    """One shard to make."""

    split: Split
    number: int
    entries: Sequence[Entry]


class Done(NamedTuple):
    """A shard that is made."""

    images: int  # looked at
    unreadable: list[tuple[str, str]]  # ids and reasons


class Candidate(NamedTuple):
    """An image read and looked at."""

    entry: Entry
    source: Encoded
    picture: Picture | None
    reason: str  # why it is of no use


def make_shard(work: Work, task: Task, distrust: bool = False) -> Done:
    """Write one shard and its part; with `distrust` DALI sees nothing that Pillow has not decoded whole. OSError."""
    decoder = Decoder(BATCH, gpu_of(work.params.device, task.number))
    with CapturedStderr() as murmur, ShardWriter(work.folder, task.split, task.number) as writer:
        for group in _groups(_candidates(work, task.entries, distrust)):
            for row, stored in _rows(work, task.split, group, decoder, murmur):
                writer.add(row, stored)
    return Done(len(writer.rows), [(row.id, row.left_out) for row in writer.rows if is_unreadable(row.left_out)])


def is_unreadable(left_out: str) -> bool:
    """Return whether this is why an image is left out, and not another file among the images."""
    return left_out not in ("", OTHER_FILE)


def _candidates(work: Work, entries: Sequence[Entry], distrust: bool) -> Iterator[Candidate]:
    for entry in entries:
        with noticed(f"reading {entry.id}"):
            one = _candidate(work, entry, distrust)
        yield one


def _candidate(work: Work, entry: Entry, distrust: bool) -> Candidate:
    source = Encoded(b"")
    try:
        source = work.source.read(entry)
        picture = look(source.data, work.params.max_aspect, work.params.upright, distrust)
        return Candidate(entry, source, picture, "")
    except Unreadable as reason:
        other = isinstance(reason, NoImage) and is_named_otherwise(entry.id)
        return Candidate(entry, source, None, OTHER_FILE if other else str(reason))


def _groups(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    """Candidates in their order, so many at a time as can be decoded at once."""
    group: list[Candidate] = []
    pixels = 0
    for one in candidates:
        more = one.picture.height * one.picture.width if one.picture else 0
        if group and (len(group) == BATCH or pixels + more > PIXELS):
            yield group
            group, pixels = [], 0
        group.append(one)
        pixels += more
    if group:
        yield group


def _rows(
    work: Work, split: Split, group: list[Candidate], decoder: Decoder, murmur: CapturedStderr
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Each candidate's row, and its bytes as stored: none if it is left out."""
    pictures = [one.picture for one in group if one.picture]
    limit = work.largest if split == "train" and work.params.rescale == "train" else None
    with noticed(f"decoding {group[0].entry.id} and some images after it"):
        found = _decoded(pictures, _sizes(pictures, limit), decoder)
    doubt = murmur.heard() or decoder.gpu is not None  # the GPU's decoder says nothing
    decoded = iter(found)
    for one in group:
        if one.picture is None:
            yield _row(one)._replace(left_out=one.reason), b""
            continue
        picture, pixels, reason = next(decoded)
        if pixels is None:
            yield _row(one)._replace(left_out=reason), b""
        else:
            with noticed(f"storing {one.entry.id}"):
                row, stored = _stored(work, split, one, picture, pixels)
                warning = libjpegs_warning(one.source.data) if doubt else ""
            yield row._replace(warning=warning), stored


def _sizes(pictures: list[Picture], largest: int | None) -> NDArray[np.int64]:
    """The heights and widths to store, (N, 2): those above `largest` become it."""
    old = np.array([(one.height, one.width) for one in pictures], np.int64).reshape(-1, 2)
    if largest is None or not len(old):
        return old
    return np.where(old.min(1, keepdims=True) > largest, np.stack(rescaled(old[:, 0], old[:, 1], largest), 1), old)


class Decoded(NamedTuple):
    """A picture as it was decoded at last, and its pixels, or why there are none."""

    picture: Picture
    pixels: NDArray[np.uint8] | None
    reason: str = ""


def _decoded(pictures: list[Picture], sizes: NDArray[np.int64], decoder: Decoder) -> list[Decoded]:
    """Each picture at its size: all together; one by one if DALI stumbles; at last from Pillow's hand."""
    try:
        return [Decoded(*pair) for pair in zip(pictures, _pixels(pictures, sizes, decoder), strict=True)]
    except RuntimeError as error:
        if len(pictures) > 1:
            alone = (_decoded([one], sizes[i : i + 1], decoder) for i, one in enumerate(pictures))
            return [found._replace(pixels=None if found.pixels is None else found.pixels.copy())
                    for one in alone for found in one]  # fmt: skip
        check(error, pictures[0].height * pictures[0].width)
    return [_by_pillow(pictures[0], sizes, decoder)]


def _by_pillow(picture: Picture, sizes: NDArray[np.int64], decoder: Decoder) -> Decoded:
    """A picture that DALI cannot decode, as a PNG that it can; no pixels if Pillow cannot decode it either."""
    try:
        kind = picture.converted or "what DALI cannot decode"
        plain = picture._replace(encoded=recoded(picture.encoded), converted=kind)
        return Decoded(plain, _pixels([plain], sizes, decoder)[0])
    except (Unreadable, RuntimeError) as reason:
        check(reason, picture.height * picture.width)
        return Decoded(picture, None, str(reason))


def _pixels(pictures: list[Picture], sizes: NDArray[np.int64], decoder: Decoder) -> list[NDArray[np.uint8]]:
    """Their pixels at their sizes (N, 2). RuntimeError if DALI cannot decode one, or decodes it to another size."""
    data = [np.frombuffer(one.encoded, np.uint8) for one in pictures]
    same = [(one.height, one.width) == tuple(size) for one, size in zip(pictures, sizes.tolist(), strict=True)]
    whole = iter(decoder([one for one, kept in zip(data, same, strict=True) if kept]))
    others = [one for one, kept in zip(data, same, strict=True) if not kept]
    smaller = iter(decoder(others, sizes[~np.array(same, bool)]))
    found = [next(whole) if kept else next(smaller) for kept in same]
    if any(one.shape[:2] != tuple(size) for one, size in zip(found, sizes.tolist(), strict=True)):
        raise RuntimeError("DALI and Pillow see different sizes")
    return found


def _stored(
    work: Work, split: Split, one: Candidate, picture: Picture, pixels: NDArray[np.uint8]
) -> tuple[ImageRecord, bytes]:
    """The row and the bytes of an image that is kept."""
    smaller = pixels.shape[:2] != (picture.height, picture.width)
    what = [f"converted from {picture.converted}" * bool(picture.converted),
            "turned" * (picture.turn != AS_IT_IS), "rescaled" * smaller]  # fmt: skip
    boxes = _boxes(one.source.boxes, picture, pixels.shape[0], pixels.shape[1])
    pixels = turned(pixels, picture.turn)
    first, second = moments(pixels) if split == "train" else (np.zeros(3), np.zeros((3, 3)))
    again = smaller or picture.turn != AS_IT_IS
    stored = encode(pixels, work.params.quality, work.params.chroma) if again else picture.encoded
    row = _row(one)
    row = row._replace(
        hash=row.source_hash if stored is one.source.data else hashlib.sha256(stored).digest(),
        height=pixels.shape[0], width=pixels.shape[1], boxes=boxes, changed=", ".join(filter(None, what)),
        small=min(picture.height, picture.width) < work.crop, first=first, second=second,
    )  # fmt: skip
    return row, stored


def _boxes(boxes: Sequence[Box], picture: Picture, height: int, width: int) -> NDArray[np.float64]:
    """A source's boxes (n, 4) in its image as stored, decoded to `height` and `width` and then made upright."""
    down, across = height / picture.height, width / picture.width
    stored = [
        turned_box((left * across, top * down, right * across, bottom * down), height, width, picture.turn)
        for left, top, right, bottom in boxes
    ]
    return np.array(stored) if stored else NO_BOXES


def _row(one: Candidate) -> ImageRecord:
    """What is known of an image before it is decoded."""
    data = one.source.data
    return ImageRecord(one.entry.id, one.entry.label, 0, 0, NO_BOXES, 0, 0, bytes(32), len(data),
               hashlib.sha256(data).digest(), "", False, "", "", np.zeros(3), np.zeros((3, 3)))  # fmt: skip


class CapturedStderr:
    """What DALI's libraries print on the standard error, kept from people: a row says it of its image by name."""

    def __enter__(self) -> CapturedStderr:
        self.kept, self.file = os.dup(2), stderr_file()
        os.dup2(self.file.fileno(), 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self.kept, 2)
        os.close(self.kept)
        self.file.close()

    def heard(self) -> bool:
        """Whether anything was printed since the last time: libjpeg's warnings are."""
        if not os.fstat(2).st_size:
            return False
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        return True
