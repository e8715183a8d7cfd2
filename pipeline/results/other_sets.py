"""Appendix B from what is on disk: descriptors from the kept features, and Tables 11 and 12 from the SVMs' measures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import PREPARE, Facts, read_facts
from pipeline.datasets.readers.base import Examples
from pipeline.experiment.other_sets import (
    COLUMNS,
    DESCRIBED,
    IMAGE,
    IMAGE_AND_BOX,
    MEASURES,
    METHODS,
    NETS_OF,
    PROTOCOLS,
    Protocol,
    classified_by,
    features_stage,
    sets_of,
    svm_stage,
    systems_of,
    variants,
)
from pipeline.experiment.paper_tables import printed
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified, features
from pipeline.experiment.server_sets import OF_SOURCE
from pipeline.results.array_file import arrays_in
from pipeline.system.atomic_files import read_json, sha256
from vgg.descriptors import aggregated

Difference = Literal["networks", "images", "subset"]  # subset: val instead of test
BOXES = "boxes-"  # prefix of the features of boxes
NUMBER = re.compile(r"([\d.]+)(?: ± ([\d.]+))?")


class KeptFeatures(NamedTuple):
    """A data set's features by one net: a file of arrays, and its record."""

    path: Path
    record: dict[str, Any]

    def at(self, scale: int, kind: str = "") -> NDArray[np.floating]:
        """Return the activations (images, F) at one Q, or of BOXES (examples, F). Raise Failure if they are broken."""
        with arrays_in(self.path, "delete it, and repeat its stage") as arrays:
            return arrays[f"{kind}{scale}"]


def read_features(name: str, run: str) -> KeptFeatures:
    """Return a data set's features by the net of `run`. Raise Failure if they are missing."""
    path = features(name, run)
    return KeptFeatures(path, read_json(path.with_suffix(".json"), f"dvc repro {features_stage(name, run)}"))


def descriptors_of(
    params: Params, name: str, runs: Sequence[str], variant: str, examples: Examples
) -> NDArray[np.float32]:
    """Return the descriptors (examples, numbers) of a data set: of each net, and of image and box, side by side.

    Each part is aggregated over Q and has length 1.
    """
    row, choices = params.datasets[name], params.active.transferring
    kinds = {IMAGE: ("",), IMAGE_AND_BOX: ("", BOXES)}[variant]
    parts = []
    for kept in (read_features(name, run) for run in runs):
        for kind in kinds:
            scales = [kept.at(scale, kind) for scale in row.scales]
            part = aggregated(scales, row.aggregate, choices.normalise)
            parts.append(part if kind else part[examples.images])
    return np.hstack(parts)


def compute_other_sets(table: str, params: Params) -> dict[str, Any]:
    """Return Table 11 or 12 as values: the paper's rows, and ours of each data set that params.yaml has."""
    names = sets_of(params, table)
    systems = systems_of(table)
    found = {
        (name, system): current_record(params, name, classified(table, name, system), svm_stage(name, system))
        for name in names for system in systems
    }  # fmt: skip
    known = {stage: values for stage, values in found.items() if values}
    return {
        "table": table,
        "profile": params.profile,
        "sets": {name: _set(params, name, [found[name, system] for system in systems]) for name in names},
        "rows": list(_rows(table, params, found)),
        "weights": {run: net["weights_sha256"] for values in known.values() for run, net in values["nets"].items()},
        "scores": {svm_stage(*stage): values["scores_sha256"] for stage, values in known.items()},
        "published": {
            run: net["published"]
            for values in known.values() for run, net in values["nets"].items() if "published" in net
        },
    }  # fmt: skip


def current_record(params: Params, name: str, scores: Path, stage: str) -> dict[str, Any]:
    """Return the record of a data set's SVMs; an empty dict if it is not of the current images and labels.

    `scores` is the file of their scores, which `stage` makes.
    """
    path, data_set = scores.with_suffix(".json"), DataSet(name)
    if not path.exists() or not data_set.facts(params.profile).exists():
        return {}
    record: dict[str, Any] = read_json(path, f"dvc repro {stage}")
    asked = (params.profile, read_facts(params.profile, data_set).manifest, params.weights == "published")
    published = any("published" in net for net in record["nets"].values())
    same = (record["profile"], record["data"], published) == asked
    return record if same and are_current(name, record.get("annotations")) else {}


def are_current(name: str, annotations: str | None) -> bool:
    """Return True unless a data set has other annotations on this machine than those with this hash, if it is known."""
    path = DataSet(name).examples
    return annotations is None or not path.exists() or annotations == sha256(path)


def set_records(params: Params) -> dict[str, Path]:
    """Return the records of the features and SVMs of all data sets by runs of params.yaml, by stage, if made or not."""
    found: dict[str, Path] = {}
    runs = [run for run in DESCRIBED if run in params.runs]
    for name, row in params.datasets.items():
        found |= {features_stage(name, run): features(name, run).with_suffix(".json") for run in runs}
        systems = [one for one in systems_of(row.table) if set(NETS_OF[one]) <= set(runs)]
        found |= {svm_stage(name, one): classified(row.table, name, one).with_suffix(".json") for one in systems}
    return found


