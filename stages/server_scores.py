"""Stages test-dense, test-crops and test-windows: the scores of images whose labels only a server knows."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pipeline.datasets.facts import read_statistics
from pipeline.experiment.modes import WINDOWS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, errors, posteriors, weights
from pipeline.experiment.server_sets import ServerScore
from pipeline.system.atomic_files import sha256
from stages import score, windows


def main(params: Params, asked: ServerScore) -> None:
    """Score a run, or apply a localiser densely, on a data set without labels."""
    if asked.mode == WINDOWS:
        windows.main(params, asked.run, DataSet(asked.data_set))
    else:
        score.main(params, asked.run, asked.mode, DataSet(asked.data_set))


def score_missing(params: Params, scores: Iterable[ServerScore]) -> None:
    """Compute, in order, those of the scores that are not of the current weights and images."""
    for asked in scores:
        if not _is_current(params, asked):
            main(params, asked)


def _is_current(params: Params, asked: ServerScore) -> bool:
    data_set = DataSet(asked.data_set)
    file = weights(asked.run, "trained" if asked.mode == WINDOWS else params.weights)
    try:
        record = json.loads(errors(asked.run, asked.mode, data_set).read_text())
        made = record["profile"], record["data"], record["weights_sha256"], record["posteriors_sha256"]
        now = params.profile, read_statistics(data_set).manifest, sha256(file)
        return made == (*now, sha256(posteriors(asked.run, asked.mode, data_set)))
    except (OSError, ValueError, KeyError):
        return False
