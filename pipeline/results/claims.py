"""The ledger: each claim of the paper tested on this profile's own images (sections 3.1 and 4, A.2, B)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment.claims import CLAIMS, Cell, Claim, set_of, statistic
from pipeline.experiment.claims import Pair as Compared
from pipeline.experiment.other_sets import PROTOCOLS, RESAMPLED
from pipeline.experiment.paper_tables import OTHER_SETS, number_of
from pipeline.results.paired_tests import (
    Comparison,
    Pair,
    SeedVariance,
    compare,
    holm,
    seed_variance,
    verdict,
    verdict_p,
)
from pipeline.results.ranks import SEEDS, TableRanks, ranks_files, read_ranks, seed_row
from pipeline.results.resampled import NO_SETS, TIMES, ResampledSet, ResampledSets, compare_resampled, read_resampled
from vgg.judgement import Verdict

ERROR, BOX_ERROR = "top-1 error", "error of the true class's box"  # what most claims compare
VERDICTS = (Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.NOT_RUN)  # in this order
BySeed = Mapping[int, NDArray[np.bool_]]  # (images,) True where the first guess is wrong; seed 0: that of the tables


class Outcomes:
    """Which images each cell got wrong, by seed, from the ranks beside a profile's tables; and measures of other sets.

    `sources` are the data sets that the profile has.
    """

    def __init__(
        self, files: Mapping[str, TableRanks], sets: ResampledSets = NO_SETS, sources: Sequence[str] = ()
    ) -> None:
        self.files, self.sets, self.sources = files, sets, sources
        self.extra_seeds = sorted({int(row.split("/")[0]) for row in files[SEEDS].rows}) if SEEDS in files else []

    @property
    def groups(self) -> NDArray[Any] | None:
        """Return the group of each image (images,); None if all are independent, or if there are no ranks."""
        return next((file.groups for file in self.files.values() if len(file.groups)), None)

    @property
    def images(self) -> int:
        """Return the number of images; 0 if there are no ranks."""
        return next((len(values) for file in self.files.values() for values in file.rows.values()), 0)

    def groups_of(self, claim: Claim) -> NDArray[Any] | None:
        """Return the group of each image of a claim (images,); None if all are independent.

        A table of localisation counts the images with boxes alone, so it has groups of its own.
        """
        file = self.files[claim.pairs[0].first.table]
        return file.groups if len(file.groups) else None

    def of(self, cell: Cell) -> BySeed:
        """Return the outcomes of a cell by seed; empty if it is not run with the tables' seed."""
        first = self.files[cell.table].rows.get(cell.row) if cell.table in self.files else None
        if first is None:
            return {}
        further = ((seed, self.files[SEEDS].rows.get(seed_row(seed, *cell))) for seed in self.extra_seeds)
        return {0: first > 0, **{seed: values > 0 for seed, values in further if values is not None}}

    def pairs_of(self, claim: Claim) -> Sequence[Compared]:
        """Return the pairs that a claim is tested on: those that stand in only if of the others nothing is run."""
        stand_in = any(map(self.has, claim.stand_ins)) and not any(map(self.has, claim.pairs))
        return claim.stand_ins if stand_in else claim.pairs

    def has(self, pair: Compared) -> bool:
        """Return True if both cells of a pair are run, with the tables' seed."""
        return all(map(self.is_run, pair))

    def is_run(self, cell: Cell) -> bool:
        """Return True if a cell is run, with the tables' seed."""
        return cell.row in self.sets.rows if cell.table in OTHER_SETS else bool(self.of(cell))


def read_outcomes(profile: str, sources: Sequence[str] = ()) -> Outcomes:
    """Return a profile's outcomes, those of Table 3's images if others differ. Raise Failure if a file is broken.

    `sources` are the data sets that the profile has; those that were prepared anew since they were resampled are not
    among the outcomes.
    """
    files = {name: read_ranks(path, f"dvc repro {name}") for name, path in ranks_files(profile).items()}
    found = {name: file for name, file in files.items() if file}
    manifest = next((file.manifest for file in found.values()), "")
    known = {name: file for name, file in found.items() if file.manifest == manifest}
    return Outcomes(known, read_resampled(profile), sources)