def is_current(profile: str, name: str, manifest: str | None, annotations: str | None = None) -> bool:
    """Return True unless a data set has other images or annotations on this machine than those with these hashes.

    `manifest` is None if nothing of the set is run, `annotations` if they are not known.
    """
    facts = DataSet(name).facts(profile)
    known = read_json(facts, f"{PREPARE} {name}")["manifest"] if facts.exists() else manifest
    return manifest in (None, known) and are_current(name, annotations)


def current_part(values: Mapping[str, Any], is_same: Callable[[str, str | None, str | None], bool]) -> dict[str, Any]:
    """Return Table 11 or 12 as if the data sets whose images or annotations have changed since were not run.

    `is_same` is `is_current` of the profile: of a set's name and its hashes.
    """
    changed = {
        name for name, one in values["sets"].items() if not is_same(name, one["manifest"], one.get("annotations"))
    }
    nothing = dict.fromkeys(("about", "manifest", "annotations", "classes", "examples"))
    rows = [
        row | {"ours": None, "missing": [f"dvc repro {stage}" for stage in row["scores"]]}
        if row["set"] in changed else row
        for row in values["rows"]
    ]  # fmt: skip
    return {
        **values,
        "rows": rows,
        "sets": {name: one | nothing if name in changed else one for name, one in values["sets"].items()},
        "scores": {stage: of for stage, of in values["scores"].items() if classified_by(stage)[0] not in changed},
    }


def unconverged(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the classes whose SVMs did not converge in any split, for each C."""
    costs = sorted({cost for split in values["splits"] for cost in split["unconverged"]}, key=float)
    return {
        cost: list(dict.fromkeys(name for split in values["splits"] for name in split["unconverged"].get(cost, ())))
        for cost in costs
    }


def _set(params: Params, name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what people should know about a data set and its protocol."""
    row, path = params.datasets[name], DataSet(name).facts(params.profile)
    facts = read_facts(params.profile, DataSet(name)) if path.exists() else None
    protocol, known = PROTOCOLS[row.source], next((values for values in results if values), {})
    return {
        "title": protocol.title,
        "column": protocol.column,
        "measure": protocol.measure,
        "counted": protocol.counted,
        "measured": MEASURES[protocol.measure],
        "scales": list(row.scales),
        "aggregate": row.aggregate,
        "about": facts.about if facts else None,
        "differs": list(_differs(params, protocol, facts)),
        "manifest": known.get("data"),
        "annotations": known.get("annotations"),
        "classes": known.get("classes"),
        "examples": known.get("examples"),
    }


def _differs(params: Params, protocol: Protocol, facts: Facts | None) -> Iterator[Difference]:
    """Yield in what our number of a set is another one than the paper's; nothing of a set that the paper lacks."""
    if protocol.drawn:
        return
    if params.weights != "published" and not (params.active.net.papers_size and params.active.data.source == OF_SOURCE):
        yield "networks"
    if facts and not facts.comparable:
        yield "images"
    if protocol.counted != "test":
        yield "subset"


def _rows(table: str, params: Params, found: Mapping[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows: first the paper's data sets in its order, those of params.yaml with our numbers; then others."""
    names, known = sets_of(params, table), {one.column: source for source, one in PROTOCOLS.items() if one.column}
    for column, title in COLUMNS[table].items():
        present = [name for name in names if PROTOCOLS[params.datasets[name].source].column == column]
        yield from _our_rows(table, params, found, present)
        for row in printed(table) if not present else ():
            command = [f"vgg-repro prepare {known[column]} --path FOLDER"]
            ours = row["method"].startswith("VGG")
            yield _entry(title, row["method"], _paper(row[column]), missing=command * ours)
    others = [name for name in names if PROTOCOLS[params.datasets[name].source].drawn]
    yield from _our_rows(table, params, found, others)


def _our_rows(
    table: str, params: Params, found: Mapping[tuple[str, str], dict[str, Any]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method of ours on each of the named data sets."""
    for (name, system), result in found.items():
        if name not in names:
            continue
        protocol = PROTOCOLS[params.datasets[name].source]
        paper = {row["method"]: _paper(row[protocol.column]) for row in printed(table)} if protocol.column else {}
        for variant in variants(protocol.boxed):
            method = f"{METHODS[system]}, {variant}" if protocol.boxed else METHODS[system]
            entry = _entry(protocol.title, method, paper.get(method, {}))
            stage = svm_stage(name, system)
            entry |= {"set": name, "runs": list(NETS_OF[system]), "scores": [stage]}
            values = result["results"][variant] if result else None
            yield entry | {"ours": values, "missing": [] if result else [f"dvc repro {stage}"]}


def _entry(title: str, method: str, paper: Mapping[str, Any], missing: Sequence[str] = ()) -> dict[str, Any]:
    """Return a row of the table without a number of ours."""
    return {
        "label": {"data set": title, "method": method}, "set": None, "runs": [], "scores": [], "paper": dict(paper),
        "ours": None, "missing": list(missing),
    }  # fmt: skip


def _paper(text: str) -> dict[str, Any]:
    """Return a printed number, its spread, and the text, in which a star marks a larger training set."""
    number = NUMBER.match(text)
    if not number:
        return {}
    return {"value": float(number[1]), "std": float(number[2]) if number[2] else None, "printed": text}
