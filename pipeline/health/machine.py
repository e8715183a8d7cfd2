"""Checks of the machine: memory, shared memory, the limits of a process."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.health.base import GIB, Finding, Here, size

MEMINFO, OWN_GROUPS, GROUPS, SHARED = (
    Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), Path("/dev/shm")
)  # fmt: skip
LEAST, ENOUGH = 2 * GIB, 4 * GIB  # the largest process of the smallest profile takes 1.24 GiB, and two run at a time
SHARED_ENOUGH = 64 * 2**20
ENOUGH_FILES, LEAST_FILES = 4096, 2048  # a process maps some 1300 shards of ILSVRC-2012
INFINITE = resource.RLIM_INFINITY


def memory(here: Here) -> Iterator[Finding]:
    """Whether there is memory for two processes."""
    free, left = available(), left_in_group()
    limited = left is not None and left < free
    found = left if left is not None and limited else free
    says = f"{size(found)} to be had" + (" under the limit of this container or session (cgroup)" if limited else "")
    mend = "docker run --memory=8g ..." if limited else "vgg-repro run --jobs 1"
    if found < LEAST:
        yield Finding("memory", "failure", f"{says}, less than {size(LEAST)}", _more_memory(limited))
    elif found < ENOUGH:
        yield Finding("memory", "warning", f"{says}, less than {size(ENOUGH)}: rather one stage at a time", mend)
    else:
        yield Finding("memory", "ok", says)


def _more_memory(limited: bool) -> str:
    if limited:
        return "docker run --memory=8g ..."
    return "ps -eo rss,pid,args --sort=-rss | head    # and kill PID what is not needed"


def available() -> int:
    """The memory that the kernel thinks can be had, in bytes."""
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def left_in_group() -> int | None:
    """The memory left under the tightest limit of this process's groups, in bytes; None without one."""
    lefts = [left for folder in _groups() if (left := _left(folder)) is not None]
    return min(lefts, default=None)


def _groups() -> Iterator[Path]:
    """The folders of this process's groups and of those above them, in either version of cgroups."""
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = GROUPS / "memory" if controllers else GROUPS
        inside = top / path.lstrip("/")
        yield from (folder for folder in (inside, *inside.parents) if folder.is_relative_to(top))


def _left(group: Path) -> int | None:
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most, taken = (group / limit).read_text().strip(), int((group / used).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if most != "max":
            return int(most) - taken + int(statistics.get("inactive_file", 0))  # what the kernel gives back at once
    return None


def shared_memory(here: Here) -> Iterator[Finding]:
    """Whether processes can share memory and semaphores."""
    container = "docker run --shm-size=1g ..."
    if not SHARED.is_dir():
        mend = f"sudo mkdir --parents {SHARED} && sudo mount --types tmpfs --options size=1G tmpfs {SHARED}"
        yield Finding("shared memory", "failure", f"there is no {SHARED}", mend)
        return
    try:
        with tempfile.TemporaryFile(dir=SHARED) as file:
            file.write(b"1")
    except OSError as error:
        says = f"{SHARED} cannot be written: {error.strerror}"
        yield Finding("shared memory", "failure", says, f"sudo chmod 1777 {SHARED}    # {container}")
        return
    free = free_bytes(SHARED)
    if free < SHARED_ENOUGH:
        mend = f"sudo mount --options remount,size=1G {SHARED}    # in a container: {container}"
        says = f"{size(free)} free in {SHARED}, less than {size(SHARED_ENOUGH)}"
        yield Finding("shared memory", "failure" if free < 2**20 else "warning", says, mend)
    else:
        yield Finding("shared memory", "ok", f"{size(free)} free in {SHARED}")


def free_bytes(folder: Path) -> int:
    """The bytes that a person without privileges may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Limit(NamedTuple):
    """A limit of a process that the shell knows as `ulimit OPTION` and prlimit as --NAME."""

    what: str
    kind: int
    enough: int
    option: str
    name: str


LIMITS = (
    Limit("open files", resource.RLIMIT_NOFILE, ENOUGH_FILES, "-n", "nofile"),
    Limit("processes", resource.RLIMIT_NPROC, 512, "-u", "nproc"),
    Limit("file size", resource.RLIMIT_FSIZE, INFINITE, "-f", "fsize"),
    Limit("address space", resource.RLIMIT_AS, INFINITE, "-v", "as"),
)


def limits(here: Here) -> Iterator[Finding]:
    """Whether the shell allows this process what it will need."""
    findings = [_limit(here, limit, *resource.getrlimit(limit.kind)) for limit in LIMITS]
    low = [finding for finding in findings if finding.state != "ok"]
    yield from low
    if not low:
        yield Finding("limits", "ok", ", ".join(finding.says for finding in findings))


def _limit(here: Here, limit: Limit, soft: int, hard: int) -> Finding:
    if _at_least(soft, limit.enough):
        return Finding(limit.what, "ok", f"{limit.what} {_number(soft)}")
    wanted = _number(limit.enough)
    says = (
        f"{_number(soft)} are allowed, fewer than {wanted}" if limit.enough != INFINITE else f"limited to {soft} bytes"
    )
    mend = f"ulimit {limit.option} {wanted}"
    if not _at_least(hard, limit.enough):  # which only root raises
        mend = f"sudo prlimit --pid $$ --{limit.name}={wanted}:{wanted}"
    many = here.params is not None and here.profile.data.source == "ilsvrc2012"
    fails = limit.kind == resource.RLIMIT_NOFILE and many and not _at_least(soft, LEAST_FILES)
    return Finding(limit.what, "failure" if fails else "warning", says, mend)


def _at_least(found: int, wanted: int) -> bool:
    return found == INFINITE or (wanted != INFINITE and found >= wanted)


def _number(limit: int) -> str:
    return "unlimited" if limit == INFINITE else str(limit)
