"""The paper's claims as data: a sentence each, and the table rows that it compares (sections 3.1, 4, A.2, B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, MEASURES, PROTOCOLS, SINGLE_NETS, Aggregation
from pipeline.experiment.other_sets import METHODS as NETS
from pipeline.experiment.paper_tables import INITIAL, LOCALISATION, METHODS, OTHER_SETS, printed, printed_errors
from pipeline.experiment.run_names import FROM_A, GLOROT, NORMAL

Kind = Literal["better", "no better", "about equal"]
FIXED, JITTER = ("256", "384"), "256-512"  # S as printed
SINGLE = {"256": "256", "384": "384", JITTER: "384"}  # Q as printed, by S (section 4.1)
MULTIPLE = {"256": "224 256 288", "384": "352 384 416", JITTER: "256 384 512"}  # section 4.2
DENSE, CROPS, BOTH = METHODS  # as printed
FC_LAYERS = "1st and 2nd FC"  # as printed
TRIPLE = ("C", "D", "E")  # the nets that Tables 3 and 4 have at every S


class Cell(NamedTuple):
    """A row of a table, whose top-1 error a claim compares; of Table 8 the share of images whose box is wrong.

    Of Tables 11 and 12 it is a data set's measure, by the nets and how their descriptors are put together.
    """

    table: str
    row: str  # its key

    @property
    def printed(self) -> float | None:
        """Return the paper's top-1 error, or what its measure lacks of 100; None if the paper does not print it."""
        if self.table in OTHER_SETS:
            measure = _printed_measure(self)
            return None if measure is None else 100 - measure
        return printed_errors(self.table)[self.row]["top1_val"] if self.table.startswith("table") else None

    @property
    def nets(self) -> tuple[str, ...]:
        """Return what tells the cell's trained nets apart: net and S, or everything but the evaluation method."""
        parts = self.row.split(", ")
        known = {"table3": 2, "table4": 2, "table5": 2, "table6": -1}.get(self.table)
        return tuple(parts[:known])


class Pair(NamedTuple):
    """Two cells that a claim compares. The effect is the error of `first` minus that of `second`.

    Of measures it is that of `second` minus that of `first`.
    """

    first: Cell
    second: Cell

    @property
    def printed(self) -> float | None:
        """Return the paper's effect in points; None if the paper does not print it."""
        first, second = self.first.printed, self.second.printed
        return None if first is None or second is None else first - second


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, with the pairs that it compares.

    A sentence about a method compares several nets or scales and is tested by the mean effect of its pairs. A sentence
    that says something of each net or method alone has `each`: it holds only if it holds for every pair.
    """

    name: str
    section: str
    sentence: str
    kind: Kind  # of `second`, compared with `first`
    pairs: Sequence[Pair]
    stated: float | None = None  # the effect in points that the text states, where no table prints it
    each: bool = False
    stand_ins: Sequence[Pair] = ()  # of sets that are drawn here, compared if nothing of the paper's sets is run

    @property
    def same_nets(self) -> bool:
        """Return True if every pair compares two evaluations of the same trained nets."""
        return all(pair.first.nets == pair.second.nets for pair in self.pairs)

    @property
    def of_boxes(self) -> bool:
        """Return True if the claim compares localisers."""
        return all(cell.table in LOCALISATION for pair in self.pairs for cell in pair)

    @property
    def sets(self) -> tuple[str, ...]:
        """Return the data sets of the paper that the claim is about; none if it is about the profile's own images."""
        cells = {cell for pair in self.pairs for cell in pair if cell.table in OTHER_SETS}
        return tuple(source for source in PROTOCOLS if any(source == set_of(cell) for cell in cells))

    @property
    def paper(self) -> float | None:
        """Return the paper's effect in points: the pairs' mean, or the least if `each`, or the one its text states."""
        effects = [pair.printed for pair in self.pairs]
        known = [effect for effect in effects if effect is not None]
        if not known or len(known) < len(effects):
            return self.stated
        return min(known) if self.each else sum(known) / len(known)


def single(net: str, scale: str) -> Cell:
    """Return the cell of a net trained at S, tested densely at one scale (Table 3)."""
    return Cell("table3", f"{net}, {scale}, {SINGLE[scale]}")


def multiple(net: str, scale: str) -> Cell:
    """Return the cell of a net trained at S, tested densely at several scales (Table 4)."""
    return Cell("table4", f"{net}, {scale}, {MULTIPLE[scale]}")


def by_method(net: str, method: str) -> Cell:
    """Return the cell of a net trained with jittered S, tested at several scales by `method` (Table 5)."""
    return Cell("table5", f"{net}, {JITTER}, {MULTIPLE[JITTER]}, {method}")


