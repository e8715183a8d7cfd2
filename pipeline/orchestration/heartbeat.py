"""How far a run is while it trains: a small file in its checkpoint's folder, for whoever wants to know."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.facts import Statistics
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import all_checkpoints, checkpoints_root, weights
from pipeline.system.atomic_files import digest, json_text, partial_of, read_json, sha256, sweep
from pipeline.system.locks import holder

NAME = "progress.json"
LOCK = "lock"
SILENT = 60.0  # seconds without a word after which a run on another machine is not taken to train


@dataclass(frozen=True)
class Running:
    """A run that trains, or that has stopped and can go on."""

    run: str
    asked: str  # a hash of the parameters that it trains by
    step: int
    steps: int  # of an epoch
    epochs: int  # at the most
    loss: float | None  # mean of this epoch so far
    top1: float | None  # validation error in per cent after the last whole epoch, centre crop
    left: float | None  # seconds to the last epoch, at the present rate
    process: int
    machine: str
    said: float  # when, in seconds since 1970

    @property
    def epoch(self) -> int:
        """Whole epochs that are behind it."""
        return self.step // self.steps


def asked(params: Params, run: str) -> str:
    """A hash of the parameters that a run trains by; the images and the weights it begins from are not in it."""
    profile, row = params.active, params.runs[run]
    blocks = [block.model_dump(mode="json") for block in (row, profile.net, profile.recipes[row.recipe])]
    return digest([*blocks, profile.training.shaping, params.method.train])


def identity(params: Params, run: str, statistics: Statistics) -> str:
    """Return a hash of everything that shapes a run: another one has another checkpoint."""
    init = weights(params.runs[run].init)
    return digest([asked(params, run), statistics.as_dict(), sha256(init) if init.exists() else None])


class OldCheckpoint(NamedTuple):
    """A checkpoint that no run goes on from with the present parameters and data."""

    run: str
    folder: Path
    size: int  # bytes


def old_checkpoints(going_on: Mapping[str, Path | None]) -> list[OldCheckpoint]:
    """Find the checkpoints that nobody trains on, and whose run does not go on from them.

    `going_on` has the folder that each run goes on from, or None where that is not known.
    """
    return [
        OldCheckpoint(run, folder, _bytes(folder))
        for run, folder in all_checkpoints()
        if (run not in going_on or going_on[run] not in (None, folder)) and holder(folder / LOCK) is None
    ]


def _bytes(folder: Path) -> int:
    """Add up the files in a folder, which may be removed meanwhile."""
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def tell(folder: Path, running: Running) -> None:
    """Write how far a run is; nothing happens where that cannot be written, for training matters more."""
    partial = partial_of(folder / NAME)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder / NAME)
        partial.write_text(json_text(asdict(running)))
        partial.replace(folder / NAME)  # whole for readers; whether the disk has it is no matter
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def here() -> tuple[int, str, float]:
    """This process, its machine, and now."""
    return os.getpid(), platform.node(), time.time()


def all_running(params: Params, old: Container[Path] = ()) -> Iterator[tuple[Running, bool]]:
    """Each run of `params` that has begun and is not finished, and whether it trains just now.

    Checkpoints' folders that are `old` are passed over.
    """
    newest: dict[str, tuple[Running, bool]] = {}
    for path in checkpoints_root().glob(f"*/{NAME}"):
        try:
            found = Running(**read_json(path, ""))
        except (Failure, TypeError, OSError):  # it is being removed, or is of another version
            continue
        if path.parent not in old and found.run in params.runs and found.asked == asked(params, found.run):
            alive = holder(path.parent / LOCK) is not None
            if found.machine != platform.node():  # locks do not always reach from one machine to another
                alive = alive or time.time() - found.said < SILENT
            if found.run not in newest or newest[found.run][0].said < found.said:
                newest[found.run] = found, alive
    yield from newest.values()
