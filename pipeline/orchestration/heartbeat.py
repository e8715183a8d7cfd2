"""The progress of a run while it trains: a small file in its checkpoint's folder, for any reader."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets.facts import Statistics
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, all_checkpoints, checkpoints_root, summary, weights
from pipeline.system.atomic_files import digest, json_text, partial_of, read_json, sha256, sweep
from pipeline.system.decoders import DALI
from pipeline.system.locks import holder
from vgg.stalling import did_not_learn

NAME = "progress.json"
LOCK = "lock"
SILENT = 60.0  # seconds without an update after which a run on another machine no longer counts as training


@dataclass(frozen=True)
class Running:
    """A run that is training, or that has stopped and can be resumed."""

    run: str
    asked: str  # hash of the parameters that it trains with
    step: int
    steps: int  # per epoch
    epochs: int  # at most
    loss: float | None  # mean of this epoch so far
    top1: float | None  # validation error in per cent after the last whole epoch, centre crop
    left: float | None  # seconds until the end of the last epoch, at the present rate
    process: int
    machine: str
    said: float  # time of this update, in seconds since 1970
    at_chance: int = 0  # latest epochs in a row with the loss of a guess; older records lack it
    decoder: str = DALI  # of its images; older records lack it

    @property
    def epoch(self) -> int:
        """Return the number of completed epochs."""
        return self.step // self.steps


def asked(params: Params, run: str) -> str:
    """Return a hash of the parameters that a run trains with, without its images and its initial weights."""
    params = params.for_run(run)
    profile, row = params.active, params.runs[run]
    blocks = [block.model_dump(mode="json") for block in (row, profile.net, profile.recipes[row.recipe])]
    return digest([*blocks, profile.training.shaping, params.method.train, *_localising(params, run)])


def _localising(params: Params, run: str) -> list[Any]:
    """Return what else a localiser trains with; nothing for other runs."""
    if run not in params.localisers:
        return []
    choices = params.active.localising
    return [params.localisers[run].boxes, choices.min_visible, choices.above, params.method.localise]


def identity(params: Params, run: str, statistics: Statistics) -> str:
    """Return a hash of everything that shapes a run; a different hash has a different checkpoint."""
    init = weights(params.all_trained[run].init)
    boxes = [sha256(CLASSIFICATION.boxes)] if run in params.localisers and CLASSIFICATION.boxes.exists() else []
    return digest([asked(params, run), statistics.as_dict(), sha256(init) if init.exists() else None, *boxes])


def stalled_run(run: str) -> bool:
    """Return True if the summary of `run` says that its net did not learn; random weights have none."""
    path = summary(run)
    return path.exists() and did_not_learn(read_json(path, f"vgg-repro train {run}"))


class OldCheckpoint(NamedTuple):
    """A checkpoint that no run resumes with the present parameters and data."""

    run: str
    folder: Path
    size: int  # bytes
    decoder: str  # of its images


def old_checkpoints(going_on: Mapping[str, Path | None]) -> list[OldCheckpoint]:
    """Return the checkpoints that no process is training on and that their runs do not resume.

    `going_on` has the folder that each run resumes from, or None if that is unknown.
    """
    return [
        OldCheckpoint(run, folder, _bytes(folder), _decoder(folder))
        for run, folder in all_checkpoints()
        if (run not in going_on or going_on[run] not in (None, folder)) and holder(folder / LOCK) is None
    ]


def _decoder(folder: Path) -> str:
    """Return the decoder of a checkpoint's images: DALI if nothing is recorded."""
    try:
        return Running(**read_json(folder / NAME, "")).decoder
    except (Failure, TypeError, OSError):
        return DALI


def _bytes(folder: Path) -> int:
    """Return the total size of the files in a folder, which may be removed meanwhile."""
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def tell(folder: Path, running: Running) -> None:
    """Write how far a run is; ignore an OSError, because training matters more."""
    partial = partial_of(folder / NAME)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder / NAME)
        partial.write_text(json_text(asdict(running)))
        partial.replace(folder / NAME)  # readers see a complete file; it need not have reached the disk
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def here() -> tuple[int, str, float]:
    """Return the id of this process, the name of its machine, and the time in seconds since 1970."""
    return os.getpid(), platform.node(), time.time()


def all_running(params: Params, old: Container[Path] = ()) -> Iterator[tuple[Running, bool]]:
    """Yield each run of `params` that has begun and is not finished, and whether it is training now.

    Skip the checkpoint folders in `old`.
    """
    newest: dict[str, tuple[Running, bool]] = {}
    for path in checkpoints_root().glob(f"*/{NAME}"):
        try:
            running = Running(**read_json(path, ""))
        except (Failure, TypeError, OSError):  # it is being removed, or another version wrote it
            continue
        if path.parent not in old and running.run in params.all_trained and running.asked == asked(params, running.run):
            alive = holder(path.parent / LOCK) is not None
            if running.machine != platform.node():  # a lock is not always visible from another machine
                alive = alive or time.time() - running.said < SILENT
            if running.run not in newest or newest[running.run][0].said < running.said:
                newest[running.run] = running, alive
    yield from newest.values()
