"""Where everything lies, each path once, relative to the repository's root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARAMS = Path("params.yaml")
REPORTS = Path("reports")
WEIGHTS = Path("weights")
KEY = 12  # digits of a run's key in the name of its checkpoint's folder
PRINTED = Path(__file__).parent / "printed"  # the paper's tables as CSV


@dataclass(frozen=True)
class DataSet:
    """Where a prepared data set of this name is."""

    name: str

    @property
    def folder(self) -> Path:
        """Return the folder of all but the shards and the facts."""
        return Path("data") / self.name

    @property
    def fingerprint(self) -> Path:
        """Return what the source looks like from outside."""
        return self.folder / "fingerprint.json"

    @property
    def manifest(self) -> Path:
        """Return the table of all images: split, id, class, size as stored, hash of the source's bytes."""
        return self.folder / "manifest.csv"

    @property
    def statistics(self) -> Path:
        """Return what training and scoring depend on: counts, colours, the manifest's hash."""
        return self.folder / "statistics.json"

    @property
    def shards_record(self) -> Path:
        """Return the file with the name of the shards' folder, and a hash of what was asked for."""
        return self.folder / "shards.txt"

    @property
    def left_out(self) -> Path:
        """Return the table of what had been left out when there was too much of it."""
        return self.folder / "left-out.csv"

    @property
    def shards(self) -> Path:
        """Return the folder of the shards. It is no part of what the data set is, and no training depends on it."""
        record = self.shards_record
        return shards_root() / (record.read_text().split()[0] if record.exists() else "none")

    def facts(self, profile: str) -> Path:
        """Return what prepare found out about it, for people."""
        return results(profile) / "data" / f"{self.name}.json"


CLASSIFICATION = DataSet("classification")  # what the networks are trained and scored on


def shards_root() -> Path:
    """The folder of all prepared data sets; VGG_REPRO_SHARDS moves it, so that several clones may share it."""
    return Path(os.environ.get("VGG_REPRO_SHARDS", "data/shards"))


def checkpoints(run: str, key: str) -> Path:
    """The folder of a run's resumable state; unknown to DVC, which would delete it before it starts the run again."""
    return checkpoints_root() / f"{run}-{key[:KEY]}"


def all_checkpoints() -> Iterator[tuple[str, Path]]:
    """Find every folder of a resumable state, with the name of its run."""
    for folder in sorted(checkpoints_root().glob("*/")):
        if named := re.fullmatch(f"(.+)-[0-9a-f]{{{KEY}}}", folder.name):
            yield named[1], folder


def checkpoints_root() -> Path:
    """The folder of all runs' resumable states."""
    return Path("checkpoints")


def weights(name: str, origin: str = "trained") -> Path:
    """A run's finished weights, trained here (those of random-NET among them) or published."""
    return WEIGHTS / origin / f"{name}.pt"


def record(name: str) -> Path:
    """What is known of a run's published weights: their file, its hash, their input."""
    return weights(name, "published").with_suffix(".json")


def posteriors(run: str, mode: str) -> Path:
    """A run's class posteriors in one mode."""
    return Path("scores") / f"{mode}-{run}.npz"


def results(profile: str) -> Path:
    """The folder of everything that is shown of a profile."""
    return REPORTS / profile


def summary(profile: str, run: str) -> Path:
    """What a run's training came to."""
    return results(profile) / "runs" / f"{run}.json"


def history(profile: str, run: str) -> Path:
    """A run's training, a row an epoch."""
    return results(profile) / "runs" / f"{run}.csv"


def errors(profile: str, run: str, mode: str) -> Path:
    """A run's errors in one mode."""
    return results(profile) / "scores" / f"{mode}-{run}.json"


def table(profile: str, name: str) -> Path:
    """A computed table: table1 ... table7, shallow."""
    return results(profile) / f"{name}.json"
