"""The rows that the report's charts are drawn from. Each chart's rows are also written next to it, as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.experiment.claims import JITTER
from pipeline.experiment.run_names import kind_of, work_of
from pipeline.results.illustrations import grid_values
from pipeline.results.profile_results import Results
from vgg.errors import error_of_rate
from vgg.nets import weight_layers

if TYPE_CHECKING:
    import pandas as pd

PAPER = "the paper, ILSVRC-2012"
LINES = {
    ("table3", "256"): "S = 256",
    ("table3", "384"): "S = 384",
    ("table3", JITTER): "S jittered",
    ("table4", JITTER): "S jittered, three Q",
}  # of a table and a training scale; the rest of Table 4 hardly differs from Table 3
FUSED = "D-jitter, E-jitter"
STEPS = (
    ("centre crop", "table3", {"S": JITTER}),
    ("dense, one Q", "table3", {"S": JITTER}),
    ("dense, three Q", "table4", {"S": JITTER}),
    ("50 crops, three Q", "table5", {"S": JITTER, "method": "multi-crop"}),
    ("crops and dense", "table5", {"S": JITTER, "method": "multi-crop & dense"}),
    ("D and E fused", "table6", {"runs": FUSED, "method": "multi-crop & dense"}),
)  # of the evaluation of one net: table and label of the row that a step's error is in
FAMILIES = ("from random weights", "warm start, S = 256", "fine-tuned, larger S", "jittered S")
MATRIX = 50  # classes of the largest confusion matrix; of more, the most confused pairs are shown
PAIRS = 20
TRUE, GUESS = "true class", "first guess"
WORK = ("train", "dense", "crops", "centre")
Values = Mapping[str, Any]


def depth_rows(results: Results) -> pd.DataFrame:
    """Return the paper's and our errors of Tables 3 and 4 by net and training scale; none if we have none.

    Where our nets have several seeds, `error` is their mean, and each seed has a row without an interval.
    """
    ours = [*_our_depths(results)] if "table3" in results.tables else []
    rows = [*_paper_depths(results), *ours] if ours else []
    return frame(rows, "source", "measure", "line", "net", "layers", "seed", "error", "low", "high")


def _lines(results: Results) -> Iterator[tuple[str, str, Values]]:
    """Yield table, line and row of each error that is drawn against depth."""
    for (name, scale), line in LINES.items():
        for row in results.tables.get(name, {}).get("rows", ()):
            if row["label"]["S"] == scale and row["label"]["net"] != "A-LRN":
                yield name, line, row


def _measures(results: Results) -> list[tuple[str, str]]:
    """Return the names of our errors, in words and in the tables."""
    k = results.tables["table3"]["k"]
    return [("top-1", "top1"), (f"top-{k}", "topk")][: 2 if k > 1 else 1]


def _paper_depths(results: Results) -> Iterator[dict[str, Any]]:
    shown = (("top-1", "top1_val"), ("top-5", "top5_val"))[: len(_measures(results))]
    for measure, key in shown:
        for _, line, row in _lines(results):
            yield _depth(PAPER, measure, line, row) | {"error": row["paper"][key]}


def _our_depths(results: Results) -> Iterator[dict[str, Any]]:
    source = f"{_whose(results)}, {results.tables['table3']['data']}"
    for measure, key in _measures(results):
        for table, line, row in _lines(results):
            if row["ours"]:
                head, first = _depth(source, measure, line, row), row["ours"][key]
                by_seed = errors_by_seed(results, table, row, key)
                several = _mean_of(by_seed, first["images"]) if len(by_seed) > 1 else {}
                yield head | ({name: first[name] for name in ("error", "low", "high")} | several)
                yield from (head | {"seed": seed, "error": error} for seed, error in by_seed.items() if several)


def _depth(source: str, measure: str, line: str, row: Values) -> dict[str, Any]:
    net = row["label"]["net"]
    return {"source": source, "measure": measure, "line": line, "net": net, "layers": weight_layers(net)}


def errors_by_seed(results: Results, table: str, row: Values, key: str) -> dict[str, float]:
    """Return the errors of a table's row by seed; `key` is top1 or topk. It is empty if the row is not repeated."""
    rows = (entry for entry in results.seeds.get("rows", ()) if entry["table"] == table)
    return next((entry[key]["by_seed"] for entry in rows if entry["label"] == row["label"]), {})


