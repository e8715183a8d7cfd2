"""What a check has to say, and what the checks look at."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.doctor.probes import probe
from pipeline.experiment.params import Params
from pipeline.experiment.paths import PARAMS

INSTALL = "pip install --constraint constraints.txt --editable '.[dev]'"
INSTALL_ANEW = "pip install --force-reinstall --constraint constraints.txt --editable '.[dev]'"
GIB = 2**30
STEPS = ("prepare", "train", "score")  # blocks of a profile that name a device


class Finding(NamedTuple):
    """What a check found out about one thing."""

    what: str
    state: Literal["ok", "warning", "failure"]
    says: str
    fix: str = ""  # the command, or the edit of params.yaml, that helps; a failure has one


@dataclass
class DoctorContext:
    """What the checks look at: the parameters, if they are valid, and what torch says in a process of its own."""

    params: Params | None

    @cached_property
    def torch(self) -> dict[str, Any]:
        """The answer of torch's process; its key `died` says why there is none."""
        return probe("torch")

    @property
    def device(self) -> str:
        """What the steps ask for: gpu if one of them does, cpu if all do, else auto."""
        profile = self.params and self.params.active
        asked = {block.device for step in STEPS if (block := getattr(profile, step, None))}
        return "gpu" if "gpu" in asked else "cpu" if asked == {"cpu"} else "auto"

    def with_device(self, device: str) -> str:
        """Return the edit of params.yaml that gives all steps another device."""
        assert self.params is not None
        return f"edit params.yaml: write device: {device} in the profile {self.params.profile}'s {', '.join(STEPS)}"


def size(count: float) -> str:
    """Return so many bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"


def standing(path: Path) -> Path:
    """Return the nearest folder above `path`, or itself, that is there."""
    path = Path(os.path.abspath(path))
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def quoted(path: Path | str) -> str:
    """Return a path as a shell wants it."""
    return shlex.quote(str(path))


def restored(path: Path) -> str:
    """Return the command after which `path` is as committed: the way to the repository's root, from below it."""
    root = next((folder for folder in Path().absolute().parents if (folder / PARAMS).exists()), None)
    return f"cd {quoted(root)}" if root and not PARAMS.exists() else f"git checkout HEAD -- {path}"
