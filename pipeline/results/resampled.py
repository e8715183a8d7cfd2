"""The measures of other data sets on resampled images and splits: what the claims of appendix B are tested on.

They are few numbers for each row, small enough for git, so that a fresh clone can test the claims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from pipeline.datasets.readers.base import read_examples
from pipeline.errors import Failure
from pipeline.experiment.other_sets import (
    IMAGE,
    PROTOCOLS,
    RESAMPLED,
    SINGLE_NETS,
    aggregation_stage,
    other_aggregation,
    svm_stage,
    variants,
)
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified, otherwise_classified, resampled
from pipeline.results.array_file import arrays_in
from pipeline.results.other_sets import current_record, is_current
from pipeline.results.paired_tests import POWER, Comparison
from pipeline.system.atomic_files import whole
from vgg.judgement import LEVEL
from vgg.resampling import SplitScores, resampled_measures

TIMES = 2000  # resamples: the least p is 0.001, so that one of some 25 claims can remain after Holm's adjustment
DECIMALS = 4  # of the kept measures, in per cent


class ResampledRow(NamedTuple):
    """A measure of a data set in per cent."""

    value: float
    resampled: NDArray[np.float64]  # (TIMES,)


class ResampledSet(NamedTuple):
    """What is known of a data set that params.yaml had."""

    name: str
    source: str
    manifest: str  # of its images; empty if nothing of it is run
    annotations: str  # hash of its examples; empty if it is not known
    images: int  # that are tested
    splits: int


@dataclass(frozen=True)
class ResampledSets:
    """All rows of a profile's data sets, on the same resamples of a set's images and splits."""

    rows: Mapping[str, ResampledRow]
    sets: Sequence[ResampledSet]

    def write(self, path: Path) -> None:
        """Write the rows; equal rows give equal bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rounded = [row.resampled.round(DECIMALS) for row in self.rows.values()]
        sets = {name: np.array([getattr(one, name) for one in self.sets], kind) for name, kind in SET_FIELDS.items()}
        with whole(path) as file:
            np.savez(
                file, allow_pickle=False,
                rows=np.array(list(self.rows), np.str_), values=np.array([row.value for row in self.rows.values()]),
                resampled=np.array(rounded, np.float32).reshape(len(rounded), TIMES), **sets,
            )  # fmt: skip


SET_FIELDS: dict[str, Any] = {
    "name": np.str_, "source": np.str_, "manifest": np.str_, "annotations": np.str_, "images": np.int64,
    "splits": np.int64,
}  # fmt: skip


NO_SETS = ResampledSets({}, ())


def read_resampled(profile: str) -> ResampledSets:
    """Return a profile's rows, without those of data sets that have been prepared from other images since.

    Raise Failure if the file is broken.
    """
    path = resampled(profile)
    if not path.exists():
        return NO_SETS
    with arrays_in(path, "make it again with: dvc repro resampled") as arrays:
        values, columns = arrays["resampled"].astype(np.float64), [arrays[name].tolist() for name in SET_FIELDS]
        pairs = zip(arrays["rows"].tolist(), arrays["values"].tolist(), values, strict=True)
        rows = {name: ResampledRow(value, of_row) for name, value, of_row in pairs}
    sets = [ResampledSet(*one) for one in zip(*columns, strict=True)]
    others = {
        PROTOCOLS[one.source].title
        for one in sets
        if not is_current(profile, one.name, one.manifest or None, one.annotations or None)
    }
    return ResampledSets({name: row for name, row in rows.items() if name.split(", ")[0] not in others}, sets)


class _Method(NamedTuple):
    """What a data set is described by, and where its SVMs are."""

    label: str  # D, average, or DE, image and bounding box
    variant: str
    path: Path
    record: Mapping[str, Any]


def compute_resampled(params: Params) -> ResampledSets:
    """Return the rows of all data sets of params.yaml, as far as their SVMs are run."""
    found = [_of_set(params, name) for name in params.datasets]
    rows = {label: row for _, of_set in found for label, row in of_set.items()}
    return ResampledSets(rows, [one for one, _ in found])


