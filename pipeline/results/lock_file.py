"""DVC's record of how results were made: the parameters and inputs that dvc.lock has of a stage, or git's copy.

dvc.lock has one profile's stages, those of the active one. So a report keeps what it has of the runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import Failure
from pipeline.experiment.paths import LOCKFILE, PARAMS, WEIGHTS, kept_records
from pipeline.system.atomic_files import write_json
from pipeline.system.checkout import BrokenCheckout, conflict
from pipeline.system.yaml_text import parse_yaml

Record = Mapping[str, Any]  # of a stage: parameters, inputs and outputs
Records = Mapping[str, Record]  # by stage
KEPT = re.compile(r"(extra-)?(random|train)@")  # the stages whose records a report keeps


class LockFile:
    """The stages in dvc.lock, and of stages of the profile that it lacks, the records that its report has kept.

    Raise Failure if a file is broken.
    """

    def __init__(self, profile: str) -> None:
        locked = _locked()
        kept = {stage: record for stage, record in _kept(profile).items() if not _is_of(profile, locked.get(stage, {}))}
        self.stages: Records = {**locked, **kept}

    def made(self, stage: str, out: Path, result: Path) -> bool:
        """Return True if the record of `stage` is of the file `result`: its output `out`, or a copy of it."""
        recorded = self._hash(stage, "outs", out)
        return bool(recorded) and result.exists() and hashlib.md5(result.read_bytes()).hexdigest() == recorded

    def values(self, stage: str) -> dict[str, Any]:
        """Return the parameters of a stage, without `profiles.NAME.`; an empty dict if it is not recorded."""
        recorded = self.stages.get(stage, {}).get("params", {}).get(str(PARAMS), {})
        return {key.split(".", 2)[2] if key.startswith("profiles.") else key: value for key, value in recorded.items()}

    def passed_on(self, maker: str, user: str, path: Path) -> bool | None:
        """Return whether the stage `user` read the file that `maker` has written; None if one is not recorded."""
        written, read = self._hash(maker, "outs", path), self._hash(user, "deps", path)
        return written == read if written and read else None

    def _hash(self, stage: str, kind: str, path: Path) -> str:
        files = self.stages.get(stage, {}).get(kind, ())
        return next((str(file.get("md5", "")) for file in files if file["path"] == str(path)), "")


def keep_records(profile: str) -> None:
    """Copy what dvc.lock has of a profile's runs to where its report keeps it; nothing if it has none of them."""
    own = {
        stage: {"params": record["params"], "deps": _hashes(record, "deps"), "outs": _hashes(record, "outs")}
        for stage, record in _locked().items()
        if KEPT.match(stage) and _is_of(profile, record)
    }
    if own:
        write_json(kept_records(profile), {**_kept(profile), **own})


def _hashes(record: Record, kind: str) -> list[dict[str, str]]:
    """Return the weights, histories and summaries among a record's files, each with its path and hash alone."""
    files = record.get(kind, ())
    return [{"path": file["path"], "md5": file["md5"]} for file in files if file["path"].startswith(f"{WEIGHTS}/")]


def _is_of(profile: str, record: Record) -> bool:
    """Return True if a stage was run with parameters of the profile."""
    return any(key.startswith(f"profiles.{profile}.") for key in record.get("params", {}).get(str(PARAMS), {}))


def _locked() -> Records:
    if (problem := conflict(LOCKFILE)) is not None:
        raise BrokenCheckout(problem)
    try:
        return _stages(LOCKFILE.read_text()) if LOCKFILE.exists() else {}
    except (ValueError, AttributeError) as reason:
        raise Failure(
            f"{LOCKFILE} cannot be read ({reason}); if DVC is writing it, try again, else: git checkout {LOCKFILE}"
        ) from None


@lru_cache(1)
def _stages(text: str) -> Records:
    """Return the stages in the text of dvc.lock, which takes a second to parse where there are many."""
    stages: Records = (parse_yaml(text) or {}).get("stages", {})
    return stages


def _kept(profile: str) -> Records:
    """Return the records that git keeps; none if there is no file, or a damaged one, which `report` writes anew."""
    try:
        records: Records = json.loads(kept_records(profile).read_text())
    except (OSError, ValueError):
        return {}
    return records
