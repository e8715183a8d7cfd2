"""Tables 1 to 12 and section 4.1's comparison: one page each, and the section for the index and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt
from typing import Any

from pipeline.experiment.paper_tables import INITIAL, OTHER_SETS
from pipeline.experiment.run_names import NORMAL
from pipeline.results.cell_verdicts import PRINTED, cell_verdict
from pipeline.results.row_choice import RowName
from pipeline.results.run_chain import chance
from reports.other_sets_page import other_sets_body
from reports.page import (
    Block,
    Callout,
    Code,
    Heading,
    Judged,
    Opener,
    Page,
    Paragraph,
    Strong,
    Table,
    Text,
    join,
    left,
    right,
)
from reports.page_parts import ALL_TABLES, DAGGER, difference, is_older, outdated_note, row_panel
from reports.phrases import NONE, interval, number, published_file, table_title
from vgg.judgement import Verdict

HEADINGS = {
    "S": "train S", "Q": "test Q", "row": "entry", "runs": "nets", "init": "initial weights",
    "layers": "fine-tuned layers", "boxes": "regression",
}  # fmt: skip
PAPER = {"top1_val": "paper top-1", "top5_val": "paper top-5", "top5_test": "paper top-5, test"}


def table_page(values: dict[str, Any], warning: Callout, charts: Iterable[Block], outdated: Mapping[str, str]) -> Page:
    """Return the page of one table's values, with its charts. Rows of the stages in `outdated` are marked."""
    return (Heading(1, table_title(values["table"])), warning, *_body(values, outdated), *charts, ALL_TABLES)


def table_section(values: dict[str, Any], outdated: Mapping[str, str]) -> Page:
    """Return heading, table and notes of one table's values. Rows of the stages in `outdated` are marked."""
    return (Heading(2, table_title(values["table"])), *_body(values, outdated))


def results_table(values: dict[str, Any], outdated: Mapping[str, str]) -> Table:
    """Return one table's values as a table. Rows of the stages in `outdated` are marked."""
    builders = {"table1": _configurations, "table2": _parameters}
    if values["table"] in builders:
        return builders[values["table"]](values)
    return _errors(values, outdated)


def _stages(values: dict[str, Any]) -> list[str]:
    """Return the stages that a table's errors come from, itself first."""
    return [
        values["table"],
        *(stage for row in values.get("rows", ()) for stage in row.get("scores", ()) if row["ours"]),
    ]


def _body(values: dict[str, Any], outdated: Mapping[str, str]) -> Iterator[Block]:
    if values["table"] in OTHER_SETS:
        yield from other_sets_body(values, outdated)
        return
    if not values.get("rows", True):
        yield Paragraph(_nothing(values))
        return
    notes = {"table1": _configuration_notes, "table2": _parameter_notes}.get(values["table"], _error_notes)
    yield results_table(values, outdated)
    if note := outdated_note(_stages(values), outdated):
        yield Paragraph(note)
    yield from (Paragraph(note) for note in notes(values))


def _nothing(values: dict[str, Any]) -> Text:
    profile = values["profile"]
    return (
        *("Profile ", Code(profile), " has no such runs: it has no ", Code("initialisation"), " in params.yaml. "),
        *("Write that block, then ", Code(f"vgg-repro prepare --profile {profile}"), "."),
    )


def _configurations(values: dict[str, Any]) -> Table:
    nets = values["columns"]
    rows = []
    for block in range(5):
        for depth in range(max(len(net["blocks"][block]) for net in nets)):
            stacks = [net["blocks"][block] for net in nets]
            rows.append([stack[depth] if depth < len(stack) else "" for stack in stacks])
        rows.append(["maxpool"] * len(nets))
    rows += [[layer] * len(nets) for layer in nets[0]["head"]]
    return Table(
        left(*(f"{net['net']} ({net['weight_layers']} layers)" for net in nets)), tuple(map(tuple, rows)), ordered=True
    )


def _configuration_notes(values: dict[str, Any]) -> Iterator[Text]:
    yield (
        "Rendered from the strings that the nets are built from. conv3-64 is a 3x3 convolution with 64 channels. "
        "A ReLU follows every hidden layer; LRN follows the first ReLU."
    )


def _parameters(values: dict[str, Any]) -> Table:
    rows = [(r["net"], number(r["paper_millions"]).removesuffix(".0"), f"{r['parameters']:,}") for r in values["rows"]]
    return Table((*left("net"), *right("paper, millions", "ours, counted")), tuple(rows))


