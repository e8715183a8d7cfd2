"""Preparation of a data set: images are decoded, large ones downscaled, and all written as shards (sections 3.1, 3.2).

The shards are in a folder named by a hash of the source's fingerprint and of the parameters. DVC neither tracks nor
deletes this folder, and several clones may share it. It also holds the manifest and the facts, which are copied to
their places. An interrupted preparation leaves its complete shards in a folder next to it, and the next one resumes
from them.
"""

from __future__ import annotations

import csv
import functools
import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.dataset_key import request_hash, shards_key
from pipeline.datasets.facts import Facts, read
from pipeline.datasets.manifest import (
    Joined,
    SplitShards,
    join_parts,
    kept_images,
    lost_shards,
    manifest_hash,
    parts_of,
)
from pipeline.datasets.shard_worker import Done, ShardSettings, ShardTask, StreamTask, is_unreadable, make_shards
from pipeline.datasets.shards import Columns, Shards, part_name, part_numbers, read_part, shard_name, stream_name
from pipeline.datasets.sources import open_source
from pipeline.datasets.sources.base import SPLITS, ImageNames, Listing, Skipped, Source, Split
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, shards_root
from pipeline.system.atomic_files import copy, sync_folder, whole_csv, write_json, write_text
from pipeline.system.decoders import PILLOW, decoder_in_use, differing
from pipeline.system.devices import cores, gpu_count
from pipeline.system.locks import alone
from pipeline.system.memory import noticed
from pipeline.system.process_lifetime import stopped_by_sigterm
from pipeline.system.progress import Progress, gigabytes
from pipeline.system.worker_pool import run_tasks

SHARDS_AT_LEAST, TINY = 16, 16
ON_GPU = 4  # decoding processes per GPU
WATCH = 5.0  # seconds between looks at how far streams are read
SURE = 10  # this many unreadable images never stop preparation
ROW_BYTES = 600  # bytes per image in the manifest, the index and the part
NO_VALIDATION = "there are no validation images: add some to val/, or raise data.val_share if there is no val/"
Task = ShardTask | StreamTask
SHAPING = {"rescale", "quality", "chroma", "upright"}  # parameters that determine the stored pixels


def prepare(params: Params, data_set: DataSet = CLASSIFICATION) -> Facts:
    """Make the data set's shards unless they are there; write the manifest, the statistics and the facts.

    Raise Failure if there is too little to train on, if too many images are unreadable, or if the disk is full. Raise
    Interrupted on Ctrl-C. After an interruption or a kill, the next call resumes from the complete shards.
    """
    folder = shards_root() / shards_key(params)
    if not is_whole(folder):
        with alone(folder.with_suffix(".lock"), "preparing this data set"):
            if not is_whole(folder):  # another process may have made it meanwhile
                _make(params, data_set, folder)
    for part in (
        *folder.glob("*.part.npz"),
        *folder.glob("*.stream.json"),
    ):  # no longer needed, because they are joined
        part.unlink(missing_ok=True)
    copy(folder / "manifest.csv", data_set.manifest)
    write_text(data_set.shards_record, f"{folder.name} {request_hash(params)}\n")
    facts = read_prepared(folder)
    facts.write(params.profile, data_set)
    return facts


def is_whole(folder: Path) -> bool:
    """Return whether `folder` holds a complete prepared data set."""
    try:
        facts = read_prepared(folder)
        for split in facts.splits:
            Shards(folder, split)
        return manifest_hash(folder / "manifest.csv", facts.stored) == facts.manifest
    except (Failure, OSError, TypeError, ValueError, KeyError, csv.Error):
        return False


def read_prepared(folder: Path) -> Facts:
    """Return the facts of the data set in `folder`. Raise Failure if there are none."""
    return read(Facts, folder / "facts.json")


