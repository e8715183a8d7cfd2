"""A table's JSON as Markdown that reads well on a Git host and in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tabulate import tabulate

from pipeline.grid import TITLES

NONE = "–"
HEADINGS = {"net": "net", "S": "train S", "Q": "test Q", "row": "entry", "entry": "entry", "runs": "nets"}


def table_text(values: dict[str, Any]) -> str:
    """Heading, table and notes of one table's values."""
    bodies = {"table1": _configurations, "table2": _parameters}
    body = bodies.get(values["table"], _errors)(values)
    return "\n\n".join([f"## {title(values['table'])}", body, *_notes(values)])


def title(name: str) -> str:
    """Table `name`'s number and title."""
    return f"{heading(name)}. {TITLES[name]}"


def heading(name: str) -> str:
    """What table `name` is called in a text."""
    return "Section 4.1" if name == "shallow" else f"Table {name.removeprefix('table')}"


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns whose numbers are in `right` are flush right."""
    align = ["right" if column in right else "left" for column in range(len(headings))]
    return tabulate(rows, headings, tablefmt="pipe", colalign=align if rows else None, disable_numparse=True)


def plain(text: str) -> str:
    """A text of anyone's with what Markdown would take for its own made harmless."""
    for mark in ("\\", "|", "*", "`", "<", "["):
        text = text.replace(mark, f"\\{mark}")
    return text


def number(value: float | None) -> str:
    """A percentage to one decimal, or a dash."""
    return NONE if value is None else f"{value:.1f}"


def _configurations(values: dict[str, Any]) -> str:
    nets = values["columns"]
    rows = []
    for block in range(5):
        for depth in range(max(len(net["blocks"][block]) for net in nets)):
            stacks = [net["blocks"][block] for net in nets]
            rows.append([stack[depth] if depth < len(stack) else "" for stack in stacks])
        rows.append(["maxpool"] * len(nets))
    rows += [[layer] * len(nets) for layer in nets[0]["head"]]
    return grid([f"{net['net']} ({net['weight_layers']} layers)" for net in nets], rows)


def _parameters(values: dict[str, Any]) -> str:
    rows = [[r["net"], number(r["paper_millions"]).removesuffix(".0"), f"{r['parameters']:,}"] for r in values["rows"]]
    return grid(["net", "paper, millions", "ours, counted"], rows, right=(1, 2))


def _errors(values: dict[str, Any]) -> str:
    first = values["rows"][0]
    labels = list(first["label"])
    paper = [key for key in first["paper"] if any(row["paper"][key] is not None for row in values["rows"])]
    headings = [HEADINGS.get(key, key) for key in labels]
    headings += [PAPER[key] for key in paper] + [f"ours top-{k}" for k in sorted({1, values["k"]})]
    difference = values["comparable"] and paper
    rows = []
    for row in values["rows"]:
        cells = [row["label"][key] for key in labels] + [number(row["paper"][key]) for key in paper]
        ours = _ours(row)[: 1 if values["k"] == 1 else 2]
        rows.append(cells + ours + [_difference(row)] * bool(difference) + [_whose(row)] * ("published" in values))
    width = len(labels)
    headings += ["ours − paper"] * bool(difference) + ["ours from"] * ("published" in values)
    return grid(headings, rows, right=range(width, width + len(paper)))


PAPER = {"top1_val": "paper top-1", "top5_val": "paper top-5", "top5_test": "paper top-5, test"}


def _ours(row: dict[str, Any]) -> list[str]:
    if row["missing"]:
        more = f" and {len(row['missing']) - 1} more" if len(row["missing"]) > 1 else ""
        return [f"not run: `{row['missing'][0]}`{more}", ""]
    if row["ours"] is None:
        return ["not run", ""] if row["runs"] else [NONE, NONE]
    return [interval(row["ours"][key]) for key in ("top1", "topk")]


def _whose(row: dict[str, Any]) -> str:
    """Whose weights a row of ours is from."""
    if row["ours"] is None:
        return NONE
    published = row.get("published", [])
    if len(published) == len(row["runs"]):
        return "published weights"
    return f"published weights: {', '.join(published)}; others trained here" if published else "trained here"


