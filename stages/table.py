"""Stages table1 ... table12 and shallow: a table's values and ranks, from the available scores."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.facts import read_facts
from pipeline.experiment.paper_tables import NO_DATA, OTHER_SETS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, ranks, table
from pipeline.results.metrics import write_metrics
from pipeline.results.other_sets import compute_other_sets
from pipeline.results.provenance import record_provenance
from pipeline.results.tables import ComputedTable, compute_table
from pipeline.system.atomic_files import write_json


def main(params: Params, name: str) -> dict[str, Any]:
    """Compute table `name` from the available scores; write it, its ranks and the metrics. Return its values."""
    path, computed = table(params.profile, name), compute(params, name)
    if computed.ranks:
        computed.ranks.write(ranks(params.profile, name))
    write_json(path, computed.values)
    record_provenance(name, path, "cpu", 1, 0.0)
    write_metrics(params.profile)
    return computed.values


def compute(params: Params, name: str) -> ComputedTable:
    """Return table `name` from the available scores, and write nothing."""
    if name in OTHER_SETS:
        return ComputedTable(compute_other_sets(name, params), None)
    prepared = name not in NO_DATA and CLASSIFICATION.facts(params.profile).exists()
    return compute_table(name, params, read_facts(params.profile) if prepared else None)
