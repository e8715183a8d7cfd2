"""Everything that a report is rendered from: a profile's JSON and CSV on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.experiment.grid import TITLES
from pipeline.experiment.paths import CLASSIFICATION, results, table

NO_DATA = ("table1", "table2")  # of the nets alone


class Results:
    """Everything on disk that is known of a profile and was made from the images that are prepared now."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.facts = _json(CLASSIFICATION.facts(profile))
        self.others: list[str] = []  # tables, runs and scores of other images
        folder = results(profile)
        self.tables = self._of_these({name: table(profile, name) for name in TITLES}, "manifest")
        self.summaries = self._of_these({path.stem: path for path in sorted((folder / "runs").glob("*.json"))}, "data")
        scores = self._of_these({path.stem: path for path in sorted((folder / "scores").glob("*.json"))}, "data")
        self.scores = list(scores.values())
        histories = ((run, folder / "runs" / f"{run}.csv") for run in self.summaries)
        self.histories = {run: pd.read_csv(path) for run, path in histories if path.exists()}

    def _of_these(self, paths: dict[str, Path], key: str) -> dict[str, Any]:
        """The JSON at those `paths` that have it, without what its `key` says is of other images."""
        found = {name: values for name, path in paths.items() if (values := _json(path))}
        these = self.facts["manifest"] if self.facts else "nothing is prepared"
        others = [name for name, one in found.items() if name not in NO_DATA and these != one.get(key)]
        self.others += others
        return {name: values for name, values in found.items() if name not in others}


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