def fused(method: str) -> Cell:
    """Return the cell of D and E together, by `method` (Table 6)."""
    return Cell("table6", f"post-submission, D-jitter, E-jitter, {method}")


def located(layers: str, boxes: str) -> Cell:
    """Return the cell of a localiser of these trained layers and boxes, at the centre crop (Table 8)."""
    return Cell("table8", f"{layers}, {boxes}")


def initial(net: str, weights: str) -> Cell:
    """Return the cell of a net trained from these initial weights (section 3.1)."""
    return Cell("initialisation", f"{net}, {INITIAL[weights]}")


def described(source: str, nets: str, how: str) -> Cell:
    """Return the cell of a data set described by D, E or both nets (DE).

    `how` is the aggregation over Q, or of objects with boxes whether the box is described, too.
    """
    protocol = PROTOCOLS[source]
    return Cell(protocol.table, f"{protocol.title}, {nets}, {how}")


def set_of(cell: Cell) -> str:
    """Return the data set of a cell of Table 11 or 12."""
    title = cell.row.split(", ")[0]
    return next(source for source, protocol in PROTOCOLS.items() if protocol.title == title)


def _printed_measure(cell: Cell) -> float | None:
    """Return the paper's measure of a data set in per cent; None if it is not printed, as of the other aggregation."""
    _, nets, how = cell.row.split(", ")
    column, printed_rows = PROTOCOLS[set_of(cell)].column, {row["method"]: row for row in printed(cell.table)}
    row = printed_rows.get(f"{NETS[nets]}, {how}")
    return float(row[column]) if row and column else None


def statistic(sets: Sequence[str]) -> str:
    """Return what is measured on data sets: mean AP, at 11 recalls: VOC-2007."""
    by_measure: dict[str, list[str]] = {}
    for source in sets:
        by_measure.setdefault(MEASURES[PROTOCOLS[source].measure], []).append(PROTOCOLS[source].title)
    return "; ".join(f"{measure}: {', '.join(titles)}" for measure, titles in by_measure.items())


SUBMISSION = Cell("table6", "ILSVRC submission, D-256, D-384, D-jitter-fc, C-256, C-384, E-256, E-384, dense")
SHALLOW, B_CENTRE = (Cell("shallow", f"{net}, 256, 256") for net in ("shallow", "B"))


def _at_every_scale(first: str, second: str) -> list[Pair]:
    """Return the pair of two nets at every S of Table 3."""
    return [Pair(single(first, scale), single(second, scale)) for scale in SINGLE]


def _sets_of(aggregate: Aggregation, drawn: bool) -> list[str]:
    """Return the data sets of Table 11 whose descriptors the paper aggregates so, or those that stand in for them."""
    return [
        source for source, protocol in PROTOCOLS.items()
        if protocol.table == "table11" and protocol.aggregate == aggregate and protocol.drawn == drawn
    ]  # fmt: skip


def _aggregations(second: Aggregation, drawn: bool) -> list[Pair]:
    """Return the pairs of both aggregations of each net's descriptors, on the sets for which the paper has `second`."""
    first: Aggregation = "stack" if second == "average" else "average"
    sets = _sets_of(second, drawn)
    return [Pair(*(described(one, net, how) for how in (first, second))) for one in sets for net in SINGLE_NETS]


def _image_and_box(source: str) -> list[Pair]:
    return [Pair(described(source, "DE", IMAGE), described(source, "DE", IMAGE_AND_BOX))]