def _of_set(params: Params, name: str) -> tuple[ResampledSet, dict[str, ResampledRow]]:
    """Return a data set and its rows."""
    source = params.datasets[name].source
    protocol, methods = PROTOCOLS[source], list(_methods(params, name))
    if not methods:
        return ResampledSet(name, source, "", "", 0, 0), {}
    splits = _splits(name, methods)
    seed = [params.active.transferring.seed, *name.encode()]
    measures = resampled_measures(splits, protocol.measure, TIMES, seed)
    rows = {
        f"{protocol.title}, {method.label}": ResampledRow(
            method.record["results"][method.variant]["value"], 100 * measures[method.label]
        )
        for method in methods
    }
    images = len(np.unique(np.concatenate([split.images for split in splits])))
    record = methods[0].record
    return ResampledSet(name, source, record["data"], record.get("annotations", ""), images, len(splits)), rows


def _methods(params: Params, name: str) -> Iterator[_Method]:
    """Yield what is run of a data set: both aggregations of each net's descriptors, or image, and image and box."""
    row = params.datasets[name]
    if PROTOCOLS[row.source].boxed:
        path = classified(row.table, name, "DE")
        record = current_record(params, name, path, svm_stage(name, "DE"))
        yield from (_Method(f"DE, {variant}", variant, path, record) for variant in variants(True) if record)
        return
    for system in SINGLE_NETS:
        one, other = classified(row.table, name, system), otherwise_classified(name, system)
        files = {
            row.aggregate: (one, svm_stage(name, system)),
            other_aggregation(row.aggregate): (other, aggregation_stage(name)),
        }
        for how, (path, stage) in files.items():
            if record := current_record(params, name, path, stage):
                yield _Method(f"{system}, {how}", IMAGE, path, record)


def _splits(name: str, methods: Sequence[_Method]) -> list[SplitScores]:
    """Return the scores of all methods by split. Raise Failure if their examples are not the same."""
    examples = read_examples(DataSet(name).examples, f"vgg-repro prepare {name}")
    count = len(methods[0].record["results"][methods[0].variant]["splits"])
    tested: list[list[NDArray[np.int64]]] = [[] for _ in range(count)]
    scores: list[dict[str, NDArray[np.float64]]] = [{} for _ in range(count)]
    for method in methods:
        with arrays_in(method.path, "delete it, and repeat its stage") as arrays:
            for split in range(count):
                tested[split].append(arrays[f"test-{split}"])
                scores[split][method.label] = arrays[f"{method.variant}-{split}"]
    if any(not np.array_equal(one, other) for several in tested for one, other in pairwise(several)):
        raise Failure(f"the SVMs of {name} are of different splits; repeat them: dvc repro {RESAMPLED}")
    return [
        SplitScores(examples.images[of_split[0]], examples.labels[of_split[0]], found)
        for of_split, found in zip(tested, scores, strict=True)
    ]


@dataclass(frozen=True)
class ResampledTest:
    """The differences of resampled measures, as proportions: tests and intervals by their percentiles."""

    differences: NDArray[np.float64]

    def above(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true difference is at most `difference`."""
        return float((1 + (self.differences <= difference).sum()) / (1 + len(self.differences)))

    def below(self, difference: float) -> float:
        """Return the one-sided p of the hypothesis that the true difference is at least `difference`."""
        return float((1 + (self.differences >= difference).sum()) / (1 + len(self.differences)))


def compare_resampled(pairs: Sequence[tuple[ResampledRow, ResampledRow]], of: Sequence[ResampledSet]) -> Comparison:
    """Compare the better (second) with the worse side of each pair; `of` are the pairs' sets. Effects are in points.

    With several pairs it is the mean over the pairs. Those of one set have the same resamples. These are moved so that
    their mean is the effect: few examples of large weight make the AP of a poor ranking larger than it is.
    """
    effect = float(np.mean([better.value - worse.value for worse, better in pairs]))
    differences = np.mean([better.resampled - worse.resampled for worse, better in pairs], axis=0)
    differences += effect - differences.mean()
    test = ResampledTest(differences / 100)
    error = float(differences.std(ddof=1))
    low, high = np.quantile(differences, (LEVEL / 2, 1 - LEVEL / 2)).tolist()
    images = sum(one.images for one in dict.fromkeys(of))
    return Comparison(
        effect=effect, standard_error=error,
        low=low, high=high, p=min(1.0, 2 * min(test.above(0), test.below(0))),
        smallest_visible=float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)) * error,
        gained=None, lost=None, images=images, groups=images, seeds=(1,) * len(pairs),
        counts="images and splits" if any(one.splits > 1 for one in of) else "images only", degrees=None, test=test,
    )  # fmt: skip
