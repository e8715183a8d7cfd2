"""Stage dataset: the images of another data set as shards, and the examples that its reader annotates (appendix B)."""

from __future__ import annotations

from pipeline.datasets.manifest import tally
from pipeline.datasets.prepare import prepare
from pipeline.datasets.readers import READERS
from pipeline.datasets.readers.base import examples_of
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.other_sets import PROTOCOLS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet
from stages.divisions import divisions


def main(params: Params, name: str) -> None:
    """Prepare the data set `name`, and print what it contains."""
    data_set, of_set = DataSet(name), params.for_set(name)
    facts = prepare(of_set, data_set)
    reader = READERS[params.datasets[name].source].of(of_set.active)
    shards = Shards(data_set.shards, "val")
    examples = examples_of(reader.annotations(), shards.ids)
    examples.write(data_set.examples, examples.corners(shards))
    server = PROTOCOLS[params.datasets[name].source].server
    subsets = ", ".join(
        f"{mask.sum()} in {subset}{' without labels' * (subset == server)}" for subset, mask in examples.subsets.items()
    )
    counts = f"{facts.val} images, {len(examples)} examples, {len(examples.classes)} classes"
    print(f"{name}: {counts}{subsets and f': {subsets}'}")
    try:
        divisions(params, name, examples)
    except Failure as reason:
        print(f"It cannot be classified as it is: {reason}")
    tallied = tally(data_set.manifest)
    if tallied.skipped or tallied.warning or examples.missing:
        lost = f"{examples.missing} annotated example{'s' * (examples.missing != 1)} without an image"
        print(f"{tallied.text}, {lost}: {data_set.manifest} has the reasons")
