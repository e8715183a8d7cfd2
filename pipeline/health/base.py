"""What a check has to say, and what the checks look at."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.health.child import Child
from pipeline.params import Params, Prepare, Profile, Score, Train
from pipeline.paths import PARAMS

INSTALL = "pip install --constraint constraints.txt --editable '.[dev]'"
INSTALL_ANEW = "pip install --force-reinstall --constraint constraints.txt --editable '.[dev]'"
GIB = 2**30


State = Literal["ok", "warning", "failure"]


class Finding(NamedTuple):
    """What a check found out about one thing."""

    what: str
    state: State
    says: str
    mend: str = ""  # the command, or the edit of params.yaml, that mends it; a failure has one


class SkippedError(Exception):
    """A check cannot be made, because of something that another check reports."""


@dataclass
class Here:
    """What the checks look at: the parameters, if they are valid, and two processes that try torch and DALI."""

    params: Params | None
    torch: Child
    dali: Child

    @property
    def valid(self) -> Params:
        """The parameters; SkippedError without them."""
        if self.params is None:
            raise SkippedError("it needs a valid params.yaml")
        return self.params

    @property
    def profile(self) -> Profile:
        """The profile in force; SkippedError without one."""
        return self.valid.chosen

    @property
    def steps(self) -> dict[str, Prepare | Train | Score]:
        """The blocks of the profile that work is done by."""
        blocks = {"prepare": self.profile.prepare, "train": self.profile.train, "score": self.profile.score}
        return {step: block for step, block in blocks.items() if block is not None}

    @property
    def device(self) -> str:
        """What the steps ask for: gpu if one of them does, cpu if all do, else auto."""
        if self.params is None:
            return "auto"
        asked = {block.device for block in self.steps.values()}
        return "gpu" if "gpu" in asked else "auto" if "auto" in asked else "cpu"

    def edit(self, key: str, value: str) -> str:
        """The edit of params.yaml that gives all steps that have `key` this value."""
        steps = [step for step, block in self.steps.items() if hasattr(block, key)]
        where = ", ".join(f"profiles.{self.valid.profile}.{step}" for step in steps)
        return f"edit params.yaml: write {key}: {value} in {where}"


Check = Callable[[Here], Iterator[Finding]]


def size(count: float) -> str:
    """So many bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"


def standing(path: Path) -> Path:
    """The nearest folder above `path`, or itself, that is there."""
    path = Path(os.path.abspath(path))
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def quoted(path: Path | str) -> str:
    """A path as a shell wants it."""
    return shlex.quote(str(path))


def at_home() -> str:
    """The way to the repository's root if this is another folder; empty if it is the root, or if none is known."""
    roots = (*Path().absolute().parents, Path(__file__).parent.parent.parent)
    root = next((folder for folder in roots if (folder / PARAMS).exists()), None)
    return "" if PARAMS.exists() or root is None else f"cd {quoted(root)}"
