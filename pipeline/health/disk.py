"""Checks of the disks: room for what the profile still has to write, and whether files can be written and locked."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.grid import scales_of, scored
from pipeline.health.base import GIB, Finding, Here, quoted, size, standing
from pipeline.health.cache import cache_folder, is_stored_twice
from pipeline.health.child import DiedError
from pipeline.health.machine import free_bytes
from pipeline.lock import take
from pipeline.params import RANDOM, Params
from pipeline.paths import facts, posteriors, shards, shards_root, weights
from pipeline.sources.published import BYTES, CLASSES, IMAGES

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs",
           "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse"}  # fmt: skip
ILSVRC = BYTES * 1.01  # ILSVRC-2012 once prepared, with manifest and indexes
LITTLE = float(GIB)  # for the shards of all else
FLOAT = 4  # bytes
JOBS = 2  # runs at a time, as in `make repro`
FEW_FILES = 10_000


class Need(NamedTuple):
    """Bytes still to be written."""

    shards: float
    results: float  # weights and posteriors, in DVC's cache
    checkpoints: float


def needed(params: Params, parameters: Mapping[str, int]) -> Need:
    """What the profile has still to write, where a net has so many `parameters`."""
    names = {run.init for run in params.runs.values() if run.init.startswith(RANDOM)} | set(params.runs)
    if params.weights == "published":
        names = set(params.imports)
    nets = {name: params.runs[name].net if name in params.runs else name.removeprefix(RANDOM) for name in names}
    left = [parameters.get(net, 0) * FLOAT for name, net in nets.items() if not weights(name, params.weights).exists()]
    checkpoints = JOBS * 2 * 2 * max(left, default=0)  # weights and momentum, the new ones beside the old
    return Need(_shards(params), sum(left) + _posteriors(params), checkpoints if params.weights == "trained" else 0)


def _shards(params: Params) -> float:
    data = params.chosen.data
    with suppress(IndexError, UnicodeDecodeError):  # of a broken file, which another check reports
        if (shards() / "facts.json").exists():
            return 0
    if data.source != "ilsvrc2012":
        return LITTLE
    every = sum(IMAGES.values())
    taken = sum(min(data.limit or every, IMAGES[split]) for split in params.chosen.splits)
    return ILSVRC * taken / every + LITTLE


def _posteriors(params: Params) -> float:
    missing = [(run, mode) for run, mode in scored(params) if not posteriors(run, mode).exists()]
    scales = sum(len(scales_of(params.runs[run], mode)) for run, mode in missing)
    images, classes = counts(params)
    return scales * images * classes * FLOAT


def counts(params: Params) -> tuple[int, int]:
    """The validation images and the classes; of data that are not prepared, as many as ILSVRC-2012 has or none."""
    try:
        found = json.loads(facts(params.profile).read_text())
        return int(found["val"]), len(found["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        data = params.chosen.data
        large = data.source == "ilsvrc2012"
        return min(IMAGES["val"], data.limit or IMAGES["val"]) if large else 0, CLASSES


def disk(here: Here) -> Iterator[Finding]:
    """Whether there is room on each disk for what comes to lie on it, and whether it can be written."""
    need = _need(here)
    folders = {"shards": shards_root(), "cache": cache_folder(), "here": Path()}
    wanted = {
        "shards": need.shards,
        "cache": need.results,
        "here": need.checkpoints + (need.results if is_stored_twice() else 0),
    }
    disks: dict[int, list[str]] = {}
    for name, folder in folders.items():
        disks.setdefault(os.stat(standing(folder)).st_dev, []).append(name)
    for names in disks.values():
        yield _room({name: folders[name] for name in names}, {name: wanted[name] for name in names})
    for folder in dict.fromkeys(map(standing, folders.values())):
        yield from _writable(folder)


def _need(here: Here) -> Need:
    """Without valid parameters or without torch a little is taken for granted."""
    if here.params is None:
        return Need(LITTLE, 0, 0)
    try:
        return needed(here.params, here.torch.result()["parameters"])
    except DiedError:
        return needed(here.params, {})


def _room(folders: dict[str, Path], wanted: dict[str, float]) -> Finding:
    """Whether one disk has room for the folders that lie on it."""
    first, need = standing(next(iter(folders.values()))), sum(wanted.values())
    free = free_bytes(first)
    where = ", ".join(str(folder) for folder in folders.values())
    says = f"{size(free)} free for {where}; {size(need)} still to be written"
    if free < need:
        return Finding("disk", "failure", says, _move(wanted))
    found = os.statvfs(first)
    if found.f_files and found.f_favail < FEW_FILES:
        return Finding("disk", "failure", f"{where}: only {found.f_favail} more files fit (inodes)", _move(wanted))
    if free < 1.25 * need + GIB:
        return Finding("disk", "warning", f"{says}, which leaves little", _move(wanted))
    return Finding("disk", "ok", says)


def _move(wanted: dict[str, float]) -> str:
    """What makes room: another place for what takes most of it."""
    return {
        "shards": "export VGG_REPRO_SHARDS=/A/LARGER/DISK/shards",
        "cache": "dvc cache dir --local /A/LARGER/DISK/cache",
        "here": f"git clone {quoted(Path().absolute())} /A/LARGER/DISK/vgg-repro",
    }[max(wanted, key=lambda name: wanted[name])]


def _writable(folder: Path) -> Iterator[Finding]:
    """Whether a file in `folder` can be written, and locked against other processes."""
    elsewhere = f"git clone {quoted(Path().absolute())} /A/LOCAL/DISK/vgg-repro"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"1")
            file.flush()
            lock(file.fileno())
    except PermissionError:
        yield Finding(
            "disk", "failure", f"{folder} cannot be written", f'sudo chown --recursive "$USER" {quoted(folder)}'
        )
        return
    except OSError as error:
        yield Finding("disk", "failure", f"{folder} cannot be written or locked: {error.strerror}", elsewhere)
        return
    kind = file_system(folder)
    if kind in NETWORK:
        says = f"{folder} is on a network disk ({kind}): its locks may not hold between machines, so use it from one"
        yield Finding("disk", "warning", says, "dvc config --local core.hardlink_lock true")


def lock(file: int) -> None:
    """Take and let go the kind of lock that stages keep each other off with."""
    take(file)


def file_system(folder: Path) -> str:
    """The kind of the file system that `folder` lies in; empty if it is unknown."""
    found, longest, inside = "", -1, folder.resolve()
    for line in MOUNTS.read_text().splitlines() if MOUNTS.exists() else []:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        if inside.is_relative_to(point) and len(point) >= longest:  # a later one covers an earlier one
            found, longest = after.split()[0], len(point)
    return found
