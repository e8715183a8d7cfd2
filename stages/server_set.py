"""Stage test-set: the images of a data set whose labels only an evaluation server knows, as shards."""

from __future__ import annotations

from pipeline.datasets.manifest import tally
from pipeline.datasets.prepare import prepare
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet


def main(params: Params, name: str) -> None:
    """Prepare the data set `name`, and print how many images it has."""
    data_set = DataSet(name)
    facts = prepare(params.for_set(name), data_set)
    print(f"{name}: {facts.val:,} images without labels")
    counts = tally(data_set.manifest)
    if counts.skipped or counts.warning:
        print(f"{counts.text}: {data_set.manifest} has the reasons")
