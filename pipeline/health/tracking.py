"""Checks of git and DVC: the commit, the repository, the graph, conflicts, and who is at work."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.health.base import Finding, Here, SkippedError, at_home, quoted
from pipeline.provenance import commit

FOLDER, GRAPH, DONE = Path(".dvc"), Path("dvc.yaml"), Path("dvc.lock")
LOCK, AT_WORK = FOLDER / "tmp" / "lock", FOLDER / "tmp" / "rwlock"
BEGIN = "git init && git add --all && git commit --message Begin"


def git(here: Here) -> Iterator[Finding]:
    """Whether results can be traced to a commit; DVC needs the repository too."""
    if shutil.which("git") is None:
        yield Finding("git", "failure", "git is not installed", "sudo apt-get install git")
        return
    inside = _git("rev-parse", "--show-toplevel")
    if "dubious ownership" in inside.stderr:
        mend = f"git config --global --add safe.directory {quoted(Path().absolute())}"
        yield Finding("git", "failure", "this repository belongs to somebody else, so git refuses it", mend)
    elif inside.returncode:
        yield Finding("git", "failure", "this is no git repository, without which DVC does nothing", at_home() or BEGIN)
    elif _git("rev-parse", "--verify", "HEAD").returncode:
        says = "there is no commit yet, so results cannot name theirs"
        yield Finding("git", "warning", says, "git add --all && git commit --message Begin")
    else:
        found = commit()
        changed = "; what results depend on has changed since, so they name it with a plus"
        yield Finding("git", "ok", f"commit {found.removesuffix('+')}{changed if found.endswith('+') else ''}")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    english = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["git", *words], capture_output=True, text=True, timeout=20, check=False, env=english)


def dvc(here: Here) -> Iterator[Finding]:
    """Whether DVC's repository and graph are here."""
    from dvc import __version__

    missing = [str(path) for path in (FOLDER, GRAPH) if not path.exists()]
    if missing:
        restore = f"git checkout -- {' '.join(missing)}" if Path(".git").exists() else "git init && dvc init"
        mend = at_home() or restore
        yield Finding("dvc", "failure", f"there is no {' and no '.join(missing)} here", mend)
        return
    try:
        with repository() as repo:
            yield Finding("dvc", "ok", f"{__version__}, its repository is {repo.root_dir}")
    except SkippedError as reason:
        no_git = "not a git repository" in str(reason)
        yield Finding("dvc", "failure", str(reason), BEGIN if no_git else "git checkout -- .dvc")


@contextmanager
def repository() -> Iterator[Any]:
    """DVC's repository; SkippedError if it does not open."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo()
    except DvcException as reason:
        raise SkippedError(f"DVC's repository does not open: {reason}") from None
    with repo:
        yield repo


def conflicts(here: Here) -> Iterator[Finding]:
    """Whether a merge has left its marks in DVC's files."""
    if not GRAPH.exists():
        raise SkippedError(f"there is no {GRAPH}")
    marked = [str(path) for path in (DONE, GRAPH) if path.exists() and is_marked(path)]
    if not marked:
        yield Finding("conflicts", "ok", f"none in {GRAPH} and {DONE}")
        return
    for name in marked:
        merging = _git("ls-files", "--unmerged", "--", name).stdout
        mend = f"git checkout --ours -- {name}" if merging else f"git checkout HEAD~1 -- {name}"
        yield Finding("conflicts", "failure", f"{name} has the marks of a merge in it; either side will do", mend)


def is_marked(path: Path) -> bool:
    """Whether a merge's marks stand in the file."""
    return re.search(r"^(<<<<<<<|>>>>>>>) ", path.read_text(errors="replace"), re.MULTILINE) is not None


def graph(here: Here) -> Iterator[Finding]:
    """Whether dvc.yaml, dvc.lock and params.yaml make a graph."""
    from dvc.exceptions import DvcException

    _ = here.valid
    with repository() as repo:
        try:
            stages = len(repo.index.graph)
        except DvcException as reason:
            culprit = DONE if str(DONE) in str(reason) else GRAPH
            yield Finding("graph", "failure", str(reason).strip(), f"git checkout -- {culprit}")
            return
    if stages:
        yield Finding("graph", "ok", f"{stages} stages")
    else:
        yield Finding("graph", "failure", f"{GRAPH} has no stages", f"git checkout -- {GRAPH}")


def locks(here: Here) -> Iterator[Finding]:
    """Whether DVC is at work here, or a process that was killed has left a lock that nobody opens."""
    if not FOLDER.exists():
        raise SkippedError(f"there is no {FOLDER}")
    try:
        at_work, strangers = _at_work()
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Finding("locks", "failure", f"{AT_WORK} is broken", f"rm {AT_WORK}")
        return
    if strangers:
        says = f"{AT_WORK} names the process {strangers[0]}, which is none of DVC's: one that was killed left it"
        yield Finding("locks", "failure", says, f"rm {AT_WORK}")
        return
    yield _held(at_work)


def _at_work() -> tuple[list[str], list[int]]:
    """What DVC is doing by its own list, and processes on it that do something else by now."""
    if not AT_WORK.exists():
        return [], []
    said = json.loads(AT_WORK.read_text() or "{}")
    infos = [*said.get("write", {}).values(), *(one for many in said.get("read", {}).values() for one in many)]
    living = {int(one["pid"]): str(one["cmd"]) for one in infos if command(int(one["pid"]))}
    strangers = [pid for pid in living if not _is_ours(pid)]
    return [f"{what} (process {pid})" for pid, what in living.items()], strangers


def command(pid: int) -> str:
    """The command line of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _is_ours(pid: int) -> bool:
    return any(name in command(pid) for name in ("dvc", "vgg-repro"))


def _held(at_work: list[str]) -> Finding:
    """What is to be said of DVC's one lock, which is held for moments only."""
    text = LOCK.read_text(errors="replace").strip() if LOCK.exists() else ""
    claim = text.split("|")  # the kind of lock that cache on network disks has: PATH|MACHINE|PROCESS|...
    if len(claim) >= 3:
        if claim[1] == os.uname().nodename and not command(int(claim[2] or 0)):
            return Finding("locks", "failure", f"{LOCK} is held by process {claim[2]}, which is gone", f"rm {LOCK}")
        at_work = at_work or [f"process {claim[2]} on {claim[1]}"]
    elif text and is_locked(LOCK):
        at_work = at_work or [f"{command(int(text)) or 'somebody'} (process {text})" if text.isdigit() else "somebody"]
    if at_work:
        return Finding("locks", "ok", f"DVC is at work: {'; '.join(dict.fromkeys(at_work))}")
    return Finding("locks", "ok", "nobody is at work with DVC")


def is_locked(path: Path) -> bool:
    """Whether another process holds the file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go as the file is closed
        except BlockingIOError:
            return True
    return False
