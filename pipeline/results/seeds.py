"""The rows of the tables over the seeds of a profile: each seed's error, their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import mean, stdev
from typing import Any, NamedTuple

from pipeline.datasets.facts import Facts
from pipeline.experiment.paper_tables import TITLES, TableRow, rows
from pipeline.experiment.params import Params
from pipeline.experiment.run_names import score_stage
from pipeline.results.ranks import Ints, TableRanks, seed_row
from pipeline.results.scores import Scores
from pipeline.results.tables import groups, row_ranks
from vgg.errors import error_of, top_k


class ComputedSeeds(NamedTuple):
    """The values of all repeated rows, and the ranks of further seeds; those of the first are beside its tables."""

    values: dict[str, Any]
    ranks: TableRanks


def compute_seeds(params: Params, facts: Facts) -> ComputedSeeds:
    """Return the rows whose runs are all repeated per seed, from the scores that are there; none with one seed."""
    k = top_k(len(facts.classes))
    seeds = params.active.every_seed
    by_seed = {seed: Scores(params, facts, seed) for seed in seeds}
    entries: list[dict[str, Any]] = []
    further: dict[str, Ints] = {}
    for table, row in repeated_rows(params):
        ranked = {seed: row_ranks(row, scores) for seed, scores in by_seed.items()}
        present = {seed: values for seed, values in ranked.items() if values is not None}
        entries.append(_entry(table, row, present, k) | _stages(row, by_seed.values()))
        further |= {seed_row(seed, table, row.key): ranks for seed, ranks in present.items() if seed != seeds[0]}
    values = {
        "profile": params.profile,
        "k": k,
        "classes": len(facts.classes),
        "images": facts.val,
        "data": facts.source,
        "manifest": facts.manifest,
        "seeds": seeds,
        "rows": entries,
        "scores": {stage: sha for scores in by_seed.values() for stage, sha in scores.hashes().items()},
    }
    return ComputedSeeds(values, TableRanks(further, groups(facts), facts.manifest))


def repeated_rows(params: Params) -> Iterator[tuple[str, TableRow]]:
    """Yield each table's rows, if the profile has several seeds, whose runs are all repeated with each of them."""
    if len(params.active.seeds) < 2:
        return
    repeated = set(params.active.seed_runs)
    for table in TITLES:
        yield from ((table, row) for row in rows(table, params) if row.runs and repeated.issuperset(row.runs))


def _entry(table: str, row: TableRow, ranked: Mapping[int, Ints], k: int) -> dict[str, Any]:
    errors = {
        name: {str(seed): error_of(ranks, count).error for seed, ranks in ranked.items()}
        for name, count in (("top1", 1), ("topk", k))
    }
    measures = {name: {"by_seed": by_seed, **spread(list(by_seed.values()))} for name, by_seed in errors.items()}
    return {"table": table, "label": dict(row.label), "runs": list(row.runs), **measures}


def spread(errors: list[float]) -> dict[str, float | None]:
    """Return the mean and the standard deviation (n - 1) of errors; None where there are too few."""
    return {"mean": mean(errors) if errors else None, "std": stdev(errors) if len(errors) > 1 else None}


def _stages(row: TableRow, seeds: Iterable[Scores]) -> dict[str, list[str]]:
    """Return the score stages of a row, for all seeds, and the commands that make the scores that are not there."""
    needs = [(scores.of_seed(run), mode, scores.has(run, mode)) for scores in seeds for run, mode in row.needs()]
    return {
        "scores": [score_stage(run, mode) for run, mode, _ in needs],
        "missing": [f"vgg-repro score {mode} {run}" for run, mode, present in needs if not present],
    }
