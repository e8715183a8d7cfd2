"""DVC's record of how results were made: the parameters and inputs that dvc.lock has of a stage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import Failure
from pipeline.experiment.paths import LOCKFILE, PARAMS
from pipeline.system.checkout import BrokenCheckout, conflict
from pipeline.system.yaml_text import parse_yaml


class LockFile:
    """The stages in dvc.lock; none if there is no such file. Raise Failure if it is broken."""

    def __init__(self) -> None:
        if (problem := conflict(LOCKFILE)) is not None:
            raise BrokenCheckout(problem)
        try:
            values = parse_yaml(LOCKFILE.read_text()) if LOCKFILE.exists() else {}
            self.stages: Mapping[str, Any] = (values or {}).get("stages", {})
        except (ValueError, AttributeError) as reason:
            raise Failure(
                f"{LOCKFILE} cannot be read ({reason}); if DVC is writing it, try again, else: git checkout {LOCKFILE}"
            ) from None

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
