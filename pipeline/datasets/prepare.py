"""Preparation of a data set: images are decoded, large ones downscaled, and all written as shards (sections 3.1, 3.2).

The shards are in a folder named by a hash of the source's fingerprint and of the parameters. DVC neither tracks nor
deletes this folder, and several clones may share it. It also holds the manifest and the facts, which are copied to
their places. An interrupted preparation leaves its complete shards in a folder next to it, and the next one resumes
from them.
"""

from __future__ import annotations

import csv
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.dataset_key import request_hash, shards_key
from pipeline.datasets.facts import Facts, read
from pipeline.datasets.manifest import Joined, join_parts, manifest_hash
from pipeline.datasets.shard_worker import ShardSettings, ShardTask, is_unreadable, make_shard
from pipeline.datasets.shards import Columns, Shards, part_name, read_part
from pipeline.datasets.sources import open_source
from pipeline.datasets.sources.base import SPLITS, Listing, Source, Split
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
SURE = 10  # this many unreadable images never stop preparation
ROW_BYTES = 600  # bytes per image in the manifest, the index and the part
NO_VALIDATION = "there are no validation images: add some to val/, or raise data.val_share if there is no val/"
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
    for part in folder.glob("*.part.npz"):  # no longer needed, because they are joined
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
        print(f"prepare: {_departures_text(listing.departures)}", flush=True)
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
    images = sum(len(entries) for entries in listing.entries.values())
    needed = listing.bytes + images * ROW_BYTES
    already_written = sum(path.stat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    where = f"about {gigabytes(needed)} in {folder.parent}, where {gigabytes(free)} are free"
    if needed > already_written + free:
        raise Failure(f"{images:,} images need {where}: make room, or set VGG_REPRO_SHARDS to a folder on another disk")
    print(f"prepare: {images:,} images need {where}", flush=True)


def _write(params: Params, data_set: DataSet, source: Source, listing: Listing, folder: Path) -> None:
    """Make the shards, then join them: write the indexes, the manifest and the facts."""
    wanted, net = params.active.prepare, params.active.net
    largest = net.pixels(params.largest_scale)
    tasks = _tasks(listing, wanted.shard_images)
    settings = ShardSettings(source, folder, wanted, largest, net.crop, decoder_in_use(params.decoder))
    _make_shards(settings, tasks, listing, data_set.skipped)
    joined = join_parts(folder, tasks, listing, wanted.shared == "drop")
    try:
        _check_joined(listing, joined, data_set.manifest)
    except Failure:
        copy(folder / "manifest.csv", data_set.manifest)
        raise
    stored = {**wanted.model_dump(include=SHAPING), "largest": largest, **differing(params.decoder)}
    write_json(folder / "facts.json", _facts(source, listing, joined, stored, folder / "manifest.csv").as_dict())


def _tasks(listing: Listing, images: int) -> list[ShardTask]:
    """Return the shards to make, of at most `images` images each. Validation is first, because it is smaller.

    Small splits have smaller shards: SHARDS_AT_LEAST of them, so that several processes share the work, unless that
    gives fewer than TINY images each.
    """
    tasks = []
    for split in reversed(SPLITS):
        entries = listing.entries[split]
        each = min(images, max(TINY, -(-len(entries) // SHARDS_AT_LEAST)))
        parts = [entries[first : first + each] for first in range(0, len(entries), each)]
        tasks += [ShardTask(split, number, part) for number, part in enumerate(parts)]
    return tasks


def _make_shards(work: ShardSettings, tasks: list[ShardTask], listing: Listing, skipped: Path) -> None:
    """Make the shards that are missing. Raise Failure if too many images are unreadable."""
    total = sum(len(entries) for entries in listing.entries.values())
    missing, unreadable = [], list[tuple[str, str]]()
    for task in tasks:
        part = read_part(work.folder, task.split, task.number)
        if part is None:
            missing.append(task)
        else:
            unreadable += _unreadable(part)
    done = total - sum(len(task.entries) for task in missing)
    if done:
        print(f"prepare: {done} of {total} images are already in complete shards", flush=True)
    processes = work.params.processes or _processes(work.params.device)
    try:
        _check_unreadable(unreadable, total, work.params.max_unreadable, skipped)
        with Progress("prepare", total, "images", done) as progress:
            for made in run_tasks(functools.partial(make_shard, work), missing, processes, "preparing images"):
                unreadable += made.unreadable
                _check_unreadable(unreadable, total, work.params.max_unreadable, skipped)
                progress.advance(made.images)
    except Failure:
        _forget_unreadable(work.folder, tasks)
        raise


def _unreadable(part: Columns) -> list[tuple[str, str]]:
    """Return the ids of a part's unreadable images, with the reasons."""
    reasons = zip(part["id"].tolist(), part["skipped"].tolist(), strict=True)
    return [(id, reason) for id, reason in reasons if is_unreadable(reason)]


def _forget_unreadable(folder: Path, tasks: list[ShardTask]) -> None:
    """Delete the parts of shards that have images of no bytes, so that these are made again.

    Their disk may have been unavailable for a while, with nothing wrong with the images.
    """
    for task in tasks:
        part = read_part(folder, task.split, task.number)
        if part is not None and (part["source_length"] == 0).any():
            (folder / part_name(task.split, task.number)).unlink()


def _processes(device: str) -> int:
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
    if "train" in splits and not listing.entries["train"]:
        raise Failure(f"no training images are left in {', '.join(listing.classes[:5])}")
    if not listing.entries["val"]:
        raise Failure(NO_VALIDATION)


def _departures_text(departures: Sequence[str]) -> str:
    """Return a sentence on how a data set differs from a plain ILSVRC-2012."""
    return f"this differs from the published ILSVRC-2012: {'; '.join(departures)}"


def _check_joined(listing: Listing, joined: Joined, manifest: Path) -> None:
    """Raise Failure if no image of a class, or none of validation, is usable."""
    lost = {entry.label for entry in listing.entries["train"]} - set(joined.labels["train"])
    if lost:
        names = ", ".join(listing.classes[label] for label in sorted(lost)[:5])
        raise Failure(f"no training images are left in {names}: {manifest} lists the reasons")
    if not joined.labels["val"]:
        raise Failure(NO_VALIDATION)


def _facts(source: Source, listing: Listing, joined: Joined, stored: dict[str, Any], manifest: Path) -> Facts:
    """Return the facts of the data set that was just written."""
    departures = list(listing.departures)
    if lost := sum(len(entries) for entries in listing.entries.values()) - joined.images:
        departures.append(f"{lost} images are skipped")
    plain = source.comparable and not departures
    return Facts(
        source=source.name,
        about=source.about if plain or not source.comparable else f"{source.about}; {_departures_text(departures)}",
        comparable=plain,
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
