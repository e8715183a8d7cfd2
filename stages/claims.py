"""Stage claims: the paper's claims, tested on the images of this profile's tables and other data sets."""

from __future__ import annotations

from typing import Any

from pipeline.experiment.params import Params
from pipeline.experiment.paths import claims
from pipeline.results.claims import ledger, read_outcomes
from pipeline.results.metrics import write_metrics
from pipeline.results.provenance import record_provenance
from pipeline.results.ranks import tested_hashes
from pipeline.system.atomic_files import write_json


def main(params: Params) -> dict[str, Any]:
    """Test all claims on the ranks beside the tables and on resampled measures; write the ledger and the metrics.

    Return the ledger's values.
    """
    path = claims(params.profile)
    values = current(params, params.profile) | {"ranks": tested_hashes(params.profile)}
    write_json(path, values)
    record_provenance("claims", path, "cpu", 1, 0.0)
    write_metrics(params.profile)
    return values


def current(params: Params, profile: str) -> dict[str, Any]:
    """Return the ledger of the tables that a profile has now, and write nothing."""
    sources = [row.source for row in params.datasets.values()] if profile == params.profile else []
    return {"profile": profile, **ledger(read_outcomes(profile, sources), params.evidence.margin)}
