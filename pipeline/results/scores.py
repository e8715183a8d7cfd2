"""The posteriors on disk, and their mean over runs, modes and test scales (section 4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import Facts
from pipeline.errors import Failure
from pipeline.experiment.modes import scales_of
from pipeline.experiment.paper_tables import TableRow
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, errors, posteriors, summary
from pipeline.experiment.run_names import score_stage, seeded
from pipeline.experiment.server_sets import ServerScore
from pipeline.experiment.targets import scored
from pipeline.results.array_file import arrays_in
from pipeline.system.atomic_files import read_json


class Scores:
    """The posteriors on disk of the images that `facts` describes. One array at a time is in memory.

    With a `seed` of the profile, a run of the grid stands for its repetition with that seed. They are of the validation
    images, or of those of a `data_set` without labels.
    """

    def __init__(
        self, params: Params, facts: Facts, seed: int | None = None, data_set: DataSet = CLASSIFICATION
    ) -> None:
        self.params, self.facts, self.seed, self.data_set = params, facts, seed, data_set
        self.possible = set(scored(params))  # those whose weights exist or can be made
        self.published: dict[str, Any] = {}  # the runs with published weights read so far, to their records
        self.read: dict[tuple[str, str], str] = {}  # run and mode of the files read so far, to their weights' hashes

    def of_seed(self, run: str) -> str:
        """Return the run that is read for `run`: itself, or its repetition with this object's seed."""
        train = self.params.active.train
        if self.seed is None or train is None or self.seed == train.seed:
            return run
        return seeded(run, self.seed)

    def has(self, run: str, mode: str) -> bool:
        """Return True if this profile's run has been scored in this mode on exactly these images."""
        run = self.of_seed(run)
        record = self._record(run, mode)
        if not record or not posteriors(run, mode, self.data_set).exists():
            return False
        published = self.params.weights == "published"
        asked = (self.params.profile, self.facts.manifest, published)
        return (record.get("profile"), record["data"], "published" in record) == asked

    def _record(self, run: str, mode: str) -> Any:
        try:
            return json.loads(errors(run, mode, self.data_set).read_text())
        except (OSError, ValueError):
            return None

    def array(self, run: str, mode: str, name: str) -> NDArray[Any]:
        """Return a score file's `labels` (images,) or posteriors (images, K) at a Q. Raise Failure if it is broken."""
        run = self.of_seed(run)
        path = posteriors(run, mode, self.data_set)
        with arrays_in(path, self.make(run, mode)) as arrays:
            self.read[run, mode] = str(arrays["weights"])
            values: NDArray[Any] = arrays[name]
        if record := (self._record(run, mode) or {}).get("published"):
            self.published[run] = record
        return values

    def make(self, run: str, mode: str) -> str:
        """Return how to make a score file, for messages."""
        if self.data_set != CLASSIFICATION:
            return f"make it with: dvc repro {ServerScore(self.data_set.name, run, mode).stage}"
        return f"make it with: vgg-repro score {mode} {run}"

    def weights(self) -> dict[str, str]:
        """Return the runs read so far, each with the hash of the scored weights."""
        return {run: weights for (run, _), weights in sorted(self.read.items())}

    def hashes(self) -> dict[str, str]:
        """Return the stages of the scores read so far, each with the hash of its posteriors."""
        read = ((key, self._record(*key) or {}) for key in sorted(self.read))
        return {score_stage(*key): record["posteriors_sha256"] for key, record in read}

    def centre_crop(self, run: str) -> float | None:
        """Return the top-1 error at a centre crop, at the single Q, of a run read so far; None if it is unknown."""
        run = self.of_seed(run)
        record = self._training(run, self.weights().get(run, ""))
        return record["centre_crop"]["top1"] if record else None

    def precisions(self) -> dict[str, list[str]]:
        """Return the known precisions that the nets read so far were trained and scored in."""
        records = [self._record(*key) or {} for key in self.read]
        scoring = {record["precision"] for record in records if "precision" in record}
        return {"training": sorted(set(self._trained_in())), "scoring": sorted(scoring)}

    def _trained_in(self) -> Iterator[str]:
        records = (self._training(*scored) for scored in self.weights().items())
        yield from (record["precision"] for record in records if "precision" in record)

    def _training(self, run: str, weights: str) -> dict[str, Any]:
        """Return the summary of the training that made these weights; an empty dict if it is not here."""
        path = summary(run)
        record: dict[str, Any] = read_json(path, f"vgg-repro train {run}") if path.exists() else {}
        return record if record.get("weights_sha256") == weights else {}


def average(row: TableRow, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a row's mean posteriors (images, K) as `mean_posteriors`, and the labels (images,)."""
    return mean_posteriors(row, scores), scores.array(row.runs[0], row.modes[0], "labels")


def mean_posteriors(row: TableRow, scores: Scores) -> NDArray[np.float64]:
    """Return a row's mean posteriors (images, K) over its runs, modes and test scales.

    The mean is bit for bit `np.mean` of all arrays as float64, which adds them in the same order. Raise Failure if
    their shapes differ.
    """
    sources = [
        (run, mode, str(scale))
        for run, mode in row.needs()
        for scale in scales_of(scores.params.all_runs[run], mode, row.single)
    ]
    total = scores.array(*sources[0]).astype(np.float64)
    for source in sources[1:]:
        _add(total, scores.array(*source), row)
    total /= len(sources)
    return total


def _add(total: NDArray[np.float64], array: NDArray[Any], row: TableRow) -> None:
    """Add an array to `total` in place, to free it before the next is read. Raise Failure for another shape."""
    if array.shape != total.shape:
        raise Failure(f"the scores of {', '.join(row.runs)} were computed on different images; score them again")
    total += array