def _mean_of(by_seed: Mapping[str, float], images: int) -> dict[str, Any]:
    """Return the mean error over the seeds, with the interval that so many images give it."""
    error = mean(by_seed.values())
    interval = error_of_rate(error, images)
    return {"seed": f"mean of {len(by_seed)}", "error": error, "low": interval.low, "high": interval.high}


def _whose(results: Results) -> str:
    """Return whose weights the errors of Table 3 belong to."""
    marks = {"published" in row for row in results.tables["table3"]["rows"] if row["ours"]}
    return {(): "ours", (False,): "ours", (True,): "published weights"}.get((*marks,), "ours and published weights")


def waterfall_rows(results: Results) -> pd.DataFrame:
    """Return the top-1 errors of D and E after each step of the evaluation, and their changes in points.

    A net has rows if at least two of its steps are run; other steps have none. A change is to the row before.
    """
    rows: list[dict[str, Any]] = []
    for net in ("D", "E"):
        ours = dict(_steps(results, net, "ours"))
        paper = ((step, error) for step, error in _steps(results, net, "paper") if step in ours)
        for source, steps in (("the paper", paper), ("ours", ours.items())):
            if len(ours) > 1:
                rows += [{"net": net, "source": source, **row} for row in _changes(steps)]
    return frame(rows, "net", "source", "step", "error", "change")


def _steps(results: Results, net: str, whose: str) -> Iterator[tuple[str, float]]:
    """Yield the known steps with their errors."""
    for step, table, label in STEPS:
        wanted = label if table == "table6" else {"net": net, **label}
        rows = results.tables.get(table, {}).get("rows", ())
        row = next((row for row in rows if wanted.items() <= row["label"].items()), None)
        error = _error(row, whose, step == "centre crop") if row else None
        if error is not None:
            yield step, error


def _error(row: Values, whose: str, centre: bool) -> float | None:
    if whose == "paper":
        error: float | None = None if centre else row["paper"]["top1_val"]
        return error
    return row.get("centre") if centre else row["ours"] and row["ours"]["top1"]["error"]


def _changes(steps: Iterable[tuple[str, float]]) -> Iterator[dict[str, Any]]:
    before: float | None = None
    for step, error in steps:
        yield {"step": step, "error": error, "change": None if before is None else error - before}
        before = error


def shallow_rows(results: Results) -> pd.DataFrame:
    """Return the errors of B and of the shallow net at the centre crop; none unless both are run."""
    table = results.tables.get("shallow", {"rows": ()})
    rows = [{"net": row["label"]["net"], **_interval(row["ours"]["top1"])} for row in table["rows"] if row["ours"]]
    return frame(rows if len(rows) == 2 else [], "net", "error", "low", "high")


def _interval(value: Values) -> dict[str, float]:
    return {name: value[name] for name in ("error", "low", "high")}


def curves_rows(results: Results) -> pd.DataFrame:
    """Return every epoch of the grid's runs, by family; `drop` is 1 in the first epoch at a lower learning rate."""
    runs = sorted((FAMILIES.index(_family(results.summaries[run])), run) for run in results.histories
                  if not kind_of(run))  # fmt: skip
    rows: list[Values] = []
    for family, run in runs:
        head = {"family": FAMILIES[family], "run": run, "net": results.summaries[run]["net"]}
        history = results.histories[run]
        epochs = history.assign(epoch=history["epoch"] + 1, drop=(history["learning_rate"].diff() < 0).astype(int))
        rows += [{**head, **{str(name): value for name, value in row.items()}} for row in epochs.to_dict("records")]
    return frame(rows, "family", "run", "net", "epoch", "top1", "loss", "learning_rate", "drop")


