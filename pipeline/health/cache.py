"""Checks of DVC's cache: where it lies, and whether what it keeps is stored once, as links, or twice."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.health.base import Finding, Here, SkippedError, quoted, standing
from pipeline.health.tracking import FOLDER, repository

FICLONE = 0x40049409  # Linux's request for a copy that shares its blocks
DEFAULT = ["reflink", "copy"]  # DVC's, where its configuration says nothing
ALL = "reflink,hardlink,symlink,copy"


def cache(here: Here) -> Iterator[Finding]:
    """Whether outputs are links to the cache, by the configuration and by what the disks do."""
    folder, configured, shared = settings()
    possible = [*link_types(standing(folder), Path()), "copy"]
    used = next((kind for kind in configured if kind in possible), "copy")
    where = "" if folder.is_relative_to(FOLDER.absolute()) else ", outside of this clone"
    says = f"{used} from {folder}{where}{', shared by a group' if shared else ''}"
    if used != "copy":
        yield Finding("cache", "ok", says)
        return
    allowed = set(configured) >= set(ALL.split(","))
    mend = (
        f"git clone {quoted(Path().absolute())} /ANOTHER/DISK/vgg-repro" if allowed else f"dvc config cache.type {ALL}"
    )
    why = "these disks do no links" if len(possible) == 1 else f"the disks would do {possible[0]}"
    yield Finding("cache", "warning", f"{says}: weights and scores are stored twice; {why}", mend)


def settings() -> tuple[Path, list[str], bool]:
    """The cache's folder, the configured kinds of link, and whether it is shared; SkippedError without DVC's."""
    with repository() as repo:
        chosen = repo.config["cache"]
        return Path(repo.cache.local_cache_dir), list(chosen.get("type") or DEFAULT), bool(chosen.get("shared"))


def link_types(cache: Path, work: Path) -> list[str]:
    """The kinds of link that can be made from `work` to `cache`, by trying."""
    ways: dict[str, Callable[[Path, Path], None]] = {"reflink": reflink, "hardlink": os.link, "symlink": os.symlink}
    with (
        tempfile.TemporaryDirectory(dir=cache, prefix=".doctor-") as kept,
        tempfile.TemporaryDirectory(dir=work, prefix=".doctor-") as seen,
    ):
        source = Path(kept).absolute() / "file"
        source.write_bytes(b"weights")
        return [kind for kind, link in ways.items() if _links(link, source, Path(seen) / kind)]


def _links(link: Callable[[Path, Path], None], source: Path, target: Path) -> bool:
    try:
        link(source, target)
        return target.read_bytes() == source.read_bytes()
    except OSError:
        return False


def reflink(source: Path, target: Path) -> None:
    """Make a copy that shares its blocks; OSError where the disk does not do that."""
    with source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())


def cache_folder() -> Path:
    """Where the cache lies, or would by default."""
    try:
        return settings()[0]
    except SkippedError:
        return FOLDER / "cache"


def is_stored_twice() -> bool:
    """Whether outputs may have to be copies of what is in the cache."""
    try:
        folder, configured, _ = settings()
    except SkippedError:
        return True
    return not set(configured) & set(link_types(standing(folder), Path()))
