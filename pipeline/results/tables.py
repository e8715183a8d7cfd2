"""Tables 1 to 7 and section 4.1's comparison as values: the paper's rows next to our errors.

A table's page needs only its JSON. A table is computed by averaging the posteriors of its rows (section 4).
"""

from __future__ import annotations

from typing import Any

from pipeline.datasets.facts import Facts
from pipeline.errors import Failure
from pipeline.experiment.paper_tables import TableRow, printed, rows
from pipeline.experiment.params import NETS, Params
from pipeline.experiment.paths import table
from pipeline.results.scores import Scores, average
from pipeline.system.atomic_files import read_json
from vgg.errors import error, top_k

PRINTED_NETS = [net for net in NETS if net != "shallow"]


def table_values(name: str, params: Params, facts: Facts | None) -> dict[str, Any]:
    """Return the values of table `name`. Raise Failure if `facts` is None, which only Tables 1 and 2 accept."""
    head = {"table": name, "profile": params.profile}
    if name == "table1":
        return head | {"columns": configurations()}
    if name == "table2":
        return head | {"rows": parameter_counts()}
    if facts is None:
        raise Failure(f"{name} needs prepared data; make it with: vgg-repro prepare")
    scores = Scores(params, facts)
    entries = [_row(row, scores) for row in rows(name, params)]
    values = head | {
        "k": top_k(len(facts.classes)),
        "classes": len(facts.classes),
        "images": facts.val,
        "data": facts.source,
        "manifest": facts.manifest,
        "comparable": facts.comparable and params.active.net.size_ratio == params.active.net.width_ratio == 1,
        "rows": entries,
        "seed": params.active.train.seed if params.active.train else None,
        "weights": scores.weights(),
        "scores": scores.hashes(),
        "precision": scores.precisions(),
    }
    return values | {"published": scores.published} if scores.published else values


def read_table(profile: str, name: str) -> dict[str, Any]:
    """Return a table's values from its JSON; an empty dict if there is none. Raise Failure if it is broken."""
    path = table(profile, name)
    values: dict[str, Any] = read_json(path, f"dvc repro {name}") if path.exists() else {}
    return values


def configurations() -> list[dict[str, Any]]:
    """Return Table 1, one dict per net: its layers by block, the FC layers and the number of weight layers."""
    from vgg.nets import blocks, weight_layers

    head = ["FC-4096", "FC-4096", "FC-1000", "soft-max"]
    return [
        {
            "net": net,
            "weight_layers": weight_layers(net),
            "blocks": [[f"conv{c.kernel}-{c.channels}" if c.kernel else "LRN" for c in block] for block in blocks(net)],
            "head": head,
        }
        for net in PRINTED_NETS
    ]


def parameter_counts() -> list[dict[str, Any]]:
    """Return Table 2 and the shallow net: the paper's millions and exact counts of the full nets at 1000 classes."""
    from vgg.nets import parameters

    paper = {row["net"]: float(row["parameters_millions"]) for row in printed("table2")}
    return [{"net": net, "paper_millions": paper.get(net), "parameters": parameters(net)} for net in NETS]


def _row(row: TableRow, scores: Scores) -> dict[str, Any]:
    """Return one row's values. `ours` is None if scores are missing and for other people's rows."""
    lacking = [need for need in row.needs() if not scores.has(*need)]
    missing = [f"vgg-repro score {mode} {run}" for run, mode in lacking if (run, mode) in scores.possible]
    values: dict[str, Any] = {
        "label": dict(row.label), "runs": list(row.runs), "scores": [f"{mode}@{run}" for run, mode in row.needs()],
        "paper": dict(row.paper), "ours": None, "missing": missing
    }  # fmt: skip
    if row.runs and not lacking:
        mean, labels = average(row, scores)
        k = top_k(mean.shape[1])
        values["ours"] = {"top1": error(mean, labels, 1)._asdict(), "topk": error(mean, labels, k)._asdict()}
        if published := [run for run in row.runs if run in scores.published]:
            values["published"] = published
    return values