def ledger(outcomes: Outcomes, margin: float) -> dict[str, Any]:
    """Return all claims with their tests and verdicts; `margin` is the margin of equivalence in points."""
    pooled = _pooled(outcomes)
    tested = [(claim, _compared(claim, outcomes, pooled, margin)) for claim in CLAIMS]
    run = [(claim, comparison) for claim, comparison in tested if comparison]
    adjusted = iter(holm([verdict_p(claim.kind, comparison, margin) for claim, comparison in run]))
    entries = [_entry(claim, comparison, margin, adjusted, outcomes) for claim, comparison in tested]
    return {
        "manifest": next((file.manifest for file in outcomes.files.values()), ""),
        "images": outcomes.images,
        "groups": len(set(outcomes.groups.tolist())) if outcomes.groups is not None else outcomes.images,
        "seeds": 1 + len(outcomes.extra_seeds),
        "margin": margin,
        "seed_std": 100 * max(0.0, pooled.total - pooled.residual) ** 0.5 if pooled else None,
        "sets": {PROTOCOLS[one.source].title: one._asdict() for claim, _ in run for one in _sets_of(claim, outcomes)},
        "resamples": TIMES,
        "claims": entries,
        "counts": _counts(entry["verdict"] for entry in entries),
        "counts_holm": _counts(entry["verdict_holm"] for entry in entries),
    }


def _pooled(outcomes: Outcomes) -> SeedVariance | None:
    """Return the variance from seed to seed of Table 3's errors, pooled over its runs; None if it is unknown."""
    rows = outcomes.files["table3"].rows if "table3" in outcomes.files else {}
    runs = [outcomes.of(Cell("table3", row)) for row in rows]
    several = [np.stack([run[seed] for seed in sorted(run)]) for run in runs if len(run) > 1]
    return seed_variance(several, outcomes.groups) if len(several) > 1 else None


def _compared(claim: Claim, outcomes: Outcomes, pooled: SeedVariance | None, margin: float) -> Comparison | None:
    """Return the comparison of a claim's pairs of which both cells are run; None if there is none.

    If a claim compares evaluations of the same nets, the variance from seed to seed is that of its own differences. The
    variance that is pooled over Table 3 says nothing of localisers, so their claims count the images only. A
    claim about each pair is decided by the pair that supports it least: if that pair does, all do. Against the claim,
    its p is multiplied by the number of pairs, of which it is the lowest (Bonferroni).
    """
    if claim.sets:
        return _compared_sets(claim, outcomes)
    pairs = [pair for first, second in claim.pairs if (pair := _pair(outcomes.of(first), outcomes.of(second)))]
    if not pairs:
        return None
    seeds, groups = None if claim.same_nets or claim.of_boxes else pooled, outcomes.groups_of(claim)
    if not claim.each:
        return compare(pairs, groups, seeds)
    least = min((compare([pair], groups, seeds) for pair in pairs), key=_support)
    p = least.p if least.effect > 0 else min(1.0, len(pairs) * least.p)
    return replace(least, p=p, seeds=tuple(len(first) for first, _ in pairs))


def _compared_sets(claim: Claim, outcomes: Outcomes) -> Comparison | None:
    """Return the comparison of a claim's pairs of other data sets that are run; None if there is none."""
    rows, pairs = outcomes.sets.rows, [pair for pair in outcomes.pairs_of(claim) if outcomes.has(pair)]
    if not pairs:
        return None
    return compare_resampled([(rows[one.row], rows[other.row]) for one, other in pairs], _sets_of(claim, outcomes))


def _sets_of(claim: Claim, outcomes: Outcomes) -> list[ResampledSet]:
    """Return the data sets that a claim is tested on; none if it is about the profile's own images."""
    if not claim.sets:
        return []
    sources = [set_of(pair.first) for pair in outcomes.pairs_of(claim) if outcomes.has(pair)]
    return [one for one in outcomes.sets.sets if one.source in sources]


