"""The paper's tables as data: titles, printed numbers, and the runs and modes that each row needs (section 4)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.experiment.modes import CENTRE_BOXES, MODES, WINDOWS
from pipeline.experiment.other_sets import sets_of
from pipeline.experiment.paths import PRINTED
from pipeline.experiment.run_names import FROM_A, GLOROT, NORMAL, initialised

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

TITLES = {
    "table1": "ConvNet configurations",
    "table2": "Number of parameters",
    "table3": "ConvNet performance at a single test scale",
    "table4": "ConvNet performance at multiple test scales",
    "table5": "ConvNet evaluation techniques comparison",
    "table6": "Multiple ConvNet fusion results",
    "table7": "Comparison with the state of the art in ILSVRC classification",
    "table8": "Localisation error of the true class's box at a central crop",
    "table9": "Localisation error of dense evaluation",
    "table10": "Comparison with the state of the art in ILSVRC localisation",
    "table11": "Comparison with the state of the art in image classification on other data sets",
    "table12": "Comparison with the state of the art in action classification",
    "shallow": "A shallow net of 5x5 filters against B of 3x3",
    "initialisation": "Initial weights of deep nets",
}
NO_DATA = ("table1", "table2")  # tables of the nets alone, without images
INITIAL = {NORMAL: "normal", FROM_A: "A's layers, others normal", GLOROT: "Glorot"}  # of section 3.1, as labels
LOCALISATION = ("table8", "table9", "table10")
OTHER_SETS = ("table11", "table12")  # appendix B: their rows are data sets and methods
NO_ERRORS = (*NO_DATA, *OTHER_SETS)  # tables without errors of images
CENTRAL = {  # Table 8's rows and our localisers
    ("1st and 2nd FC", "SCR"): "SCR-384-fc",
    ("1st and 2nd FC", "PCR"): "PCR-384-fc",
    ("all", "PCR"): "PCR-384",
}
METHODS = {"dense": ("dense",), "multi-crop": ("crops",), "multi-crop & dense": ("dense", "crops")}  # as printed


def windows_key(scales: Mapping[str, Sequence[int]]) -> str:
    """Return the name of a set of windows by their localisers' Q: PCR-256 at 256 and PCR-384 at 352, 384."""
    return " and ".join(f"{run} at {', '.join(map(str, own))}" for run, own in scales.items())


@dataclass(frozen=True)
class TableRow:
    """A row of a printed table: its label, its runs and modes, and the paper's errors in per cent."""

    label: Mapping[str, str]  # column to text, as printed
    runs: tuple[str, ...]  # averaged; empty for other people's rows
    modes: tuple[str, ...]  # averaged
    single: bool  # one test scale, else all of the run's
    paper: Mapping[str, float | None] = field(default_factory=dict)
    scales: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # Q of each localiser that is applied densely

    @property
    def key(self) -> str:
        """Return the row's name in its table: D, 256-512, 256 384 512."""
        return ", ".join(self.label.values())

    @property
    def parts_key(self) -> str:
        """Return the name of the row's set of windows."""
        return windows_key(self.scales)

    def needs(self) -> Iterator[tuple[str, str]]:
        """Yield the scores (run, mode) that the row is computed from."""
        for run in self.runs:
            for mode in self.modes:
                yield run, mode


# Appendix A.2: protocol 2's classes are those of the best classification system of section 4.5.
GUESSING = TableRow({"system": "best"}, ("D-jitter", "E-jitter"), ("dense", "crops"), False)


def rows(table: str, params: Params) -> list[TableRow]:
    """Return the rows of table3 ... table10, shallow and initialisation, with the matching runs of `params`."""
    return list(_READERS[table](params)) if table in _READERS else []


def tables_of(params: Params) -> list[str]:
    """Return the tables that the active profile has: all but those of boxes, other sets and weights that it lacks."""
    known = [name for name in TITLES if name not in LOCALISATION or params.localises]
    return [name for name in known if name in NO_DATA or sets_of(params, name) or rows(name, params)]


