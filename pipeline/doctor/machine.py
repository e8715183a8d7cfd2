"""Checks of memory and disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.doctor.base import GIB, DoctorContext, Finding, size, standing
from pipeline.doctor.tracking import cache_folder
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from pipeline.system.checkout import BrokenCheckout
from pipeline.system.memory import left_in_group

OTHER_DISK = "export VGG_REPRO_SHARDS=/A/LARGER/DISK/shards; dvc cache dir --local /A/LARGER/DISK/cache"
OWN_CLONE = "git clone . ~/vgg-repro    # and work there"
LEAST, ENOUGH = 2 * GIB, 4 * GIB  # the largest process of the smallest profile takes 1.24 GiB, and two run at once


def memory(context: DoctorContext) -> Iterator[Finding]:
    """Check whether there is enough memory for two processes."""
    free, left = psutil.virtual_memory().available, left_in_group()
    usable = min(free, left)
    says = f"{size(usable)} available" + (" under this container's or session's limit (cgroup)" if left < free else "")
    if usable < LEAST:
        fix = "ps -eo rss,pid,args --sort=-rss | head    # and stop what is not needed"
        yield Finding("memory", "failure", f"{says}, less than {size(LEAST)}", fix)
    elif usable < ENOUGH:
        says = f"{says}, less than {size(ENOUGH)}: run one stage at a time"
        yield Finding("memory", "warning", says, "vgg-repro run --jobs 1")
    else:
        yield Finding("memory", "ok", says)


def disk(context: DoctorContext) -> Iterator[Finding]:
    """Check whether each disk has room for what the profile still writes, and whether it is writable."""
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
            fix = OWN_CLONE if folder == Path().absolute() else OTHER_DISK
            yield Finding("disk", "failure", f"{folder} cannot be written", fix)


def _needed(params: Params) -> tuple[float, float, str]:
    """Return the bytes of shards and of results still to be written, and the reason if the latter are unknown."""
    from pipeline.datasets.prepare import is_whole
    from pipeline.experiment.targets import within_reach
    from pipeline.orchestration.cost_plan import count_images, plan
    from pipeline.orchestration.dvc_graph import forecasts

    try:
        shards_bytes = 0 if is_whole(CLASSIFICATION.shards) else count_images(params).bytes + GIB
        costs = plan(params, forecasts(within_reach([], params), params))
    except BrokenCheckout:  # the check of the repository says why
        return GIB, GIB, "; results are not counted"
    except Failure as reason:
        return GIB, GIB, f"; results are not counted: {reason}"
    checkpoint = 4 * max((cost.disk for cost in costs.training), default=0)  # weights, momentum; the old file too
    return shards_bytes, sum(cost.disk for cost in (*costs.training, *costs.scoring)) + checkpoint, ""


def _room(folders: list[Path], need: float, why: str) -> Finding:
    """Return the finding whether a disk has room for what will be written to `folders`."""
    free = psutil.disk_usage(str(standing(folders[0]))).free
    says = f"{size(free)} free for {', '.join(map(str, folders))}; {size(need)} still to be written{why}"
    if free < need:
        return Finding("disk", "failure", says, OTHER_DISK)
    if free < 1.25 * need + GIB:
        return Finding("disk", "warning", f"{says}, which leaves little room", OTHER_DISK)
    return Finding("disk", "ok", says)
