"""The paper's tables as data: titles, printed numbers, and the runs and modes that each row needs (section 4)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.experiment.modes import MODES
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
    "shallow": "A shallow net of 5x5 filters against B of 3x3",
    "initialisation": "Initial weights of deep nets",
}
NO_DATA = ("table1", "table2")  # tables of the nets alone, without images
LATER = {
    "table8": "localisation (appendix A)",
    "table9": "localisation (appendix A)",
    "table10": "localisation (appendix A)",
    "table11": "other data sets (appendix B)",
    "table12": "action classification (appendix B)",
}  # not built yet: they need stages of their own, not only a row here
INITIAL = {NORMAL: "normal", FROM_A: "A's layers, others normal", GLOROT: "Glorot"}  # of section 3.1, as labels
METHODS = {"dense": ("dense",), "multi-crop": ("crops",), "multi-crop & dense": ("dense", "crops")}  # as printed


@dataclass(frozen=True)
class TableRow:
    """A row of a printed table: its label, its runs and modes, and the paper's errors in per cent."""

    label: Mapping[str, str]  # column to text, as printed
    runs: tuple[str, ...]  # averaged; empty for other people's rows
    modes: tuple[str, ...]  # averaged
    single: bool  # one test scale, else all of the run's
    paper: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the row's name in its table: D, 256-512, 256 384 512."""
        return ", ".join(self.label.values())

    def needs(self) -> Iterator[tuple[str, str]]:
        """Yield the scores (run, mode) that the row is computed from."""
        for run in self.runs:
            for mode in self.modes:
                yield run, mode


def rows(table: str, params: Params) -> list[TableRow]:
    """Return the rows of table3 ... table7, shallow and initialisation, with the matching runs of `params`."""
    return list(_READERS[table](params)) if table in _READERS else []


def tables_of(params: Params) -> list[str]:
    """Return the tables that the active profile has: all, but `initialisation` only if the profile asks for it."""
    return [name for name in TITLES if name in NO_DATA or rows(name, params)]


def number_of(table: str) -> str:
    """Return how people call a table on the command line: 4 for table4, shallow for itself."""
    return table.removeprefix("table")


def printed_errors(table: str) -> dict[str, dict[str, float | None]]:
    """Return the paper's errors of Tables 3 to 7 by the key of their row."""
    return {", ".join(_label(row).values()): _errors(row) for row in printed(table)}


def printed(table: str) -> list[dict[str, str]]:
    """Return the paper's printed table, one dict per row."""
    with (PRINTED / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _label(row: Mapping[str, str]) -> dict[str, str]:
    """Return a printed row's label: net, S, Q and the method if it is named; or its entry, nets and method."""
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
    "shallow": _shallow,
    "initialisation": _initialisation,
}


def _errors(row: Mapping[str, str]) -> dict[str, float | None]:
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
