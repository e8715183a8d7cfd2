"""Everything that a report is rendered from: a profile's JSON and CSV files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.experiment.grid import TITLES
from pipeline.experiment.paths import CLASSIFICATION, results, table

NO_DATA = ("table1", "table2")  # tables of the nets alone, without images


class Results:
    """The results of a profile on disk that were made from the images that are prepared now."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.facts = _json(CLASSIFICATION.facts(profile))
        self.others: list[str] = []  # tables, runs and scores of other images
        folder = results(profile)
        self.tables = self._of_current_images({name: table(profile, name) for name in TITLES}, "manifest")
        self.summaries = self._of_current_images(
            {path.stem: path for path in sorted((folder / "runs").glob("*.json"))}, "data"
        )
        scores = self._of_current_images(
            {path.stem: path for path in sorted((folder / "scores").glob("*.json"))}, "data"
        )
        self.scores = list(scores.values())
        histories = ((run, folder / "runs" / f"{run}.csv") for run in self.summaries)
        self.histories = {run: pd.read_csv(path) for run, path in histories if path.exists()}

    def _of_current_images(self, paths: dict[str, Path], key: str) -> dict[str, Any]:
        """Return the contents of the JSON files that exist at `paths`, by name, without those of other images.

        Each file's `key` says which images it was made from; the names of the skipped ones are added to `others`.
        """
        contents = {name: values for name, path in paths.items() if (values := _json(path))}
        current = self.facts["manifest"] if self.facts else "nothing is prepared"
        others = [name for name, values in contents.items() if name not in NO_DATA and current != values.get(key)]
        self.others += others
        return {name: values for name, values in contents.items() if name not in others}


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
