"""Tables 1 to 10 and section 4.1's comparison as values: the paper's rows next to our errors.

A table's page needs only its JSON. A table is computed by averaging the posteriors of its rows (section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import Facts
from pipeline.datasets.manifest import groups_of, val_ids
from pipeline.errors import Failure
from pipeline.experiment.modes import MODES
from pipeline.experiment.paper_tables import LOCALISATION, TableRow, printed, rows
from pipeline.experiment.params import NETS, CellRule, Figure, Params
from pipeline.experiment.paths import CLASSIFICATION, table
from pipeline.experiment.run_names import score_stage
from pipeline.results.localisation import counted_images, localisation_notes, localised_ranks
from pipeline.results.ranks import GUESSED, Guesses, Ints, TableRanks, guesses_of
from pipeline.results.scores import Scores, average
from pipeline.system.atomic_files import read_json
from vgg.errors import error_of, ranks, top_k
from vgg.judgement import judge

PRINTED_NETS = [net for net in NETS if net != "shallow"]


class ComputedTable(NamedTuple):
    """A table's values, and the ranks of its rows that could be computed; no ranks for the tables of nets alone."""

    values: dict[str, Any]
    ranks: TableRanks | None


def compute_table(name: str, params: Params, facts: Facts | None) -> ComputedTable:
    """Return table `name`. Raise Failure if `facts` is None, which only Tables 1 and 2 accept."""
    head = {"table": name, "profile": params.profile}
    if name == "table1":
        return ComputedTable(head | {"columns": configurations()}, None)
    if name == "table2":
        return ComputedTable(head | {"rows": parameter_counts()}, None)
    if facts is None:
        raise Failure(f"{name} needs prepared data; make it with: vgg-repro prepare")
    scores, k = Scores(params, facts), top_k(len(facts.classes))
    boxed = name in LOCALISATION
    ranked = [(row, localised_ranks(row, scores, k) if boxed else row_ranks(row, scores)) for row in rows(name, params)]
    counted = _counted(ranked, scores) if boxed else None
    if counted is not None:
        ranked = [(row, None if ranks is None else ranks[counted]) for row, ranks in ranked]
    comparable = facts.comparable and params.active.net.papers_size
    rules = dict(params.evidence.cells) if comparable else {}
    entries = [_row(row, ranks, k, scores) for row, ranks in ranked]
    kept = {row.key: ranks for row, ranks in ranked if ranks is not None}
    values = head | {
        "k": k,
        "classes": len(facts.classes),
        "images": facts.val if counted is None else int(counted.sum()),
        "data": facts.source,
        "manifest": facts.manifest,
        "comparable": comparable,
        "rows": [entry | _judged(entry, rules) for entry in entries],
        "seed": params.active.train.seed if params.active.train else None,
        "weights": scores.weights(),
        "scores": scores.hashes(),
        "precision": scores.precisions(),
    }
    if boxed and params.active.localise:
        values["localisation"] = localisation_notes(params, name, scores)
    if name == "initialisation" and (block := params.active.initialisation):
        values["initialisation"] = block.model_dump()
    if scores.published:
        values["published"] = scores.published
    guesses = _best_guesses(ranked, scores) if name in GUESSED else None
    grouped = groups(facts)
    if counted is not None and len(grouped):
        grouped = grouped[counted]
    return ComputedTable(values, TableRanks(kept, grouped, facts.manifest, guesses))


def _counted(ranked: Sequence[tuple[TableRow, Ints | None]], scores: Scores) -> NDArray[np.bool_] | None:
    """Return which images (images,) a table of localisation counts; None if none of its rows is run."""
    run = next((row for row, ranks in ranked if ranks is not None), None)
    return counted_images(run, scores) if run else None


def _judged(entry: Mapping[str, Any], rules: Mapping[Figure, CellRule]) -> dict[str, Any]:
    """Return the verdicts on a row's cells, and their rule; nothing if the row is not run or without `rules`."""
    if not entry["ours"] or not rules:
        return {}
    kind: Figure = "published" if len(entry.get("published", ())) == len(entry["runs"]) else "trained"
    rule = rules[kind].model_dump()
    measured = (("top1_val", entry["ours"]["top1"]), ("top5_val", entry["ours"]["topk"]))
    verdicts = {
        name: judge(ours["error"], ours["images"], entry["paper"][name], **rule)._asdict()
        for name, ours in measured
        if entry["paper"].get(name) is not None
    }
    return {"judged": verdicts, "rule": {"weights": kind, **rule}}


def groups(facts: Facts) -> Ints:
    """Return the group of each image, (images,); an empty array if all images are independent."""
    return groups_of(CLASSIFICATION.manifest) if facts.grouped else np.zeros(0, np.int64)


def _best_guesses(ranked: Sequence[tuple[TableRow, Ints | None]], scores: Scores) -> Guesses | None:
    """Return the guesses of the row with the fewest wrong images, the first of equals; None if no row is run."""
    run = [(row, int((ranks > 0).sum())) for row, ranks in ranked if ranks is not None]
    if not run:
        return None
    best, _ = min(run, key=lambda counted: counted[1])
    known = CLASSIFICATION.manifest.exists()
    return guesses_of(best.key, *average(best, scores), val_ids(CLASSIFICATION.manifest) if known else ())


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


def row_ranks(row: TableRow, scores: Scores) -> Ints | None:
    """Return the ranks of a row's images (images,); None if a score is missing, and for other people's rows."""
    if not row.runs or not all(scores.has(*need) for need in row.needs()):
        return None
    return ranks(*average(row, scores))


def _maker(run: str, mode: str) -> str:
    """Return the command that makes a score."""
    return f"vgg-repro score {mode} {run}" if mode in MODES else f"dvc repro {score_stage(run, mode)}"


def _row(row: TableRow, ranks: Ints | None, k: int, scores: Scores) -> dict[str, Any]:
    """Return one row's values. `ours` is None if it has no ranks."""
    lacking = [need for need in row.needs() if not scores.has(*need)]
    missing = [_maker(run, mode) for run, mode in lacking if (run, mode) in scores.possible]
    if row.scales and not lacking and ranks is None:
        missing = ["dvc repro threshold"]
    values: dict[str, Any] = {
        "label": dict(row.label), "runs": list(row.runs), "scores": [score_stage(*need) for need in row.needs()],
        "paper": dict(row.paper), "ours": None, "missing": missing
    }  # fmt: skip
    if row.scales:
        values["scales"] = {run: list(scales) for run, scales in row.scales.items()}
    if ranks is not None:
        values["ours"] = {"top1": error_of(ranks, 1)._asdict(), "topk": error_of(ranks, k)._asdict()}
        if row.single and row.modes == ("dense",) and (centre := scores.centre_crop(row.runs[0])) is not None:
            values["centre"] = centre
        if published := [run for run in row.runs if run in scores.published]:
            values["published"] = published
    return values