def interval(found: dict[str, float]) -> str:
    """An error with its interval: 5.3 (3.6 to 7.8)."""
    return f"{found['error']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def _difference(row: dict[str, Any]) -> str:
    if row["ours"] is None:
        return NONE
    pairs = ((row["ours"]["top1"], row["paper"].get("top1_val")), (row["ours"]["topk"], row["paper"].get("top5_val")))
    return " / ".join(NONE if paper is None else f"{ours['error'] - paper:+.1f}" for ours, paper in pairs)


def _deviations(precision: dict[str, list[str]]) -> str:
    """What was not computed in float32, as the paper's framework did, in a sentence."""
    said = [f"{what} in {' and '.join(kinds)}" for what, kinds in precision.items() if set(kinds) - {"float32"}]
    if not said:
        return ""
    return (
        f"**Not in float32, in which the paper's framework computes:** {', '.join(said)}; weights, loss and soft-max "
        "are float32 here too."
    )


def published_text(record: dict[str, Any]) -> str:
    """Where a published net comes from, in a phrase."""
    known = record["known"]
    who = (
        f"{known['what']} by its {known['algorithm'].upper()} ({known['source']})" if known else "on no list known here"
    )
    if exported := record.get("exported"):
        before = exported.get("published")
        of = f", which was imported from `{plain(before['file'])}`" if before else ", trained by this toolkit"
        who = f"exported from {exported['run']}{of}"
    file = plain(record["file"])
    return f"`{file}`, SHA-256 `{record['sha256'][:16]}`, {who}; input {input_text(record['input'])}"


def input_text(said: dict[str, Any]) -> str:
    """How a net takes its pictures: BGR, 0 to 255, minus 103.939, 116.779, 123.68."""
    mean, deviation = (", ".join(f"{level:g}" for level in said[key]) for key in ("mean", "deviation"))
    divided = "" if set(said["deviation"]) == {1.0} else f", divided by {deviation}"
    return f"{said['channels']}, 0 to {said['range']:g}, minus {mean}{divided}"


def _notes(values: dict[str, Any]) -> Iterator[str]:
    name = values["table"]
    if name == "table1":
        yield (
            "Rendered from the strings that the nets are built from. conv3-64 is a 3x3 convolution with 64 channels; "
            "a ReLU follows every hidden layer, LRN stands behind the first one's."
        )
        return
    if name == "table2":
        yield (
            "The full nets at 1000 classes, weights and biases counted from the modules. The shallow net is "
            "section 4.1's, which the paper's table leaves out."
        )
        return
    seed = "" if values["seed"] is None else f", seed {values['seed']}"
    yield (
        f"Errors in per cent. Ours are on {values['images']:,} validation images of {values['data']}, with 95 % Wilson "
        f"intervals; profile `{values['profile']}`{seed}."
    )
    if deviations := _deviations(values.get("precision", {})):
        yield deviations
    if published := values.get("published"):
        listed = [f"{run} is {published_text(one).partition('; input')[0]}" for run, one in published.items()]
        yield f"Published weights: {'; '.join(listed)}. They stand in their runs' rows, however they were trained."
    if any(row["runs"] and row["ours"] is None and not row["missing"] for row in values["rows"]):
        yield (
            "Not run: rows of nets that nobody has imported (`vgg-repro weights import RUN FILE`). Profile `paper` "
            "trains them."
        )
    if values["k"] == 1:
        yield "With so few classes there is no top-5 error."
    elif values["k"] != 5:
        yield f"With so few classes, top-5 is top-{values['k']} here."
    if not values["comparable"]:
        yield "**Not comparable with the paper's numbers:** images, classes, nets or schedule are not all the paper's."
    if any(row["paper"].get("top5_test") is not None for row in values["rows"]):
        yield "The test column is the paper's alone: the labels of ILSVRC's test images are hidden."
    if name == "shallow":
        yield "The paper: the shallow net's top-1 error is 7 points above B's, at the centre crop."
