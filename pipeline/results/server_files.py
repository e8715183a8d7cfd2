"""The files in which PASCAL VOC's evaluation server takes scores of VOC-2012 and of its actions, and back.

One file per class: Main/comp2_cls_SET_CLASS.txt with lines "image confidence", or Action/comp10_action_SET_CLASS.txt
with lines "image object confidence" (VOC-2012's development kit, VOCinit.m). comp2 and comp10 are the competitions that
allow other training images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.datasets.manifest import val_ids
from pipeline.datasets.readers.base import WHOLE, Examples, read_examples
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import PROTOCOLS, OfficialSets, svm_stage, variants
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified
from pipeline.results.array_file import arrays_in
from pipeline.results.other_sets import current_record
from pipeline.system.atomic_files import write_text
from vgg.draws import Floats, Ints
from vgg.measures import BY_CLASS

FORMATS = {"voc2012": "results/VOC2012/Main/comp2_cls", "actions": "results/VOC2012/Action/comp10_action"}
SYSTEM = "DE"  # the best of the paper's


class ServerFiles(NamedTuple):
    """What was written: where, of which set, and the measure of what was read back, in per cent."""

    folder: Path
    subset: str
    classes: int
    examples: int
    value: float


def write_server_files(params: Params, name: str, folder: Path) -> ServerFiles:
    """Write the scores of data set `name` by nets D and E below `folder`, and read them back.

    Raise UsageError if params.yaml lacks the set. Raise Failure if scores are missing, or if what is read back has
    another measure than the table.
    """
    if name not in params.datasets:
        raise UsageError(f"no data set {name} is prepared: vgg-repro prepare {name} --path FOLDER")
    row = params.datasets[name]
    protocol, path = PROTOCOLS[row.source], classified(row.table, name, SYSTEM)
    record = current_record(params, name, path, svm_stage(name, SYSTEM))
    variant = variants(protocol.boxed)[-1]
    assert isinstance(protocol.division, OfficialSets)
    examples = read_examples(DataSet(name).examples, f"vgg-repro prepare {name}")
    numbers, scores = _scores(path, name, variant, record)
    keys, subset = _keys(name, examples, numbers), protocol.division.test
    paths = [folder / f"{FORMATS[row.source]}_{subset}_{label}.txt" for label in examples.classes]
    for column, file in zip(scores.T, paths, strict=True):
        write_text(file, "".join(f"{key} {score!r}\n" for key, score in zip(keys, column.tolist(), strict=True)))
    read = np.stack([read_server_file(file, keys) for file in paths], 1)
    value = float((100 * BY_CLASS[protocol.measure](read, examples.labels[numbers])).mean())
    if value != record["results"][variant]["value"]:
        raise Failure(f"{paths[0].parent} does not hold what was written to it")
    return ServerFiles(paths[0].parent, subset, len(paths), len(keys), value)


def _scores(path: Path, name: str, variant: str, record: dict[str, Any]) -> tuple[Ints, Floats]:
    """Return the numbers (n,) of the examples that were tested, and their scores (n, K)."""
    if not record:
        raise Failure(f"the scores of {name} are missing; make them with: dvc repro {svm_stage(name, SYSTEM)}")
    with arrays_in(path, "delete it, and repeat its stage") as arrays:
        return arrays["test-0"], arrays[f"{variant}-0"]


def _keys(name: str, examples: Examples, numbers: Ints) -> list[str]:
    """Return how the server names each example: by its image, and for a person also by the object's number."""
    ids = val_ids(DataSet(name).manifest)
    images, objects = examples.images[numbers].tolist(), examples.objects[numbers].tolist()
    pairs = zip(images, objects, strict=True)
    return [ids[image] if number == WHOLE else f"{ids[image]} {number}" for image, number in pairs]


def read_server_file(path: Path, keys: list[str]) -> Floats:
    """Return the confidences (n,) in a file of the examples `keys`. Raise Failure, naming it, if it has others."""
    lines = [line.rpartition(" ") for line in path.read_text().splitlines()]
    if [key for key, _, _ in lines] != keys:
        raise Failure(f"{path} has other examples than were written to it")
    return np.array([float(score) for _, _, score in lines])
