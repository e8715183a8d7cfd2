"""The files in which PASCAL VOC's evaluation server takes scores of VOC-2012 and of its actions, and back.

One file per class: Main/comp2_cls_SET_CLASS.txt with lines "image confidence", or Action/comp10_action_SET_CLASS.txt
with lines "image object confidence" (VOC-2012's development kit, VOCinit.m). comp2 and comp10 are the competitions that
allow other training images. A person that the organisers' list of an action does not have is not in its file: the kit's
VOCevalaction.m ends with an error there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.manifest import val_ids
from pipeline.datasets.readers.actions import Actions
from pipeline.datasets.readers.base import NEITHER, WHOLE, Examples, read_examples
from pipeline.datasets.readers.voc import Voc2012
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import PROTOCOLS, SERVER, SERVER_SYSTEM, OfficialSets, svm_stage, variants
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified
from pipeline.results.array_file import arrays_in
from pipeline.results.other_sets import current_record
from pipeline.system.atomic_files import write_text
from vgg.draws import Floats, Ints
from vgg.measures import BY_CLASS

FORMATS = {"voc2012": "results/VOC2012/Main/comp2_cls", "actions": "results/VOC2012/Action/comp10_action"}
PUBLISHED = {reader.name: reader.unlabelled_images for reader in (Voc2012, Actions)}  # examples of test, if known


class ServerFiles(NamedTuple):
    """What was written: where, of which set, and the measure of what was read back, in per cent."""

    folder: Path
    subset: str
    classes: int
    examples: int
    value: float | None  # None without labels
    lacking: int  # published examples without labels that are not there


def write_server_files(params: Params, name: str, folder: Path, test: bool = False) -> ServerFiles:
    """Write the scores of data set `name` by nets D and E below `folder`, and read them back.

    They are of the examples that the table measures or, if `test` is set, of those whose labels the server alone has.
    Raise UsageError if params.yaml lacks the set, or if it has no such examples. Raise Failure if scores are missing,
    or if what is read back has other scores, or another measure than the table.
    """
    if name not in params.datasets:
        raise UsageError(f"no data set {name} is prepared: vgg-repro prepare {name} --path FOLDER")
    row = params.datasets[name]
    protocol, path = PROTOCOLS[row.source], classified(row.table, name, SERVER_SYSTEM)
    examples = read_examples(DataSet(name).examples, f"vgg-repro prepare {name}")
    if test:
        _check_test(params, name, examples)
    record = current_record(params, name, path, svm_stage(name, SERVER_SYSTEM))
    variant = variants(protocol.boxed)[-1]
    numbers, scores = _scores(path, name, variant, record, test)
    keys, listed = _keys(name, examples, numbers), _listed(examples, protocol.boxed)[numbers]
    assert isinstance(protocol.division, OfficialSets) and protocol.server
    subset = protocol.server if test else protocol.division.test
    paths = [folder / f"{FORMATS[row.source]}_{subset}_{label}.txt" for label in examples.classes]
    read = _written(paths, keys, scores, listed)
    value = None if test else float((100 * BY_CLASS[protocol.measure](read, examples.labels[numbers])).mean())
    if not np.array_equal(read[listed], scores[listed]) or value not in (None, record["results"][variant]["value"]):
        raise Failure(f"{paths[0].parent} does not hold what was written to it")
    lacking = (PUBLISHED[row.source] or len(keys)) - len(keys) if test else 0
    return ServerFiles(paths[0].parent, subset, len(paths), len(keys), value, lacking)


def _check_test(params: Params, name: str, examples: Examples) -> None:
    """Raise UsageError if no examples without labels are prepared."""
    row = params.datasets[name]
    if not len(examples.numbers_in(PROTOCOLS[row.source].server)):
        ((archive,),) = Voc2012.optional
        raise UsageError(
            f"{name} is prepared without test images: put {archive} into {row.path}, then: vgg-repro prepare {name}, "
            f"and dvc repro {svm_stage(name, SERVER_SYSTEM)}"
        )


def _written(paths: list[Path], keys: list[str], scores: Floats, listed: NDArray[np.bool_]) -> Floats:
    """Write a file of each class with the scores (n, K) of its `listed` examples (n, K). Return what is read back."""
    read = np.full(scores.shape, -np.inf)
    for number, path in enumerate(paths):
        chosen = np.flatnonzero(listed[:, number]).tolist()
        lines = zip([keys[place] for place in chosen], scores[chosen, number].tolist(), strict=True)
        write_text(path, "".join(f"{key} {score!r}\n" for key, score in lines))
        read[chosen, number] = read_server_file(path, [keys[place] for place in chosen])
    return read


def _scores(path: Path, name: str, variant: str, record: dict[str, Any], test: bool) -> tuple[Ints, Floats]:
    """Return the numbers (n,) of the examples that were tested, or of those without labels, and their scores (n, K)."""
    if not record:
        raise Failure(f"the scores of {name} are missing; make them with: dvc repro {svm_stage(name, SERVER_SYSTEM)}")
    with arrays_in(path, "delete it, and repeat its stage") as arrays:
        if test:
            return arrays[f"{SERVER}-examples"], arrays[f"{SERVER}-{variant}"]
        return arrays["test-0"], arrays[f"{variant}-0"]


def _listed(examples: Examples, boxed: bool) -> NDArray[np.bool_]:
    """Return which examples (n, K) the server evaluates for each class: all images, and the persons of its list."""
    if examples.listed is not None:
        return examples.listed
    return examples.labels != NEITHER if boxed else np.ones_like(examples.labels, bool)


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
