"""Checks of git and DVC: the repository, dvc.yaml and dvc.lock, and how outputs are linked to the cache."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.base import DoctorContext, Finding, restore_command
from pipeline.errors import Failure
from pipeline.orchestration.dvc_graph import lost_from_cache
from pipeline.results.provenance import commit
from pipeline.system.checkout import conflict, no_repository, problem

GRAPH, DONE = Path("dvc.yaml"), Path("dvc.lock")
ALL = "reflink,hardlink,symlink,copy"


def repository(context: DoctorContext) -> Iterator[Finding]:
    """Check whether results can name a commit, and whether DVC reads dvc.yaml and dvc.lock."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    git = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    if (missing := no_repository()) is not None:
        yield Finding("git", "failure", *missing)
    elif git.returncode:
        yield Finding("git", "failure", f"results cannot record a commit: {git.stderr.strip()}", "git status")
    else:
        yield Finding("git", "ok", f"commit {commit()}")
    yield from (Finding("dvc", "failure", *found) for found in map(conflict, (GRAPH, DONE)) if found is not None)
    if problem() is not None:  # DVC would only repeat it in other words
        return
    try:
        with Repo() as repo:
            stages = len(repo.index.graph)
    except DvcException as reason:
        broken = next((file for file in (DONE, GRAPH) if str(file) in str(reason)), Path(".dvc"))
        yield Finding("dvc", "failure", str(reason).strip(), restore_command(broken))
    else:
        empty = Finding("dvc", "failure", f"there is no {GRAPH} with stages here", restore_command(GRAPH))
        yield Finding("dvc", "ok", f"{stages} stages, in {repo.root_dir}") if stages else empty


def cache(context: DoctorContext) -> Iterator[Finding]:
    """Check whether outputs are links to the cache, by DVC's configuration and by what the disks support."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_objects.fs.generic import test_links

    try:
        with Repo() as repo:
            local = repo.cache.local
            possible = test_links(ALL.split(",")[:-1], local.fs, local.path, repo.fs, repo.root_dir)
            used = next((kind for kind in local.cache_types if kind in possible), "copy")
    except DvcException:  # the check of the repository reports it
        return
    except OSError as reason:
        yield Finding("cache", "failure", f"it cannot be used: {reason}", "dvc cache dir --local /ANOTHER/DISK/cache")
        return
    if used != "copy":
        yield Finding("cache", "ok", f"{used} from {local.path}")
        return
    says = f"copies from {local.path}: weights and scores are stored twice"
    fix = f"dvc config cache.type {ALL}" if possible else "dvc cache dir --local /A/DISK/THAT/LINKS/cache"
    yield Finding("cache", "warning", says, fix)


def lost_results(context: DoctorContext) -> Iterator[Finding]:
    """Check whether results are missing in DVC's cache that are in the working folder."""
    try:
        lost = lost_from_cache(context.params) if context.params else ""
    except Failure:  # the check of the repository reports it
        return
    if lost:
        yield Finding("results", "failure", lost, "dvc commit")


def cache_folder() -> Path:
    """Return the folder of DVC's cache, or the default one if DVC fails."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return Path(repo.cache.local.path)
    except DvcException:
        return Path(".dvc/cache")