def _support(comparison: Comparison) -> float:
    """Return how much a comparison supports that one side is better: from -1, against it, over 0 to 1."""
    return (1 - comparison.p) * float(np.sign(comparison.effect))


def _pair(first: BySeed, second: BySeed) -> Pair | None:
    """Return both outcomes (seeds, images) at the seeds that they share; None if there are none."""
    seeds = sorted(first.keys() & second.keys())
    return (np.stack([first[seed] for seed in seeds]), np.stack([second[seed] for seed in seeds])) if seeds else None


def _entry(
    claim: Claim, comparison: Comparison | None, margin: float, adjusted: Iterable[float], outcomes: Outcomes
) -> dict[str, Any]:
    """Return one claim's values. `adjusted` yields the next p-value after Holm's adjustment."""
    pairs, sets = outcomes.pairs_of(claim), [one.source for one in _sets_of(claim, outcomes)]
    missing = sorted({cell.table for pair in pairs for cell in pair if not outcomes.is_run(cell)})
    values: dict[str, Any] = {
        "name": claim.name, "section": claim.section, "sentence": claim.sentence, "kind": claim.kind,
        "statistic": statistic(sets or claim.sets) if claim.sets else BOX_ERROR if claim.of_boxes else ERROR,
        "paper": claim.paper, "pairs": len(pairs), "each": claim.each, "missing": missing,
        "to_run": _command(claim, missing, outcomes),
    }  # fmt: skip
    if comparison is None:
        return values | {"pairs_run": 0, "verdict": Verdict.NOT_RUN, "verdict_holm": Verdict.NOT_RUN}
    p_holm = next(iter(adjusted))
    return values | {
        "pairs_run": comparison.pairs,
        "seeds": list(comparison.seeds),
        "effect": comparison.effect,
        "low": comparison.low,
        "high": comparison.high,
        "p": comparison.p,
        "p_verdict": verdict_p(claim.kind, comparison, margin),
        "p_holm": p_holm,
        "gained": comparison.gained,
        "lost": comparison.lost,
        "smallest_visible": comparison.smallest_visible,
        "counts": comparison.counts,
        "verdict": verdict(claim.kind, comparison, margin),
        "verdict_holm": verdict(claim.kind, comparison, margin, p_holm),
    }


def _command(claim: Claim, missing: Sequence[str], outcomes: Outcomes) -> str:
    """Return the command that computes what a claim lacks, or adds a data set; empty if it lacks nothing."""
    if not missing:
        return ""
    if not claim.sets:
        return f"vgg-repro table {number_of(missing[0])}"
    possible = {*claim.sets, *(set_of(cell) for pair in claim.stand_ins for cell in pair)}
    if possible & {*outcomes.sources, *(one.source for one in outcomes.sets.sets)}:
        return f"dvc repro {RESAMPLED}"
    return f"vgg-repro prepare {claim.sets[0]} --path FOLDER"


def without_sets(values: Mapping[str, Any], sources: Collection[str]) -> dict[str, Any]:
    """Return a ledger as if its claims about other data sets of these `sources` were not tested."""
    about = {
        claim.name: {set_of(cell) for pair in (*claim.pairs, *claim.stand_ins) for cell in pair}
        for claim in CLAIMS if claim.sets
    }  # fmt: skip
    untested = {
        "pairs_run": 0,
        "verdict": Verdict.NOT_RUN,
        "verdict_holm": Verdict.NOT_RUN,
        "to_run": "dvc repro claims",
    }
    entries = [
        entry | untested if about.get(entry["name"], set()) & set(sources) else entry for entry in values["claims"]
    ]
    return {
        **values,
        "sets": {title: one for title, one in values["sets"].items() if one["source"] not in sources},
        "claims": entries,
        "counts": _counts(entry["verdict"] for entry in entries),
        "counts_holm": _counts(entry["verdict_holm"] for entry in entries),
    }


def _counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how often each verdict occurs."""
    counted = Counter(verdicts)
    return {word: counted[word] for word in VERDICTS}
