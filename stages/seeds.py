"""Stage seeds: mean and standard deviation of the tables' rows over the seeds, from the available scores."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.facts import read_facts
from pipeline.experiment.params import Params
from pipeline.experiment.paths import ranks, table
from pipeline.results.provenance import record_provenance
from pipeline.results.seeds import compute_seeds
from pipeline.system.atomic_files import write_json


def main(params: Params) -> dict[str, Any]:
    """Compute the rows over the seeds from the available scores; write them and their ranks. Return the values."""
    path, computed = table(params.profile, "seeds"), compute_seeds(params, read_facts(params.profile))
    computed.ranks.write(ranks(params.profile, "seeds"))
    write_json(path, computed.values)
    record_provenance("seeds", path, "cpu", 1, 0.0)
    return computed.values
