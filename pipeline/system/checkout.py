"""The state of the working folder: whether it is a git repository, and whether a merge has left conflicts in a file."""

from __future__ import annotations

from configparser import ConfigParser, Error
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UsageError

FILES = (Path("params.yaml"), Path("dvc.yaml"), Path("dvc.lock"))
SETTINGS = (Path(".dvc/config"), Path(".dvc/config.local"))
EDITED = FILES[:2]  # people write these; DVC writes the other, and can make its content again
BEGIN = "git init && git add --all && git commit --message Begin"
OURS, THEIRS = b"<<<<<<< ", b">>>>>>> "  # marks of a merge, at the beginning of a line


class Problem(NamedTuple):
    """What is wrong with the working folder, and the command that fixes it."""

    says: str
    fix: str

    def __str__(self) -> str:
        return f"{self.says}\n  fix: {self.fix}"


class BrokenCheckout(UsageError):
    """A failure because of the state of the working folder."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def check() -> None:
    """Raise BrokenCheckout if git and DVC cannot work in this folder."""
    if (found := problem()) is not None:
        raise BrokenCheckout(found)


def problem() -> Problem | None:
    """Return what keeps git and DVC from working in this folder; None if nothing does, or DVC is not used here."""
    found = next(filter(None, map(conflict, FILES)), None)
    return found or (no_repository() if Path(".dvc").is_dir() else None)


def no_repository() -> Problem | None:
    """Return the problem that this folder is not the root of a git repository, such as an unpacked ZIP file.

    DVC without git is no problem where its settings say so.
    """
    if Path(".git").exists() or any(map(_without_git, SETTINGS)):
        return None
    return Problem(
        "this folder is not a git repository, so results cannot record a commit and DVC does not work", BEGIN
    )


def _without_git(settings: Path) -> bool:
    """Return True if a file of DVC's settings says that there is no git, as `dvc init --no-scm` does."""
    parser = ConfigParser()
    try:
        parser.read(settings)
        return parser.getboolean("core", "no_scm", fallback=False)
    except (Error, ValueError):  # DVC says what is wrong
        return False


def conflict(file: Path) -> Problem | None:
    """Return the problem that a merge has left conflicts in a file."""
    try:
        return conflict_in(file.read_bytes(), file)
    except OSError:  # whoever needs the file says so
        return None


def conflict_in(content: bytes, file: Path) -> Problem | None:
    """Return the problem that the content of a file has the marks of a merge."""
    lines = content.splitlines()
    marks = [number for number, line in enumerate(lines, 1) if line.startswith(OURS)]
    if not marks or not any(line.startswith(THEIRS) for line in lines):
        return None
    fix = f"git diff {file}    # and keep one side there" if file in EDITED else f"git checkout HEAD -- {file}"
    count = f"{len(marks)} conflicts" if len(marks) > 1 else "a conflict"
    return Problem(f"a merge has left {count} in {file}, from line {marks[0]} on", fix)
