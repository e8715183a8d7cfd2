"""Stage fingerprint: the state of the source, on which prepare depends, so that a changed source is noticed."""

from __future__ import annotations

from pipeline.datasets.sources import seen_from_outside
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet
from pipeline.system.atomic_files import write_json


def main(params: Params, data_set: DataSet = CLASSIFICATION) -> None:
    """Write the current fingerprint of the source."""
    write_json(data_set.fingerprint, seen_from_outside(params))