def number_of(table: str) -> str:
    """Return how people call a table on the command line: 4 for table4, shallow for itself."""
    return table.removeprefix("table")


def printed_errors(table: str) -> dict[str, dict[str, float | None]]:
    """Return the paper's errors of Tables 3 to 8 by the key of their row."""
    return {", ".join(_label(row).values()): _errors(row) for row in printed(table)}


def printed(table: str) -> list[dict[str, str]]:
    """Return the paper's printed table, one dict per row."""
    with (PRINTED / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _label(row: Mapping[str, str]) -> dict[str, str]:
    """Return a printed row's label: net, S, Q and the method if it is named; or its entry, nets and method.

    A row of Table 8 has its layers and boxes.
    """
    if "regression" in row:
        return {"layers": row["fine_tuned_layers"], "boxes": row["regression"]}
    if "entry" in row:
        return {"entry": row["entry"]}
    if "row" in row:
        return {"row": row["row"], "runs": row["runs"].replace(" ", ", "), "method": row["method"]}
    method = {"method": row["method"]} if "method" in row else {}
    return {"net": row["net"], "S": row["train_scale"], "Q": row["test_scales"], **method}


def _by_scale(table: str, params: Params, single: bool) -> Iterator[TableRow]:
    for row in printed(table):
        run = find_run(params, row["net"], row["train_scale"])
        yield TableRow(_label(row), (run,), METHODS[row.get("method", "dense")], single, _errors(row))


def _by_name(table: str, params: Params) -> Iterator[TableRow]:
    for row in printed(table):
        runs = tuple(row["runs"].split())
        _check_named(params, runs)
        yield TableRow(_label(row), runs, METHODS.get(row["method"], ()), False, _errors(row))


def _shallow(params: Params) -> Iterator[TableRow]:
    for net in ("B", "shallow"):
        label = {"net": net, "S": "256", "Q": str(MODES["centre"].scale)}
        yield TableRow(label, (find_run(params, net, "256"),), ("centre",), True)


def _table8(params: Params) -> Iterator[TableRow]:
    """Yield the rows of protocol 1: one central crop, the box of the true class."""
    for row in printed("table8"):
        label = _label(row)
        name = CENTRAL[label["layers"], label["boxes"]]
        _check_localiser(params, name)
        yield TableRow(label, (name,), (CENTRE_BOXES,), True, _errors(row))


def _table9(params: Params) -> Iterator[TableRow]:
    """Yield the rows of protocol 2, each with its localisers, all of whose layers are trained, and their Q."""
    for row in printed("table9"):
        pairs = re.findall(r"(\d+)/([\d ]+\d)", row["train_scale"]) or [(row["train_scale"], row["test_scales"])]
        scales = {f"PCR-{s}": tuple(map(int, q.split())) for s, q in pairs}
        for name, asked in scales.items():
            _check_localiser(params, name)
            if name not in params.windows or not set(asked) <= set(params.windows[name].scales):
                wanted = ", ".join(map(str, asked))
                raise UsageError(f"Table 9 needs {name} at Q = {wanted}: add what is missing to windows.{name}")
        kind, _, fused = row["train_scale"].partition(": ")
        label = {"S": kind, "Q": fused or row["test_scales"]}
        yield TableRow(label, tuple(scales), (WINDOWS,), False, _errors(row), scales)


def _table10(params: Params) -> Iterator[TableRow]:
    """Yield the paper's row, which is Table 9's last, and other people's."""
    *_, best = _table9(params)
    for row in printed("table10"):
        label = {"method": row["method"]}
        ours = row["method"] == "VGG"
        yield TableRow(label, best.runs if ours else (), best.modes if ours else (), False, _errors(row),
                       best.scales if ours else {})  # fmt: skip


def _check_localiser(params: Params, name: str) -> None:
    """Raise UsageError if there is no localiser of this name, or if others of its layers are trained."""
    layers = "fc" if name.endswith("-fc") else "all"
    if name not in params.localisers:
        raise UsageError(f"params.yaml has no localiser {name}: Tables 8 and 9 need it under this name")
    if params.localisers[name].layers != layers:
        raise UsageError(f"Tables 8 and 9 need layers: {layers} under the name {name}, but localisers.{name} differs")


def other_localisers(params: Params, table: str) -> list[str]:
    """Return in what the localisers of a table deviate from the paper's: net D at the S that their name says."""
    notes = []
    for name in dict.fromkeys(run for row in rows(table, params) for run in row.runs if run in params.localisers):
        run, side = params.localiser_run(name), int(name.split("-")[1])
        if (run.net, run.scales) != ("D", (side, side)):
            notes.append(f"{name} starts from {run.init} (net {run.net}, S = {printed_scale(run.scales)})")
    return notes


def _initialisation(params: Params) -> Iterator[TableRow]:
    """Yield the rows of section 3.1's comparison; none if the active profile does not have it."""
    block = params.active.initialisation
    for net, initial in initialised(block.nets if block else ()):
        yield TableRow({"net": net, "init": INITIAL[initial]}, (f"{net}-{initial}",), ("centre",), True)


_READERS = {
    "table3": lambda params: _by_scale("table3", params, True),
    "table4": lambda params: _by_scale("table4", params, False),
    "table5": lambda params: _by_scale("table5", params, False),
    "table6": lambda params: _by_name("table6", params),
    "table7": lambda params: _by_name("table7", params),
    "table8": _table8,
    "table9": _table9,
    "table10": _table10,
    "shallow": _shallow,
    "initialisation": _initialisation,
}


def _errors(row: Mapping[str, str]) -> dict[str, float | None]:
    """Return a printed row's errors; that of Table 8, of the true class's box, as the top-1 error."""
    row = {"top1_val": row.get("gt_class_localisation_error", ""), **row}
    return {name: float(row[name]) if row.get(name) else None for name in ("top1_val", "top5_val", "top5_test")}


def published_errors(
    params: Params, run: str, record: Mapping[str, Any]
) -> Iterator[tuple[str, int, list[dict[str, str]]]]:
    """Yield mode, Q and rows of the published errors for the imported net of `run`, identified by its `record`."""
    convention = record["input"]
    unit = all(abs(std * 255 / convention["range"] - 1) < 1e-6 for std in convention["std"])
    whose = "authors" if unit else "torchvision"  # the authors trained without dividing by a standard deviation
    rows = [row for row in printed("published_nets") if (row["net"], row["whose"]) == (params.runs[run].net, whose)]
    for mode, scale in sorted({(row["mode"], row["test_scale"]) for row in rows}):  # the centre crop first
        yield mode, int(scale), [row for row in rows if (row["mode"], row["test_scale"]) == (mode, scale)]


def printed_scale(scales: Sequence[int]) -> str:
    """Return S as the paper prints it, from one S or the smallest and the largest: 256 or 256-512."""
    return "-".join(dict.fromkeys(map(str, scales)))


def find_run(params: Params, net: str, scale: str) -> str:
    """Return the run that the tables have for `net` at the printed scale S. It is asked for by name: D-384, D-jitter.

    Raise UsageError if params.yaml has no run of this name, net and scale whose layers are all trained.
    """
    sides = tuple(int(side) for side in scale.split("-"))
    name = f"{net}-{scale if len(sides) == 1 else 'jitter'}"
    wanted = f"net {net}, S = {scale}, layers: all"
    if name not in params.runs:
        raise UsageError(f"params.yaml has no run {name} ({wanted}): the paper's tables need it under this name")
    run = params.runs[name]
    if (run.net, run.layers, run.scales) != (net, "all", (sides[0], sides[-1])):
        raise UsageError(f"the paper's tables need {wanted} under the name {name}, but runs.{name} differs")
    return name


def _check_named(params: Params, runs: Sequence[str]) -> None:
    for run in runs:
        if run not in params.runs:
            raise UsageError(f"params.yaml has no run {run}: the paper's tables need it under this name")
