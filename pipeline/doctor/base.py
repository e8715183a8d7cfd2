"""The result of a check, and the context that the checks share."""

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
from pipeline.system.decoders import constraints, installed_extra

EXTRA = installed_extra()
VERSIONS = f"--constraint {constraints()} --editable '.[dev{EXTRA and ',' + EXTRA}]'"
INSTALL = f"pip install {VERSIONS}"
INSTALL_ANEW = f"pip install --force-reinstall {VERSIONS}"
INSTALL_DALI = "pip install --constraint constraints.txt --editable '.[dev,cuda13]'"
GIB = 2**30
STEPS = ("prepare", "train", "score")  # blocks of a profile that name a device


class Finding(NamedTuple):
    """The result of a check of one thing."""

    what: str
    state: Literal["ok", "warning", "failure"]
    says: str
    fix: str = ""  # the command, or the edit of params.yaml, that helps; every failure has one


@dataclass
class DoctorContext:
    """The context of the checks: the parameters, if they are valid, and the answer of torch's own process."""

    params: Params | None

    @cached_property
    def torch(self) -> dict[str, Any]:
        """Return the answer of torch's process; if there is none, the key `died` says why."""
        return probe("torch")

    @property
    def device(self) -> str:
        """Return which device the steps ask for: gpu if one of them does, cpu if all do, else auto."""
        profile = self.params and self.params.active
        asked = {block.device for step in STEPS if (block := getattr(profile, step, None))}
        return "gpu" if "gpu" in asked else "cpu" if asked == {"cpu"} else "auto"

    @property
    def full_size(self) -> bool:
        """Return True if the active profile's nets are as large as the paper's."""
        return self.params is not None and self.params.active.net.full_size

    @property
    def decoder(self) -> str:
        """Return the decoder that the parameters ask for."""
        return self.params.decoder if self.params else "auto"

    def without_gpu(self) -> str:
        """Return the edit of params.yaml after which no step needs a GPU."""
        assert self.params is not None
        where = f"profile {self.params.profile}"
        return f"edit params.yaml: set device: cpu in prepare and device: auto in train and score of {where}"


def size(count: float) -> str:
    """Return a number of bytes as text for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"


def standing(path: Path) -> Path:
    """Return the nearest existing folder: `path` itself, or one above it."""
    path = Path(os.path.abspath(path))
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def quoted(path: Path | str) -> str:
    """Return a path, quoted for a shell."""
    return shlex.quote(str(path))


def restore_command(path: Path) -> str:
    """Return the command that restores `path` as committed or, below the repository's root, that goes there."""
    root = next((folder for folder in Path().absolute().parents if (folder / PARAMS).exists()), None)
    return f"cd {quoted(root)}" if root and not PARAMS.exists() else f"git checkout HEAD -- {path}"
