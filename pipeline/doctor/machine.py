"""Checks of memory and disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.doctor.base import GIB, DoctorContext, Finding, quoted, size, standing
from pipeline.doctor.tracking import cache_folder
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root

OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # version 2
LEAST, ENOUGH = 2 * GIB, 4 * GIB  # the largest process of the smallest profile takes 1.24 GiB, and two run at a time


def memory(context: DoctorContext) -> Iterator[Finding]:
    """Check whether there is memory for two processes."""
    free, left = psutil.virtual_memory().available, left_in_group()
    found = min(free, left)
    says = f"{size(found)} to be had" + (" under this container's or session's limit (cgroup)" if left < free else "")
    if found < LEAST:
        fix = "ps -eo rss,pid,args --sort=-rss | head    # and end what is not needed"
        yield Finding("memory", "failure", f"{says}, less than {size(LEAST)}", fix)
    elif found < ENOUGH:
        says = f"{says}, less than {size(ENOUGH)}: rather one stage at a time"
        yield Finding("memory", "warning", says, "vgg-repro run --jobs 1")
    else:
        yield Finding("memory", "ok", says)


def left_in_group() -> float:
    """Return the memory left under the tightest limit of this process's control groups, in bytes."""
    own = OWN_GROUP.read_text().rpartition("::/")[2].strip() if OWN_GROUP.exists() else ""
    folders = [folder for folder in (GROUPS / own, *(GROUPS / own).parents) if folder.is_relative_to(GROUPS)]
    return min(map(_left, folders))


def _left(group: Path) -> float:
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # the root has no such files, and neither has version 1
        return float("inf")
    return float("inf" if most == "max" else int(most) - used + int(statistics.get("inactive_file", 0)))


def disk(context: DoctorContext) -> Iterator[Finding]:
    """Check whether there is room on each disk for what the profile still writes, and whether it can be written."""
    if context.params is None or "died" in context.torch:
        return
    shards_bytes, results, why = _needed(context.params)
    wanted = {shards_root(): shards_bytes, cache_folder(): results, Path(): float(GIB)}
    disks: dict[int, list[Path]] = {}
    for folder in wanted:
        disks.setdefault(os.stat(standing(folder)).st_dev, []).append(folder)
    for folders in disks.values():
        yield _room(folders, sum(wanted[folder] for folder in folders), why)
    for folder in dict.fromkeys(map(standing, wanted)):
        if not os.access(folder, os.W_OK):
            yield Finding("disk", "failure", f"{folder} cannot be written", f'sudo chown "$USER" {quoted(folder)}')


def _needed(params: Params) -> tuple[float, float, str]:
    """Return the bytes of shards and of results still to be written, and why nobody knows the latter if so."""
    from pipeline.datasets.prepare import is_whole
    from pipeline.experiment.targets import within_reach
    from pipeline.orchestration.cost_plan import count_images, plan
    from pipeline.orchestration.dvc_graph import forecasts

    try:
        shards_bytes = 0 if is_whole(CLASSIFICATION.shards) else count_images(params).bytes + GIB
        found = plan(params, forecasts(within_reach([], params), params))
    except Failure as reason:
        return GIB, GIB, f"; results are not counted: {reason}"
    checkpoint = 4 * max((cost.disk for cost in found.training), default=0)  # weights and momentum, new beside old
    return shards_bytes, sum(cost.disk for cost in (*found.training, *found.scoring)) + checkpoint, ""


def _room(folders: list[Path], need: float, why: str) -> Finding:
    """Return whether a disk has room for what comes to lie in `folders`."""
    free = psutil.disk_usage(str(standing(folders[0]))).free
    says = f"{size(free)} free for {', '.join(map(str, folders))}; {size(need)} still to be written{why}"
    fix = "export VGG_REPRO_SHARDS=/A/LARGER/DISK/shards; dvc cache dir --local /A/LARGER/DISK/cache"
    if free < need:
        return Finding("disk", "failure", says, fix)
    if free < 1.25 * need + GIB:
        return Finding("disk", "warning", f"{says}, which leaves little", fix)
    return Finding("disk", "ok", says)
