"""The files by which a stage's job and the process that follows it speak: one folder per stage, on the shared disk."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import Failure
from pipeline.experiment.paths import checkpoints_root
from pipeline.system.atomic_files import copy, write_json, write_text

IN_JOB = "VGG_REPRO_JOB"  # in a job: its folder
LOCAL = "VGG_REPRO_LOCAL"  # in a job: the folder on the node's own disk for copies of the shards
WORKS = "works"  # written when the work begins
TIMES = ("began", "before", "last", WORKS)  # empty files, whose times say when a job was started; see the script
VISIBLE = 120.0  # seconds in which a network file system shows a file that another machine has written
LOOK = 1.0


@dataclass(frozen=True)
class Asked:
    """What a job is asked for."""

    key: str = ""  # hash of everything that shapes the results
    outputs: Sequence[str] = ()  # paths of the results
    parameters: Mapping[str, Any] = field(default_factory=dict)  # by their keys in params.yaml
    settings: Mapping[str, Any] = field(default_factory=dict)  # of slurm.yaml


@dataclass(frozen=True)
class JobFolder:
    """The folder of a stage's latest job. The files are small, except the log and the links to results."""

    path: Path

    @property
    def script(self) -> Path:
        """Return the job's script."""
        return self.path / "script"

    @property
    def log(self) -> Path:
        """Return what the job and the script have printed."""
        return self.path / "log"

    @property
    def lock(self) -> Path:
        """Return the lock of the process that follows the job."""
        return self.path / "lock"

    @property
    def asked(self) -> Asked:
        """Return what the latest job is asked for; nothing if none was submitted."""
        return Asked(**self._json("asked.json"))

    @property
    def key(self) -> str:
        """Return the hash of everything that shapes the result; an empty string if nothing was submitted."""
        return self.asked.key

    @property
    def outputs(self) -> list[Path]:
        """Return the paths of the stage's results."""
        return list(map(Path, self.asked.outputs))

    @property
    def number(self) -> str:
        """Return the job's number; an empty string if there is none."""
        return self._read("number")

    @property
    def code(self) -> int | None:
        """Return the exit code that the job's script has left; None while it has left none."""
        text = self._read("code")
        return int(text) if text else None

    def begin(self, asked: Asked) -> None:
        """Remove what belongs to an earlier job, and record what the next one is asked for."""
        for name in ("code", "stop", "number", "log", "starts", "lengths.json", *TIMES):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self._kept, ignore_errors=True)
        write_json(self.path / "asked.json", asdict(asked))

    def record(self, number: str) -> None:
        """Record the number of the submitted job."""
        write_text(self.path / "number", number)

    @property
    def is_stopped(self) -> bool:
        """Return True if somebody has asked the job to stop."""
        return (self.path / "stop").exists()

    def ask_to_stop(self) -> None:
        """Keep the job from running again. Its work has to be told too."""
        (self.path / "stop").touch()

    def note_work(self) -> None:
        """Record that the work itself begins now."""
        (self.path / WORKS).touch()

    @property
    def last_start(self) -> float:
        """Return for how many seconds the job ran the last time that it was started; 0 if it was not."""
        return self._until_last("before")

    @property
    def last_work(self) -> float:
        """Return for how many of these seconds the work itself ran."""
        return self._until_last(WORKS)

    def _until_last(self, since: str) -> float:
        """Return the seconds between the writing of a file and the last sign of life of the start before this one."""
        try:
            return max(0.0, (self.path / "last").stat().st_mtime - (self.path / since).stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def note_start(self, mark: str, counts: bool) -> bool:
        """Record how far the work is as the job starts. Return False if two starts before this one were as far.

        The start before this one is forgotten unless it `counts`.
        """
        starts = self._read("starts").splitlines()
        if not counts and starts[-1:] == [mark]:
            del starts[-1]
        write_text(self.path / "starts", "".join(f"{start}\n" for start in [*starts, mark]))
        return starts[-2:] != [mark, mark]

    def keep(self) -> None:
        """Keep a second link to each result, as DVC deletes the results of a stage that it runs again."""
        if self._kept.exists():
            return
        partial = self._kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for path in self.outputs:
            _link(path, partial / path)
        write_json(self.path / "lengths.json", {str(path): path.stat().st_size for path in self.outputs})
        partial.rename(self._kept)

    def keeps_any(self) -> bool:
        """Return True if results are kept, whatever they were made for."""
        return self._kept.exists()

    def has_kept(self, key: str) -> bool:
        """Return True if the results of a job with this key are kept, so that nobody has taken them over."""
        return self.key == key and self.keeps_any()

    def put_back(self) -> None:
        """Put the kept results in their places."""
        for path in self.outputs:
            _link(self._kept / path, path)

    def wait_for_results(self) -> None:
        """Wait until this machine sees the results as the job wrote them, then drop the links to them.

        Raise Failure if it does not see them in time.
        """
        lengths: dict[str, int] = self._json("lengths.json")
        end = time.monotonic() + VISIBLE
        while wrong := [path for path, length in lengths.items() if _length(Path(path)) != length]:
            if time.monotonic() > end:
                raise Failure(f"{wrong[0]} is not as the job wrote it: is this clone on the disk that the nodes share?")
            time.sleep(LOOK)
        shutil.rmtree(self._kept, ignore_errors=True)

    @property
    def _kept(self) -> Path:
        return self.path / "kept"

    def _json(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._read(name) or "{}")
        return values

    def _read(self, name: str) -> str:
        """Return a file's text without the space around it; an empty string if there is no such file."""
        with suppress(FileNotFoundError):
            return (self.path / name).read_text().strip()
        return ""


def job_folder(stage: str) -> JobFolder:
    """Return the folder of a stage's job."""
    return JobFolder(jobs_root() / stage)


def jobs_root() -> Path:
    """Return the folder of the jobs of all stages."""
    return checkpoints_root() / "jobs"


def this_job() -> JobFolder | None:
    """Return the folder of the job that this process is part of; None outside a job."""
    path = os.environ.get(IN_JOB)
    return JobFolder(Path(path)) if path else None


def keep_results() -> None:
    """In a job, keep the stage's results until they are taken over. Elsewhere do nothing."""
    if folder := this_job():
        folder.keep()


def _link(origin: Path, target: Path) -> None:
    """Link a file at another path, or copy it where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(origin, target)
    except OSError:
        copy(origin, target)


def _length(path: Path) -> int:
    """Return the length of a file as opening it shows it, which asks a network file system; -1 if it is not there."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError:
        return -1
