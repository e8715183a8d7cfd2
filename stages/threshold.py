"""Stage threshold: how close boxes are merged, chosen on training images (appendix A leaves it open)."""

from __future__ import annotations

from pipeline.datasets.facts import read_facts
from pipeline.experiment.params import Params
from pipeline.experiment.paths import threshold
from pipeline.results.localisation import chosen_thresholds
from pipeline.results.provenance import record_provenance
from pipeline.results.scores import Scores
from pipeline.system.atomic_files import write_json


def main(params: Params) -> None:
    """Choose the threshold of each row of Table 9, and write it with the errors of all."""
    chosen = chosen_thresholds(params, Scores(params, read_facts(params.profile)))
    write_json(threshold(), chosen)
    record_provenance("threshold", threshold(), "cpu", params.active.score.threads, 0.0)
    for key, row in chosen["rows"].items():
        errors = ", ".join(f"{value}: {error:.1f} %" for value, error in row["errors"].items())
        print(f"{key}: {row['threshold']:g} of {errors} wrong of {chosen['images']} training images")