def _make(params: Params, data_set: DataSet, folder: Path) -> None:
    """Write the data set next to its place, then move it. Raise Failure on a disk error, Interrupted on Ctrl-C."""
    if params.active.prepare.device == "gpu" and decoder_in_use(params.decoder) == PILLOW:
        raise Failure("prepare.device is gpu, but only DALI decodes on a GPU, and the decoder is pillow: set it to cpu")
    source, splits = open_source(params.active), params.active.splits
    with noticed("listing the images"):
        listing = source.listing().only(splits)
    _check_listing(listing, splits)
    if listing.departures:
        print(f"prepare: {_departures_text(source, listing.departures)}", flush=True)
    partial = folder.with_name(folder.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        _check_disk(listing, partial)
        with stopped_by_sigterm():
            _write(params, data_set, source, listing, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        sync_folder(folder.parent)
    except BrokenPipeError:  # the reader of the output has gone; this is no disk error
        raise
    except OSError as error:
        raise Failure(
            f"the shards could not be written to {error.filename or folder}: {error.strerror or error}; once this "
            "is fixed, the same command resumes from the last complete shard"
        ) from error
    except KeyboardInterrupt:
        raise Interrupted("prepare stopped; the same command resumes from the last complete shard") from None


def _check_disk(listing: Listing, folder: Path) -> None:
    """Print how much room the shards need. Raise Failure if `folder` has less. Drawn images have no known size."""
    if not listing.bytes:
        return
    images = _count(listing)
    needed = listing.bytes + images * ROW_BYTES
    already_written = sum(path.stat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    where = f"about {gigabytes(needed)} in {folder.parent}, where {gigabytes(free)} are free"
    what = f"{images:,} images"
    if not _counted(listing):
        files = len({file for stream in listing.streams for file in stream.files})
        what = f"the images in {files:,} archive{'s' * (files > 1)}"
    if needed > already_written + free:
        raise Failure(f"{what} need {where}: make room, or set VGG_REPRO_SHARDS to a folder on another disk")
    print(f"prepare: {what} need {where}", flush=True)


def _write(params: Params, data_set: DataSet, source: Source, listing: Listing, folder: Path) -> None:
    """Make the shards, then join them: write the indexes, the manifest and the facts."""
    wanted, net = params.active.prepare, params.active.net
    largest = net.pixels(params.largest_scale)
    tasks = _tasks(listing, wanted.shard_images)
    colours, decoder = params.active.converts_colours, decoder_in_use(params.decoder)
    work = ShardSettings(source, folder, wanted, largest, net.crop, colours, decoder)
    _make_shards(work, tasks, listing, data_set.skipped)
    listing, shards = _settled(work, tasks, listing)
    found = _count(listing) + sum(len(part.order.images) for part in shards.values() if part.order)
    _check_unreadable(_lost(listing), found, wanted.max_unreadable, data_set.skipped)
    joined = join_parts(folder, shards, listing, wanted.shared == "drop")
    try:
        _check_joined(listing, _labels(listing, shards), joined, data_set.manifest)
    except Failure:
        copy(folder / "manifest.csv", data_set.manifest)
        raise
    stored = {**wanted.model_dump(include=SHAPING), "largest": largest, **differing(params.decoder)}
    if colours:
        stored["colour_profiles"] = "convert"
    write_json(folder / "facts.json", _facts(source, listing, joined, found, stored, folder / "manifest.csv").as_dict())


def _count(listing: Listing) -> int:
    """Return the number of images, of streams about."""
    return sum(len(all_) for all_ in listing.entries.values()) + sum(stream.images for stream in listing.streams)


def _counted(listing: Listing) -> bool:
    """Return whether the number of images is known before the streams are read."""
    return all(stream.counted for stream in listing.streams)


def _tasks(listing: Listing, images: int) -> list[Task]:
    """Return the shards to make, of at most `images` images each, and the streams to read.

    Validation is first, because it is smaller.

    Small splits have smaller shards: SHARDS_AT_LEAST of them, so that several processes share the work, unless that
    gives fewer than TINY images each.
    """
    tasks = list[Task]()
    for split in reversed(SPLITS):
        entries = listing.entries[split]
        each = min(images, max(TINY, -(-len(entries) // SHARDS_AT_LEAST)))
        parts = [entries[first : first + each] for first in range(0, len(entries), each)]
        tasks += [ShardTask(split, number, part) for number, part in enumerate(parts)]
        streams = [stream for stream in listing.streams if stream.split == split]
        tasks += [StreamTask(stream, number, len(streams)) for number, stream in enumerate(streams)]
    return tasks


def _make_shards(work: ShardSettings, tasks: list[Task], listing: Listing, skipped: Path) -> None:
    """Make the shards that are missing. Raise Failure if too many images are unreadable."""
    total, done, missing, unreadable = _count(listing), 0, list[Task](), _lost(listing)
    for task in tasks:
        made, complete = _made(work.folder, task)
        unreadable += made.unreadable
        done += made.images
        if not complete:
            missing.append(task)
    if done:
        of = f" of {total}" if _counted(listing) else ""
        print(f"prepare: {done}{of} images are already in complete shards", flush=True)
    processes = work.params.processes or decoding_processes(work.params.device)
    try:
        _check_unreadable(unreadable, total, work.params.max_unreadable, skipped)
        known = total if _counted(listing) else None
        with Progress("prepare", known, "images", done) as progress:
            with _watched(work, listing, progress):
                for made in run_tasks(functools.partial(make_shards, work), missing, processes, "preparing images"):
                    unreadable += made.unreadable
                    done += made.images
                    _check_unreadable(unreadable, known or max(total, done), work.params.max_unreadable, skipped)
                    progress.advance(max(0, done - progress.done))
            if listing.streams:  # while they are read, only their whole shards are counted
                progress.total = progress.done = done
    except Failure:
        _forget_unreadable(work.folder)
        raise


@contextmanager
def _watched(work: ShardSettings, listing: Listing, progress: Progress) -> Iterator[None]:
    """Show the images of streams as their shards are completed, because a stream may take an hour."""
    end = threading.Event()

    def watch() -> None:
        while not end.wait(WATCH):
            images = sum(1 for _ in work.folder.glob("*.part.npz")) * work.params.shard_images
            most = images if progress.total is None else min(images, progress.total)
            progress.advance(max(0, most - progress.done))

    if listing.streams:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        end.set()


def _made(folder: Path, task: Task) -> tuple[Done, bool]:
    """Return what the complete shards of a task hold, and whether these are all of its shards."""
    numbers = _shards_of(folder, task)
    expected = _begun(folder, task) if numbers is None else numbers
    parts = (read_part(folder, task.split, number) for number in expected)
    counts = [(len(part["label"]), _unreadable(part)) for part in parts if part is not None]
    made = Done(sum(images for images, _ in counts), [pair for _, pairs in counts for pair in pairs])
    return made, numbers is not None and len(counts) == len(numbers)


def _shards_of(folder: Path, task: Task) -> list[int] | None:
    """Return the numbers of a task's shards, or None of a stream that has not been read to its end."""
    if isinstance(task, ShardTask):
        return [task.number]
    try:
        shards = int(json.loads((folder / stream_name(task.split, task.number)).read_text())["shards"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [task.number + place * task.streams for place in range(shards)]


def _all_shards(folder: Path, task: Task) -> list[int]:
    """Return the numbers of the shards of a task that is done. Raise Failure if nothing says their number any more."""
    numbers = _shards_of(folder, task)
    if numbers is None:
        raise lost_shards(folder, task.split)
    return numbers


def _begun(folder: Path, task: Task) -> list[int]:
    """Return the numbers of the complete shards of a stream that has not been read to its end."""
    assert isinstance(task, StreamTask)
    return [number for number in part_numbers(folder, task.split) if number % task.streams == task.number]


def _settled(work: ShardSettings, tasks: Sequence[Task], listing: Listing) -> tuple[Listing, dict[Split, SplitShards]]:
    """Return the listing and the shards of each split, with the images' order if there are streams.

    Images that a stream names but that cannot be used are then in the listing's `skipped`.
    """
    numbers: dict[Split, list[int]] = {
        split: sorted(n for task in tasks if task.split == split for n in _all_shards(work.folder, task))
        for split in SPLITS
    }
    if not listing.streams:
        return listing, {split: SplitShards(numbers[split]) for split in SPLITS}
    for split, known in numbers.items():  # an index counts the files, so none may be missing between others
        for number in set(range(max(known, default=-1) + 1)) - set(known):
            (work.folder / shard_name(split, number)).touch()
    places, found, skipped = dict[Split, NDArray[np.int64]](), dict[Split, ImageNames](), list(listing.skipped)
    for split in SPLITS:
        if numbers[split]:
            places[split], found[split] = _names(work.folder, split, numbers[split], skipped)
    settled, orders = work.source.settled(listing._replace(skipped=skipped, entries={}, streams=()), found)
    if settled.departures:
        print(f"prepare: {_departures_text(work.source, settled.departures)}", flush=True)
    ordered = {split: order._replace(images=places[split][order.images]) for split, order in orders.items()}
    return settled, {split: SplitShards(numbers[split], ordered.get(split)) for split in SPLITS}


def _names(
    folder: Path, split: Split, numbers: Sequence[int], skipped: list[Skipped]
) -> tuple[NDArray[np.int64], ImageNames]:
    """Return the indices and names of a split's images. Add those that cannot be used to `skipped`."""
    ids, codes = [np.zeros(0, "S1")], [np.zeros(0, np.int64)]
    for part in parts_of(folder, split, numbers):
        ids.append(np.char.encode(part["id"], "utf-8"))
        codes.append(part["label"])
        unusable = part["label"] < 0
        pairs = zip(part["id"][unusable].tolist(), part["skipped"][unusable].tolist(), strict=True)
        skipped += [Skipped(split, id, reason, lost=is_unreadable(reason)) for id, reason in pairs]
    every = np.concatenate(codes)
    places = np.flatnonzero(every >= 0)
    return places, ImageNames(np.concatenate(ids)[places], every[places])


def _lost(listing: Listing) -> list[tuple[str, str]]:
    """Return the images that the source could not use, with the reasons."""
    return [(one.id, one.reason) for one in listing.skipped if one.lost]


def _labels(listing: Listing, shards: Mapping[Split, SplitShards]) -> set[int]:
    """Return the labels of the training images that were found."""
    order = shards["train"].order
    return {entry.label for entry in listing.entries["train"]} if order is None else set(order.labels.tolist())


def _unreadable(part: Columns) -> list[tuple[str, str]]:
    """Return the ids of a part's unreadable images, with the reasons."""
    reasons = zip(part["id"].tolist(), part["skipped"].tolist(), strict=True)
    return [(id, reason) for id, reason in reasons if is_unreadable(reason)]


def _forget_unreadable(folder: Path) -> None:
    """Delete the parts of shards that have images of no bytes, so that these are made again.

    Their disk may have been unavailable for a while, with nothing wrong with the images.
    """
    for split in SPLITS:
        for number in part_numbers(folder, split):
            part = read_part(folder, split, number)
            if part is not None and (part["source_length"] == 0).any():
                (folder / part_name(split, number)).unlink()


def decoding_processes(device: str) -> int:
    """Return the number of processes: one per core, or ON_GPU per GPU, since each takes some of the GPU's memory.

    There are at least two, because a single one would be this process itself, and an image could then end it.
    """
    count = len(cores())
    return max(2, min(count, ON_GPU * gpu_count(device) or count))


def _check_unreadable(unreadable: list[tuple[str, str]], total: int, share: float, skipped: Path) -> None:
    """Raise Failure if too many images are unreadable, and write their list to `skipped`."""
    limit = max(SURE, int(share * total))
    if len(unreadable) > limit:
        examples = "; ".join(f"{id}: {reason}" for id, reason in unreadable[:3])
        with whole_csv(skipped) as table:
            table.writerows([("id", "skipped"), *unreadable])
        raise Failure(
            f"{len(unreadable)} of {total} images cannot be used so far, more than {limit} (prepare.max_unreadable is "
            f"{share:g}). The first: {examples}. All of them: {skipped}"
        )


def _check_listing(listing: Listing, splits: Sequence[Split]) -> None:
    """Raise Failure if one of the splits that are needed is empty."""
    streamed = {stream.split for stream in listing.streams}
    if "train" in splits and not listing.entries["train"] and "train" not in streamed:
        raise Failure(f"no training images are left in {', '.join(listing.classes[:5])}")
    if not listing.entries["val"] and "val" not in streamed:
        raise Failure(NO_VALIDATION)


def _departures_text(source: Source, departures: Sequence[str]) -> str:
    """Return a sentence on how a data set differs from the published one."""
    return f"this differs from the published {source.published}: {'; '.join(departures)}"


def _check_joined(listing: Listing, labels: set[int], joined: Joined, manifest: Path) -> None:
    """Raise Failure if no image of a class of the training images' `labels`, or none of validation, is usable."""
    lost = labels - set(joined.labels["train"])
    if lost:
        names = ", ".join(listing.classes[label] for label in sorted(lost)[:5])
        raise Failure(f"no training images are left in {names}: {manifest} lists the reasons")
    if not joined.labels["val"]:
        raise Failure(NO_VALIDATION)


def _facts(
    source: Source, listing: Listing, joined: Joined, found: int, stored: dict[str, Any], manifest: Path
) -> Facts:
    """Return the facts of the data set that was just written, of `found` images."""
    departures = list(listing.departures)
    if source.comparable and (doubts := source.doubts(kept_images(manifest))):
        print(f"prepare: {_departures_text(source, doubts)}", flush=True)
        departures += doubts
    if lost := found - joined.images:
        departures.append(f"{lost} images are skipped")
    altered = source.altered or f"{source.about}, but not the published data set"
    differs = source.comparable and bool(departures)
    return Facts(
        source=source.name,
        about=f"{altered}: {'; '.join(departures)}" if differs else source.about,
        comparable=source.comparable and not differs,
        classes=listing.classes,
        train=joined.labels["train"].total(),
        val=joined.labels["val"].total(),
        rescaled=joined.rescaled,
        **joined.colours.facts(),
        stored=stored,
        manifest=manifest_hash(manifest, stored),
        wnids=list(listing.wnids),
        grouped=source.grouped,
    )