def _parameter_notes(values: dict[str, Any]) -> Iterator[Text]:
    yield (
        "The full nets at 1000 classes, weights and biases counted from the modules. The shallow net is "
        "section 4.1's, which the paper's table does not have."
    )


def _errors(values: dict[str, Any], outdated: Mapping[str, str]) -> Table:
    first = values["rows"][0]
    labels = list(_label(values["table"], first))
    paper = [key for key in first["paper"] if any(row["paper"][key] is not None for row in values["rows"])]
    compared, published = bool(values["comparable"] and paper), "published" in values
    ours = ["ours"] if values["table"] == "table8" else [f"ours top-{k}" for k in sorted({1, values["k"]})]
    centre = any("centre" in row for row in values["rows"])
    columns = (
        *left(*(HEADINGS.get(key, key) for key in labels)),
        *right(*("paper" if ours == ["ours"] else PAPER[key] for key in paper)),
        *left(
            *ours, *["ours, centre crop"] * centre, *["ours − paper", "verdict"] * compared, *["ours from"] * published
        ),
    )
    rows = []
    for row in values["rows"]:
        cells: list[Text] = [*_label(values["table"], row).values(), *(number(row["paper"][key]) for key in paper)]
        cells += _ours(values["table"], row)[: len(ours)]
        if row["ours"] and is_older(values["table"], row["scores"], outdated):
            cells[0] = f"{cells[0]} {DAGGER}"
        cells += [number(row.get("centre"))] * centre
        rows.append((*cells, *[_difference(row), _verdicts(values, row)] * compared, *[_whose(row)] * published))
    return Table(columns, tuple(rows))


def _label(table: str, row: dict[str, Any]) -> dict[str, str]:
    """Return a row's label; of `initialisation` with what section 3.1 says of the net and its initial weights."""
    label: dict[str, str] = row["label"]
    if table != "initialisation":
        return label
    stalls = label["init"] == INITIAL[NORMAL] and label["net"] != "A"
    return {**label, "the paper": "may not train" if stalls else "trains"}


def _ours(table: str, row: dict[str, Any]) -> list[Text]:
    if row["missing"]:
        rest = f" and {len(row['missing']) - 1} more" if len(row["missing"]) > 1 else ""
        return [(Judged(Verdict.NOT_RUN), ": ", Code(row["missing"][0]), rest), ""]
    if row["ours"] is None:
        return [Judged(Verdict.NOT_RUN), ""] if row["runs"] else [NONE, NONE]
    panel = row_panel(table, RowName.of(row))
    return [Opener(interval(row["ours"][key]), panel) for key in ("top1", "topk")]


def _whose(row: dict[str, Any]) -> str:
    """Return whose weights our errors in a row are from."""
    if row["ours"] is None:
        return NONE
    published = row.get("published", [])
    if len(published) == len(row["runs"]):
        return "published weights"
    return f"published weights: {', '.join(published)}; others trained here" if published else "trained here"


def _difference(row: dict[str, Any]) -> str:
    if row["ours"] is None:
        return NONE
    pairs = ((row["ours"]["top1"], row["paper"].get("top1_val")), (row["ours"]["topk"], row["paper"].get("top5_val")))
    return " / ".join(NONE if paper is None else f"{ours['error'] - paper:+.1f}" for ours, paper in pairs)


def _verdicts(values: dict[str, Any], row: dict[str, Any]) -> Text:
    """Return whether a row's errors reproduce the paper's: top-1 / top-5."""
    verdicts = [cell_verdict(values, row, printed) for printed in PRINTED]
    if not any(verdicts) or row["ours"] is None:
        return NONE
    return join(" / ", (Judged(verdict) if verdict else NONE for verdict in verdicts))


def _rules(values: dict[str, Any]) -> Iterator[Text]:
    """Yield the rules by which the errors are judged."""
    rules = {row["rule"]["weights"]: row["rule"] for row in values["rows"] if "rule" in row}
    for weights, rule in sorted(rules.items()):
        error = 100 * sqrt(rule["share"] / values["images"])
        yield (
            Strong(f"Verdicts, {weights} weights:"),
            f" reproduced if the difference to the paper is within {rule['tolerance']:g} points with 95 % confidence, "
            "better or worse if it is beyond, else undecided. The paper's errors are of the same 50,000 images, so "
            "only images that the two networks decide differently make the difference random: by assumption "
            f"{100 * rule['share']:g} % of them, a standard error of {error:.2f} points.",
        )


