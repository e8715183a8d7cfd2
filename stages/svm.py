"""Stages svm-D, svm-E, svm-DE: linear SVMs on a data set's descriptors by one net or both, and their measure.

Of examples whose labels the organisers' server alone has, scores are kept for files of predictions. Their SVMs are
trained besides, and are in no measure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.readers.base import Examples, read_examples
from pipeline.experiment.other_sets import NETS_OF, PROTOCOLS, SERVER, SERVER_SYSTEM, svm_stage, variants
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified
from pipeline.results.other_sets import descriptors_of, read_features, unconverged
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, whole, write_json
from pipeline.system.progress import Progress
from stages.divisions import divisions, named, server_division, unlabelled
from stages.svm_processes import in_processes
from vgg.descriptors import Features
from vgg.measures import BY_CLASS
from vgg.splits import Division
from vgg.svm import ITERATIONS, TOLERANCE, ChosenFit, chosen


def main(params: Params, name: str, system: str) -> None:
    """Train and test the SVMs of data set `name` on the descriptors of a `system`: D, E or DE."""
    started, path = time.monotonic(), classified(params.datasets[name].table, name, system)
    record = classify(params, name, system, path, served=system == SERVER_SYSTEM)
    stage = svm_stage(name, system)
    record_provenance(stage, path.with_suffix(".json"), "cpu", 1, time.monotonic() - started)
    print_measures(stage, record["results"])
    for variant, choice in record.get(SERVER, {}).items():
        print_server_choice(f"{stage}, {variant}", choice)


def classify(params: Params, name: str, system: str, path: Path, served: bool = False) -> dict[str, Any]:
    """Train and test the SVMs, and write their scores and record at `path`. Return the record.

    If `served` is set, examples whose labels a server alone has are scored too.
    """
    row = params.datasets[name]
    examples = read_examples(DataSet(name).examples, f"vgg-repro prepare {name}")
    parts = divisions(params, name, examples)
    for_server = server_division(params, name, examples) if served else None
    results: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    arrays: dict[str, Any] = {"labels": examples.labels}
    described_by = variants(PROTOCOLS[row.source].boxed)
    each = len(examples.classes) * (len(params.active.transferring.costs) + 1)
    count = each * (len(parts) + (for_server is not None)) * len(described_by)
    with Progress(svm_stage(name, system), count, "SVMs") as progress:
        for variant in described_by:
            rows = descriptors_of(params, name, NETS_OF[system], variant, examples)
            fits = [_chosen(params, name, rows, examples, division, progress) for division in parts]
            results[variant] = _values(params, name, examples, parts, fits)
            arrays |= {f"{variant}-{number}": fit.fit.scores for number, fit in enumerate(fits)}
            if for_server:
                last = _chosen(params, name, rows, examples, for_server, progress)
                choices[variant] = _choice(examples, for_server, last)
                arrays[f"{SERVER}-{variant}"] = last.fit.scores
    for number, division in enumerate(parts):
        arrays |= {f"{part}-{number}": numbers for part, numbers in division._asdict().items()}
    if for_server:
        arrays[f"{SERVER}-examples"] = for_server.test
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
    record = _record(params, name, system, examples, results) | ({SERVER: choices} if choices else {})
    record["scores_sha256"] = sha256(path)
    write_json(path.with_suffix(".json"), record)
    return record


def _chosen(
    params: Params, name: str, rows: Features, examples: Examples, division: Division, progress: Progress
) -> ChosenFit:
    choices, measure = params.active.transferring, BY_CLASS[PROTOCOLS[params.datasets[name].source].measure]
    fitting = partial(in_processes, progress)
    return chosen(rows, examples.labels, division, choices.costs, measure, choices.seed, fitting)


def _values(
    params: Params, name: str, examples: Examples, parts: list[Division], fits: list[ChosenFit]
) -> dict[str, Any]:
    """Return the measure in per cent: its mean over classes and splits, their standard deviation, and each split's."""
    measure = PROTOCOLS[params.datasets[name].source].measure
    splits = []
    for division, fit in zip(parts, fits, strict=True):
        labels = examples.labels[division.test]
        by_class = 100 * BY_CLASS[measure](fit.fit.scores, labels)
        split: dict[str, Any] = {
            "value": float(by_class.mean()),
            "by_class": dict(zip(examples.classes, by_class.tolist(), strict=True)),
            **_choice(examples, division, fit),
        }
        if measure == "ap11":
            split["ap"] = 100 * float(BY_CLASS["ap"](fit.fit.scores, labels).mean())
        splits.append(split)
    values = [split["value"] for split in splits]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "std": std, "splits": splits}


def _choice(examples: Examples, division: Division, fit: ChosenFit) -> dict[str, Any]:
    """Return the chosen C, the measure for each C in per cent, how the solver ended, and the numbers of examples."""
    return {
        "cost": fit.cost,
        "tuning": {f"{cost:g}": 100 * value for cost, value in fit.tuning.items()},
        "iterations": dict(zip(examples.classes, fit.fit.iterations.tolist(), strict=True)),
        "unconverged": {
            f"{cost:g}": [examples.classes[number] for number in numbers] for cost, numbers in fit.unconverged.items()
        },
        "examples": {part: len(numbers) for part, numbers in division._asdict().items()},
    }


def _record(params: Params, name: str, system: str, examples: Examples, results: dict[str, Any]) -> dict[str, Any]:
    """Return all that is known of the result."""
    row, choices = params.datasets[name], params.active.transferring
    nets = {run: read_features(name, run).record for run in NETS_OF[system]}
    return {
        "profile": params.profile,
        "set": name,
        "source": row.source,
        "system": system,
        "data": read_statistics(DataSet(name)).manifest,
        "annotations": sha256(DataSet(name).examples),
        "classes": len(examples.classes),
        "examples": len(examples) - len(unlabelled(params, name, examples)),
        "missing": examples.missing,
        "scales": list(row.scales),
        "aggregate": row.aggregate,
        **choices.model_dump(mode="json"),
        "solver": {"primal": True, "tolerance": TOLERANCE, "iterations": ITERATIONS},
        "results": results,
        "nets": nets,
    }


def print_measures(stage: str, results: dict[str, Any]) -> None:
    """Print the measures, and the SVMs that did not converge."""
    for variant, values in results.items():
        spread = "" if values["std"] is None else f" ± {values['std']:.1f}"
        costs = ", ".join(f"{split['cost']:g}" for split in values["splits"])
        what = f"{stage}, {variant}" if len(results) > 1 else stage
        print(f"{what}: {values['value']:.1f}{spread} %, C {costs}")
        _print_unconverged(what, unconverged(values))


def print_server_choice(what: str, choice: dict[str, Any]) -> None:
    """Print how the SVMs of the examples were trained whose labels the organisers' server alone has."""
    counts = choice["examples"]
    print(
        f"{what}: {counts['test']:,} examples without labels are scored for the organisers' server, after training on "
        f"{counts['fit'] + counts['tune']:,}; C {choice['cost']:g} is chosen on {counts['tune']:,} of these"
    )
    _print_unconverged(what, choice["unconverged"])


def _print_unconverged(what: str, by_cost: Mapping[str, Sequence[str]]) -> None:
    for cost, classes in by_cost.items():
        print(
            f"{what}: no convergence in {ITERATIONS} iterations at C = {cost}, of {named(classes)}; smaller values of "
            "`costs` in params.yaml converge sooner"
        )