def _family(summary: Values) -> str:
    """Return the family of a run: how it starts, and its training scale."""
    scratch, warm, fine, jittered = FAMILIES
    if isinstance(summary["scale"], list):
        return jittered
    if summary["init"].startswith("random-"):
        return scratch
    return warm if summary["scale"] == 256 else fine


def timeline_rows(results: Results) -> pd.DataFrame:
    """Return when each run was trained and scored and where, in hours from the first start.

    Results whose start is not recorded are skipped.
    """
    from datetime import datetime

    known = [(stage, record) for stage, record in results.known_provenance.items() if record and record.get("started")]
    timed = sorted((record["started"], stage, record) for stage, record in known if work_of(stage)[0] in WORK)
    rows = []
    for started, stage, record in timed:
        work, run = work_of(stage)
        hours = (datetime.fromisoformat(started) - datetime.fromisoformat(timed[0][0])).total_seconds() / 3600
        place = {"machine": record["machine"], "device": record["device"], "started": started}
        rows.append({"run": run, "work": work, **place, "hours": hours, "took": record["seconds"] / 3600})
    return frame(rows, "run", "work", "machine", "device", "started", "hours", "took")


def confusion_rows(results: Results) -> pd.DataFrame:
    """Return the number of images by true class and first guess, a column per guess; none above MATRIX classes."""
    if results.guesses is None or len(results.facts["classes"]) > MATRIX:
        return frame([], TRUE)
    import pandas as pd

    names = results.facts["classes"]
    counts = np.zeros((len(names), len(names)), int)
    guesses = results.guesses[1]
    np.add.at(counts, (guesses.labels, guesses.classes[:, 0]), 1)
    return pd.concat([pd.Series(names, name=TRUE), pd.DataFrame(counts, columns=names)], axis=1)


def confused_rows(results: Results) -> pd.DataFrame:
    """Return the pairs of true class and first guess that most images have; none up to MATRIX classes."""
    names = results.facts["classes"] if results.facts else []
    rows: list[Values] = []
    if results.guesses and len(names) > MATRIX:
        guesses = results.guesses[1]
        trues, firsts = guesses.labels.tolist(), guesses.classes[:, 0].tolist()
        pairs = Counter(pair for pair in zip(trues, firsts, strict=True) if pair[0] != pair[1])
        for (true, guess), images in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]:
            pair = {"true": true, TRUE: names[true], "guess": guess, GUESS: names[guess]}
            rows.append({**pair, "images": images, "of": trues.count(true)})
    return frame(rows, "true", TRUE, "guess", GUESS, "images", "of")


def filters_rows(results: Results) -> pd.DataFrame:
    """Return the first layer's filters of one net, the strongest first, with a column per colour, line and column."""
    places = [f"{colour} {y} {x}" for colour in "RGB" for y in range(3) for x in range(3)]
    rows: list[Values] = []
    if results.filters:
        run, values = results.filters.run, results.filters.values.astype(float)
        norms = np.linalg.norm(values.reshape(len(values), -1), axis=1)
        for number in np.argsort(-norms, kind="stable").tolist():
            head = {"run": run, "filter": number, "norm": norms[number]}
            rows.append(head | dict(zip(places, values[number].flat, strict=True)))
    return frame(rows, "run", "filter", "norm", *places)


def receptive_rows(results: Results) -> pd.DataFrame:
    """Return the gradient of the middle output of section 2.3's stacks for each pixel of their input."""
    rows: list[Values] = []
    for stack in results.illustrations.fields.stacks if results.illustrations else ():
        name = stack_name(stack.kernels)
        for (y, x), gradient in np.ndenumerate(grid_values(stack.gradient)):
            rows.append({"layers": name, "y": y, "x": x, "gradient": gradient})
    return frame(rows, "layers", "y", "x", "gradient")


def stack_name(kernels: Sequence[int]) -> str:
    """Return stacked layers of one size in words: three 3x3."""
    return f"{('one', 'two', 'three')[len(kernels) - 1]} {kernels[0]}x{kernels[0]}"


def frame(rows: Sequence[Values], *columns: str) -> pd.DataFrame:
    """Return rows as a table that has these columns even if there is no row."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