def _error_notes(values: dict[str, Any]) -> Iterator[Text]:
    seed = "" if values["seed"] is None else f", seed {values['seed']}"
    yield (
        f"Errors in per cent. Ours are on {values['images']:,} validation images of {values['data']}, with 95 % Wilson "
        "intervals; profile ",
        Code(values["profile"]),
        f"{seed}.",
    )
    yield from _localisation_notes(values)
    yield from _rules(values)
    yield from _precision_notes(values.get("precision", {}))
    yield from _published_notes(values)
    if values["k"] == 1:
        yield "With so few classes there is no top-5 error."
    elif values["k"] != 5:
        yield f"With so few classes, top-5 is top-{values['k']} here."
    if not values["comparable"]:
        yield ("All numbers of ours: ", Judged(Verdict.NOT_COMPARABLE), f" with the paper's:{_departure(values)}")
    if any(row["paper"].get("top5_test") is not None for row in values["rows"]):
        yield "The test column has only the paper's values: the labels of ILSVRC's test images are not public."
    if block := values.get("initialisation"):
        yield (
            "All runs are trained at S = 256 and tested at the centre crop. Normal: zero mean, standard deviation "
            f"{block['std']:g}. Glorot: variance 2 / (fan-in + fan-out). The input is divided by "
            f"{block['input_scale']:g}. A net that does not train has the error of chance, "
            f"about {chance(values):.1f} %."
        )
    if values["table"] == "shallow":
        yield "The paper: the shallow net's top-1 error is 7 points above B's, at the centre crop."


def _localisation_notes(values: dict[str, Any]) -> Iterator[Text]:
    """Yield how boxes are judged and merged, and other localisers than the paper's; nothing for other tables."""
    notes = values.get("localisation")
    if not notes:
        return
    limit = "above" if notes["above"] else "of at least"
    left_out = f" without the images that `{notes['excluded']}` lists" if notes["excluded"] else ""
    yield (
        f"A box is right if it has an overlap {limit} 0.5 with any true box of its class; the overlap is that of the "
        f"development kit, whose sides are one pixel longer than between edges. Images with a true box count{left_out}."
    )
    if values["table"] == "table8":
        yield "One central crop at Q = S; the box of the true class (SCR: one box for all classes, PCR: one per class)."
    else:
        yield (
            f"An image is right if one of its first {values['k']} guesses, a class with a box, is right; top-1 is the "
            "first guess alone. The classes are those of D and E at jittered S, multi-crop & dense, as in Table 6."
        )
    if chosen := notes["thresholds"]:
        listed = "; ".join(f"{parts}: {value:g}" for parts, value in chosen.items())
        yield f"Thresholds of merging, chosen on {notes['tuning_images']:,} training images at most: {listed}."
    if notes["others"]:
        yield (Strong("Deviation:"), f" {'; '.join(notes['others'])}; the paper: a net D of the same S.")


def _departure(values: dict[str, Any]) -> str:
    """Return how the images of a table and its profile differ from the paper."""
    images = f" the data set is {values['data']} ({values['classes']:,} classes, {values['images']:,} for validation)"
    profile = difference(values["profile"])
    return f"{images}; the profile runs the paper's method {profile}." if profile else f"{images}."


def _precision_notes(precision: dict[str, list[str]]) -> Iterator[Text]:
    """Yield a note on what was not computed in float32, unlike in the paper's framework."""
    parts = [f"{what} in {' and '.join(kinds)}" for what, kinds in precision.items() if set(kinds) - {"float32"}]
    if parts:
        lead = Strong("Deviation:")
        yield (lead, f" {', '.join(parts)} (the paper: float32); weights, loss and softmax are float32 here too.")


def _published_notes(values: dict[str, Any]) -> Iterator[Text]:
    """Yield notes on which published weights replace trained ones, and which are missing."""
    if published := values.get("published"):
        listed = [(f"{run} is ", *published_file(record)) for run, record in published.items()]
        after = ". They are shown in their runs' rows, however they were trained."
        yield ("Published weights: ", *join("; ", listed), after)
    if any(row["runs"] and row["ours"] is None and not row["missing"] for row in values["rows"]):
        yield (
            "Not run: rows of nets that are not imported (",
            Code("vgg-repro weights import RUN FILE"),
            "). Profile ",
            Code("paper"),
            " trains them.",
        )
