"""Stage resampled: the measures of Tables 11 and 12 on resampled images and splits, for the claims of appendix B."""

from __future__ import annotations

import time

from pipeline.experiment.other_sets import RESAMPLED
from pipeline.experiment.params import Params
from pipeline.experiment.paths import resampled
from pipeline.results.provenance import record_provenance
from pipeline.results.resampled import compute_resampled


def main(params: Params) -> None:
    """Write the measures of all data sets that params.yaml has, as far as their SVMs are run."""
    started, path = time.monotonic(), resampled(params.profile)
    compute_resampled(params).write(path)
    record_provenance(RESAMPLED, path, "cpu", 1, time.monotonic() - started)
