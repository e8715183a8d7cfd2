"""Stage aggregation: SVMs on a data set's descriptors, aggregated over Q as Table 11 does not have them (appendix B).

Descriptors are averaged or stacked; which is better is a claim about data sets of whole images. Both are arithmetic on
the kept features.
"""

from __future__ import annotations

import time

from pipeline.experiment.other_sets import PROTOCOLS, SINGLE_NETS, aggregation_stage, other_aggregation
from pipeline.experiment.params import Params
from pipeline.experiment.paths import otherwise_classified
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import write_text
from stages.svm import classify, print_measures


def main(params: Params, name: str) -> None:
    """Train and test the SVMs of data set `name` on the other aggregation of each net's descriptors.

    Of objects with boxes, about which there is no such claim, only the folder is made.
    """
    started, row, stage = time.monotonic(), params.datasets[name], aggregation_stage(name)
    how, boxed = other_aggregation(row.aggregate), PROTOCOLS[row.source].boxed
    folder = otherwise_classified(name, "").parent
    write_text(folder / "aggregation.txt", "none: no claim is about it\n" if boxed else f"{how}\n")
    if boxed:
        return
    other = row.model_copy(update={"aggregate": how})
    otherwise = params.model_copy(update={"datasets": {**params.datasets, name: other}})
    for system in SINGLE_NETS:
        path = otherwise_classified(name, system)
        print_measures(f"{stage}, {system}, {how}", classify(otherwise, name, system, path)["results"])
        record_provenance(f"{stage}-{system}", path.with_suffix(".json"), "cpu", 1, time.monotonic() - started)
