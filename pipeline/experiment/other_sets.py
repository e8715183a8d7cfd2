"""The other data sets of appendix B as data: how each is divided, measured and described, and where it is printed.

A new set is a row here, a reader of the same name in pipeline/datasets/readers, and a row of `datasets` in params.yaml,
which `vgg-repro prepare NAME` writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pipeline.experiment.paths import AGGREGATION

if TYPE_CHECKING:
    from pipeline.experiment.params import OtherSet, Params

Measure = Literal["ap11", "ap", "recall"]
Aggregation = Literal["average", "stack"]
SetTable = Literal["table11", "table12"]
MEASURES: dict[Measure, str] = {
    "ap11": "mean AP, at 11 recalls",
    "ap": "mean AP, area",
    "recall": "mean class recall",
}
FIVE, THREE = (256, 384, 512, 640, 768), (256, 384, 512)  # Q, appendix B
HELD_OUT = 0.2  # appendix B: the share of the training examples that chooses the hyper-parameters


@dataclass(frozen=True)
class OfficialSets:
    """The organisers' sets, by the names that the reader gives them; C is chosen on `tune`, or on a held-out fifth.

    The labels of `server` are known to the organisers' server alone, and its images need not be there.
    """

    fit: str
    tune: str | None
    test: str
    server: str = ""  # empty: there is no such set


@dataclass(frozen=True)
class RandomSplits:
    """Random splits: so many training examples per class, and at most so many for testing; None: all others."""

    splits: int
    train: int
    test: int | None


@dataclass(frozen=True)
class Protocol:
    """How a data set is used (appendix B)."""

    title: str  # as the paper writes it, or ours
    table: SetTable
    measure: Measure
    division: OfficialSets | RandomSplits
    scales: tuple[int, ...]
    aggregate: Aggregation
    column: str | None = None  # of the printed table; None: the paper does not have the set, it is drawn here
    counted: str = "test"  # the examples that the measure is of, in words
    boxed: bool = False  # its examples are objects with boxes, not images

    @property
    def drawn(self) -> bool:
        """Return True if the set comes with this program."""
        return self.column is None

    @property
    def server(self) -> str:
        """Return the set whose labels the organisers' server alone has; empty if there is no such set."""
        return self.division.server if isinstance(self.division, OfficialSets) else ""


PROTOCOLS = {
    "scenes": Protocol("drawn scenes", "table11", "ap11", OfficialSets("train", "val", "test"), FIVE, "average"),
    "few-shot": Protocol("drawn few-shot classes", "table11", "recall", RandomSplits(3, 12, 8), THREE, "stack"),
    "boxed": Protocol(
        "drawn boxed objects", "table12", "ap", OfficialSets("train", None, "val"), THREE, "average", None, "val", True
    ),
    "voc2007": Protocol(
        "VOC-2007", "table11", "ap11", OfficialSets("train", "val", "test"), FIVE, "average", "voc2007_map"
    ),
    "voc2012": Protocol(
        "VOC-2012", "table11", "ap", OfficialSets("train", None, "val", "test"), FIVE, "average", "voc2012_map", "val"
    ),
    "caltech101": Protocol(
        "Caltech-101", "table11", "recall", RandomSplits(3, 30, 50), THREE, "stack", "caltech101_recall"
    ),
    "caltech256": Protocol(
        "Caltech-256", "table11", "recall", RandomSplits(3, 60, None), THREE, "stack", "caltech256_recall"
    ),
    "actions": Protocol(
        "VOC-2012 actions", "table12", "ap", OfficialSets("train", None, "val", "test"), FIVE, "average", "map", "val",
        True,
    ),
}  # fmt: skip
COLUMNS: dict[str, dict[str, str]] = {  # of the printed tables
    table: {one.column: one.title for one in PROTOCOLS.values() if one.table == table and one.column}
    for table in get_args(SetTable)
}

