"""Stages table1 ... table7 and shallow: a table's JSON, from the available scores."""

from __future__ import annotations

from pipeline.datasets.facts import read_facts
from pipeline.experiment.paper_tables import NO_DATA
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, table
from pipeline.results.provenance import provenance
from pipeline.results.tables import table_values
from pipeline.system.atomic_files import write_json


def main(params: Params, name: str) -> None:
    """Compute table `name` from the available scores and write it."""
    prepared = name not in NO_DATA and CLASSIFICATION.facts(params.profile).exists()
    facts = read_facts(params.profile) if prepared else None
    values = table_values(name, params, facts)
    values["provenance"] = provenance("cpu", 1, 0.0)
    write_json(table(params.profile, name), values)
