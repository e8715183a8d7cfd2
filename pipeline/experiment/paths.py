"""Where everything lies, each path once, relative to the repository's root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PARAMS = Path("params.yaml")
FINGERPRINT = Path("data/fingerprint.json")  # what the source looks like from outside
MANIFEST = Path("data/manifest.csv")  # every image: split, id, class, size as stored, hash of its source's bytes
STATISTICS = Path("data/statistics.json")  # what training and scoring depend on: counts, colours, the manifest's hash
SHARDS = Path("data/shards.txt")  # the name of the shards' folder under shards_root(), and a hash of what was asked for
LEFT_OUT = Path("data/left-out.csv")  # what had been left out when there was too much of it
REPORTS = Path("reports")
WEIGHTS = Path("weights")
KEY = 12  # digits of a run's key in the name of its checkpoint's folder
PRINTED = Path(__file__).parent / "printed"  # the paper's tables as CSV


def shards() -> Path:
    """The folder of the prepared shards; it is no part of what the data set is, and no training depends on it."""
    return shards_root() / (SHARDS.read_text().split()[0] if SHARDS.exists() else "none")


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


def facts(profile: str) -> Path:
    """What prepare found out about the data set, for people."""
    return results(profile) / "data.json"


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
