"""Everything that a report is rendered from: a profile's JSON and CSV files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.datasets.facts import PREPARE
from pipeline.experiment.paper_tables import NO_DATA, TITLES
from pipeline.experiment.paths import CLASSIFICATION, results, table
from pipeline.system.atomic_files import read_json


class Results:
    """The results of a profile on disk that were made from the images that are prepared now."""

    def __init__(self, profile: str) -> None:
        import pandas as pd

        self.profile = profile
        self.facts = _json(CLASSIFICATION.facts(profile), PREPARE)
        self.others: list[str] = []  # tables, runs and scores of other images
        folder = results(profile)
        tables = {name: table(profile, name) for name in TITLES}
        self.tables = self._of_current_images(tables, "manifest", str)
        self.summaries = self._of_current_images(_stems(folder / "runs"), "data", "train@{}".format)
        scores = self._of_current_images(_stems(folder / "scores"), "data", _score_stage)
        self.scores = list(scores.values())
        histories = ((run, folder / "runs" / f"{run}.csv") for run in self.summaries)
        self.histories = {run: pd.read_csv(path) for run, path in histories if path.exists()}

    @property
    def seconds(self) -> dict[str, float]:
        """Return the seconds that training and scoring took, added up over the runs."""
        groups = {"training": self.summaries.values(), "scoring": self.scores}
        return {what: sum(record["provenance"]["seconds"] for record in group) for what, group in groups.items()}

    def _of_current_images(self, paths: dict[str, Path], key: str, stage: Callable[[str], str]) -> dict[str, Any]:
        """Return the contents of the JSON files that exist at `paths`, by name, without those of other images.

        Each file's `key` says which images it was made from; the names of the skipped ones are added to `others`.
        `stage` turns a name into the DVC stage that makes the file. Raise Failure, naming it, if a file is broken.
        """
        contents = {name: values for name, path in paths.items() if (values := _json(path, f"dvc repro {stage(name)}"))}
        current = self.facts["manifest"] if self.facts else "nothing is prepared"
        others = [name for name, values in contents.items() if name not in NO_DATA and current != values.get(key)]
        self.others += others
        return {name: values for name, values in contents.items() if name not in others}


def _score_stage(name: str) -> str:
    """Return the stage of a score's file: dense@D-384 of dense-D-384."""
    return name.replace("-", "@", 1)


def _stems(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _json(path: Path, make: str) -> Any:
    return read_json(path, make) if path.exists() else None
