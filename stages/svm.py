"""Stages svm-D, svm-E, svm-DE: linear SVMs on a data set's descriptors by one net or both, and their measure."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.readers.base import Examples, read_examples
from pipeline.experiment.other_sets import NETS_OF, PROTOCOLS, svm_stage, variants
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified
from pipeline.results.other_sets import descriptors_of, read_features, unconverged
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, whole, write_json
from pipeline.system.progress import Progress
from stages.divisions import divisions, named
from stages.svm_processes import in_processes
from vgg.descriptors import Features
from vgg.measures import BY_CLASS
from vgg.splits import Division
from vgg.svm import ITERATIONS, TOLERANCE, ChosenFit, chosen


def main(params: Params, name: str, system: str) -> None:
    """Train and test the SVMs of data set `name` on the descriptors of a `system`: D, E or DE."""
    started, path = time.monotonic(), classified(params.datasets[name].table, name, system)
    results = classify(params, name, system, path)
    stage = svm_stage(name, system)
    record_provenance(stage, path.with_suffix(".json"), "cpu", 1, time.monotonic() - started)
    print_measures(stage, results)


def classify(params: Params, name: str, system: str, path: Path) -> dict[str, Any]:
    """Train and test the SVMs, and write their scores and record at `path`. Return the measures."""
    row = params.datasets[name]
    examples = read_examples(DataSet(name).examples, f"vgg-repro prepare {name}")
    parts = divisions(params, name, examples)
    results: dict[str, Any] = {}
    arrays: dict[str, Any] = {"labels": examples.labels}
    described_by = variants(PROTOCOLS[row.source].boxed)
    each = len(examples.classes) * (len(params.active.transferring.costs) + 1)
    with Progress(svm_stage(name, system), each * len(parts) * len(described_by), "SVMs") as progress:
        for variant in described_by:
            rows = descriptors_of(params, name, NETS_OF[system], variant, examples)
            fits = [_chosen(params, name, rows, examples, division, progress) for division in parts]
            results[variant] = _values(params, name, examples, parts, fits)
            arrays |= {f"{variant}-{number}": fit.fit.scores for number, fit in enumerate(fits)}
    for number, division in enumerate(parts):
        arrays |= {f"{part}-{number}": numbers for part, numbers in division._asdict().items()}
    with whole(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
    record = _record(params, name, system, examples, results) | {"scores_sha256": sha256(path)}
    write_json(path.with_suffix(".json"), record)
    return results


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
            "cost": fit.cost,
            "tuning": {f"{cost:g}": 100 * value for cost, value in fit.tuning.items()},
            "iterations": dict(zip(examples.classes, fit.fit.iterations.tolist(), strict=True)),
            "unconverged": {
                f"{cost:g}": [examples.classes[number] for number in numbers]
                for cost, numbers in fit.unconverged.items()
            },
            "examples": {part: len(numbers) for part, numbers in division._asdict().items()},
        }
        if measure == "ap11":
            split["ap"] = 100 * float(BY_CLASS["ap"](fit.fit.scores, labels).mean())
        splits.append(split)
    values = [split["value"] for split in splits]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "std": std, "splits": splits}


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
        "examples": len(examples),
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
        print(f"{stage}, {variant}: {values['value']:.1f}{spread} %, C {costs}")
        for cost, classes in unconverged(values).items():
            print(
                f"{stage}, {variant}: no convergence in {ITERATIONS} iterations at C = {cost}, of {named(classes)}; "
                "smaller values of `costs` in params.yaml converge sooner"
            )