NETS_OF = {"D": ("D-jitter",), "E": ("E-jitter",), "DE": ("D-jitter", "E-jitter")}  # the systems of Table 11
METHODS = {"D": "VGG Net-D (16 layers)", "E": "VGG Net-E (19 layers)", "DE": "VGG Net-D & Net-E"}  # as printed
IMAGE, IMAGE_AND_BOX = "image only", "image and bounding box"  # Table 12
DESCRIBED = NETS_OF["DE"]  # the runs that describe images
FEATURES, CLASSIFY, SHOW = "features", "svm", "descriptors"
SINGLE_NETS = ("D", "E")  # the systems whose two aggregations are compared
SERVER_SYSTEM = "DE"  # the best of the paper's, by which files for evaluation servers are made
SERVER = "server"  # in the records and scores of SVMs: of the examples whose labels a server alone has
RESAMPLED = "resampled"  # the stage of the measures on resampled images and splits


def features_stage(name: str, run: str) -> str:
    """Return the stage of the features of a data set by a run's net: features@scenes-D-jitter."""
    return f"{FEATURES}@{name}-{run}"


def svm_stage(name: str, system: str) -> str:
    """Return the stage of a data set's SVMs on the features of one net or both: svm-DE@scenes."""
    return f"{CLASSIFY}-{system}@{name}"


def aggregation_stage(name: str) -> str:
    """Return the stage of a data set's SVMs on the other aggregation of its descriptors: aggregation@scenes."""
    return f"{AGGREGATION}@{name}"


def other_aggregation(how: Aggregation) -> Aggregation:
    """Return the aggregation over Q that `how` is not."""
    return "stack" if how == "average" else "average"


def shown_stage(name: str) -> str:
    """Return the stage of what the page of other data sets shows of one: descriptors@scenes."""
    return f"{SHOW}@{name}"


def classified_by(svm: str) -> tuple[str, str]:
    """Return the data set and the system of a stage of SVMs: scenes and DE of svm-DE@scenes."""
    work, _, name = svm.partition("@")
    return name, work.removeprefix(f"{CLASSIFY}-")


def described_by(features: str) -> tuple[str, str]:
    """Return the data set and the run of a stage of features: scenes and D-jitter of features@scenes-D-jitter."""
    name = features.partition("@")[2]
    run = next(run for run in DESCRIBED if name.endswith(f"-{run}"))
    return name.removesuffix(f"-{run}"), run


def systems_of(table: str) -> tuple[str, ...]:
    """Return the systems that a table has rows of: Table 12 has both nets together alone."""
    return tuple(NETS_OF) if table == "table11" else ("DE",)


def variants(boxed: bool) -> tuple[str, ...]:
    """Return what examples are described by: the image, and for objects with boxes the image and the box."""
    return (IMAGE, IMAGE_AND_BOX) if boxed else (IMAGE,)


def set_rows(params: Params) -> dict[str, OtherSet]:
    """Return the rows of `datasets` that the active profile needs: those of sets that are not drawn, and of its own."""
    drawn = [source for source, protocol in PROTOCOLS.items() if protocol.drawn]
    kept = {name: row for name, row in params.datasets.items() if row.source not in drawn or params.active.drawn}
    new = drawn if params.active.drawn and not any(row.source in drawn for row in kept.values()) else []
    return {**{source: set_row(source, None) for source in new}, **kept}


def set_row(source: str, path: str | None) -> OtherSet:
    """Return a data set's row of params.yaml, by its protocol."""
    from pipeline.experiment.params import OtherSet

    protocol = PROTOCOLS[source]
    return OtherSet(
        source=source, path=path, table=protocol.table, scales=protocol.scales, aggregate=protocol.aggregate
    )


def outdated_sets(params: Params) -> str:
    """Return how the rows of `datasets` differ from those that the active profile needs, and the fix; empty if not."""
    wanted = set_rows(params)
    extra = [name for name in params.datasets if name not in wanted]
    lacking = [name for name in wanted if name not in params.datasets]
    if not extra and not lacking:
        return ""
    differences = [f"missing: {', '.join(lacking)}"] * bool(lacking) + [f"not needed: {', '.join(extra)}"] * bool(extra)
    return (
        f"datasets does not have the rows that profile {params.profile} needs ({'; '.join(differences)}). "
        f"To write them: vgg-repro prepare --profile {params.profile}"
    )


def sets_of(params: Params, table: str) -> list[str]:
    """Return the data sets of params.yaml that a table shows."""
    return [name for name, row in params.datasets.items() if row.table == table]