CLAIMS = (
    Claim(
        "pre-training", "3.1", "D and E train from A's layers better than from random weights of std 0.01 alone.",
        "better", [Pair(initial(net, NORMAL), initial(net, FROM_A)) for net in ("D", "E")], each=True,
    ),
    Claim(
        "glorot", "3.1", "D and E train from Glorot's random weights better than from those of std 0.01.",
        "better", [Pair(initial(net, NORMAL), initial(net, GLOROT)) for net in ("D", "E")], each=True,
    ),
    Claim(
        "lrn", "4.1", "Local response normalisation does not improve net A.", "no better",
        [Pair(single("A", "256"), single("A-LRN", "256"))],
    ),
    Claim(
        "depth-256", "4.1", "At S = 256 the deepest net, E, of 19 layers, has a lower error than A, of 11.", "better",
        [Pair(single("A", "256"), single("E", "256"))],
    ),
    Claim(
        "depth-384", "4.1", "At S = 384 the deepest net, E, of 19 layers, has a lower error than C, of 16.", "better",
        [Pair(single("C", "384"), single("E", "384"))],
    ),
    Claim(
        "depth-jitter", "4.1", "With jittered S the deepest net, E, has a lower error than C, of 16 layers.",
        "better", [Pair(single("C", JITTER), single("E", JITTER))],
    ),
    Claim(
        "depth-13", "4.1", "B, of 13 layers, has a lower error than A, of 11.", "better",
        [Pair(single("A", "256"), single("B", "256"))],
    ),
    Claim(
        "non-linearity", "4.1", "Extra non-linearity helps: C, B with 1x1 layers, has a lower error than B.", "better",
        [Pair(single("B", "256"), single("C", "256"))],
    ),
    Claim(
        "context", "4.1", "Spatial context matters: D, with 3x3 layers, has a lower error than C, with 1x1 layers.",
        "better", _at_every_scale("C", "D"),
    ),
    Claim(
        "saturation", "4.1", "The error saturates at 19 layers: E and D have about the same error.", "about equal",
        _at_every_scale("D", "E"),
    ),
    Claim(
        "shallow", "4.1", "B has a lower error than a shallow net with a 5x5 layer for each pair of 3x3 layers.",
        "better", [Pair(SHALLOW, B_CENTRE)], stated=7.0,
    ),
    Claim(
        "scale-384", "4.1", "Training at S = 384 gives about the same error as at S = 256.", "about equal",
        [Pair(single(net, "256"), single(net, "384")) for net in TRIPLE],
    ),
    Claim(
        "jitter", "4.1", "Training with jittered S gives a lower error than with fixed S, at one test scale.",
        "better", [Pair(single(net, fixed), single(net, JITTER)) for net, fixed in product(TRIPLE, FIXED)],
    ),
    Claim(
        "test-scales", "4.2", "Several test scales give a lower error than one.", "better",
        [Pair(single(net, scale), multiple(net, scale)) for net, scale in [("B", "256"), *product(TRIPLE, SINGLE)]],
    ),
    Claim(
        "jitter-multiple", "4.2", "Training with jittered S gives a lower error than with fixed S, at several test "
        "scales.", "better",
        [Pair(multiple(net, fixed), multiple(net, JITTER)) for net, fixed in product(TRIPLE, FIXED)],
    ),
    Claim(
        "depth-multiple", "4.2", "The deepest nets, D and E, have a lower mean error than C, at several test scales.",
        "better", [Pair(multiple("C", scale), multiple(net, scale)) for scale, net in product(SINGLE, ("D", "E"))],
    ),
    Claim(
        "crops", "4.3", "Multi-crop evaluation gives a lower error than dense evaluation.", "better",
        [Pair(by_method(net, DENSE), by_method(net, CROPS)) for net in ("D", "E")],
    ),
    Claim(
        "crops-and-dense", "4.3", "Multi-crop and dense evaluation together give a lower error than either alone.",
        "better",
        [Pair(by_method(net, alone), by_method(net, BOTH)) for net, alone in product(("D", "E"), (DENSE, CROPS))],
        each=True,
    ),
    Claim(
        "fusion", "4.4", "D and E together have a lower error than either alone, by every evaluation method.",
        "better", [Pair(by_method(net, method), fused(method)) for net, method in product(("D", "E"), METHODS)],
        each=True,
    ),
    Claim(
        "two-nets", "4.4", "The two best nets together have a lower error than the submission's seven nets.", "better",
        [Pair(SUBMISSION, fused(DENSE))],
    ),
    Claim(
        "boxes-per-class", "A.2", "A box for each class gives a lower localisation error than one box for all classes.",
        "better", [Pair(located(FC_LAYERS, "SCR"), located(FC_LAYERS, "PCR"))],
    ),
    Claim(
        "all-layers", "A.2", "Localisers have a lower error if all layers are fine-tuned, not the FC layers alone.",
        "better", [Pair(located(FC_LAYERS, "PCR"), located("all", "PCR"))],
    ),
    Claim(
        "averaging", "B", "On VOC, descriptors averaged over the test scales give about the same AP as stacked ones.",
        "about equal", _aggregations("average", drawn=False), stand_ins=_aggregations("average", drawn=True),
    ),
    Claim(
        "stacking", "B", "On Caltech, descriptors of the test scales stacked give a higher recall than averaged ones.",
        "better", _aggregations("stack", drawn=False), stand_ins=_aggregations("stack", drawn=True),
    ),
    Claim(
        "image-and-box", "B", "Image and bounding box together give a higher AP of actions than the image alone.",
        "better", _image_and_box("actions"), stand_ins=_image_and_box("boxed"),
    ),
)  # fmt: skip
