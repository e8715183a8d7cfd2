"""Stage aggregation: SVMs on a data set's descriptors, aggregated over Q as its table does not have them (appendix B).

Descriptors are averaged or stacked; which is better is a claim. Both are arithmetic on the kept features.
"""

from __future__ import annotations

import time

from pipeline.experiment.other_sets import SINGLE_NETS, aggregation_stage, other_aggregation
from pipeline.experiment.params import Params
from pipeline.experiment.paths import otherwise_classified
from pipeline.results.provenance import record_provenance
from stages.svm import classify, print_measures


def main(params: Params, name: str) -> None:
    """Train and test the SVMs of data set `name` on the other aggregation of each net's descriptors."""
    row, stage = params.datasets[name], aggregation_stage(name)
    other = row.model_copy(update={"aggregate": other_aggregation(row.aggregate)})
    otherwise = params.model_copy(update={"datasets": {**params.datasets, name: other}})
    for system in SINGLE_NETS:
        started, path = time.monotonic(), otherwise_classified(row.table, name, system)
        results = classify(otherwise, name, system, path)
        print_measures(f"{stage}, {system}, {other.aggregate}", results)
    record_provenance(stage, path.with_suffix(".json"), "cpu", 1, time.monotonic() - started)
