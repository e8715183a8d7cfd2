"""All errors of a profile, and its measures of other data sets, as one flat table, for people who plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.experiment.modes import MODES
from pipeline.experiment.other_sets import FEATURES, NETS_OF
from pipeline.experiment.paper_tables import NO_DATA, printed_scale
from pipeline.experiment.run_names import seeded, train_stage, work_of
from pipeline.results.comparison import row_key
from pipeline.results.profile_results import Results
from vgg.errors import error_of_rate
from vgg.judgement import Verdict

SCHEMA = 1  # raised when a column changes its name or its meaning
TRAINING = "training"  # the `table` of the centre crops that each run ends with
Row = Mapping[str, Any]


@dataclass(frozen=True)
class FlatRow:
    """An error of ours and the paper's, or a measure of another data set, in per cent. What does not exist is None."""

    profile: str
    table: str  # table3 ... table12, shallow, initialisation, training
    row: str  # the row's whole label
    net: str | None
    init: str | None  # initial weights, of `initialisation` alone
    train_scale: str | None  # S as printed: 256 or 256-512
    test_scale: str | None  # Q as printed: 256 or 256 384 512
    # dense, crops, dense+crops, centre; of localisation boxes (at the centre crop), windows (dense); features
    mode: str | None
    runs: str | None  # separated by spaces
    weights: str | None  # trained, published or both
    seed: int | None
    top1: float | None
    top1_low: float | None
    top1_high: float | None
    wrong: int | None  # images, by top-1
    topk: float | None
    topk_low: float | None
    topk_high: float | None
    wrong_topk: int | None
    k: int | None
    images: int | None  # of which `top1` and `topk` are; None where nothing is run
    paper_top1_val: float | None
    paper_top5_val: float | None
    paper_top5_test: float | None
    verdict: Verdict | None  # of top-1; None where the images or the nets are not the paper's
    verdict_topk: Verdict | None
    manifest: str
    commit: str | None  # of the stage that computed the error
    data_set: str | None = None  # of Tables 11 and 12, which have no errors, but these:
    measure: str | None = None
    aggregation: str | None = None  # of the descriptors over Q: average or stack
    value: float | None = None
    value_std: float | None = None  # over the splits
    paper_value: float | None = None
    paper_std: float | None = None


COLUMNS = tuple(column.name for column in fields(FlatRow))


def flat_rows(results: Results) -> list[FlatRow]:
    """Return a profile's errors (tables, further seeds, centre crops) and its measures of other data sets."""
    tables = {name: values for name, values in results.tables.items() if name not in NO_DATA}
    return [
        *(_of_table(results, values, row) for values in tables.values() for row in values["rows"]),
        *_of_other_sets(results),
        *_of_further_seeds(results),
        *(_of_training(results, run, summary) for run, summary in results.summaries.items()),
    ]


def flat_document(results: Results) -> dict[str, Any]:
    """Return the same rows as plain values under a head: schema, profile, data, and the claims' counts."""
    facts, claims = results.facts or {}, results.claims
    data = {name: facts[name] for name in ("source", "about", "manifest", "train", "val") if name in facts}
    return {
        "schema": SCHEMA,
        "profile": results.profile,
        "data": data | {"classes": len(facts.get("classes", ()))},
        "claims": claims.get("counts", {}),
        "outdated": dict(results.outdated),
        "rows": [asdict(row) for row in flat_rows(results)],
    }


def _of_table(results: Results, values: Row, row: Row) -> FlatRow:
    published = set(row.get("published", ()))
    kinds = {"published" if run in published else "trained" for run in row["runs"]}
    judged = {name: Verdict(judgement["verdict"]) for name, judgement in row.get("judged", {}).items()}
    verdicts: dict[str, Any] = {"verdict": judged.get("top1_val"), "verdict_topk": judged.get("top5_val")}
    ours = row["ours"] or {}
    return FlatRow(
        **_labels(results, values["table"], row),
        **_paper(row),
        **_error("top1", "wrong", ours.get("top1")),
        **_error("topk", "wrong_topk", ours.get("topk")),
        **verdicts,
        runs=" ".join(row["runs"]) or None,
        weights="both" if len(kinds) > 1 else next(iter(kinds), None),
        seed=values["seed"] if "trained" in kinds else None,
        k=values["k"],
        images=values["images"] if ours else None,
        manifest=values["manifest"],
        commit=_commit(results, values["table"]),
    )


def _of_other_sets(results: Results) -> Iterator[FlatRow]:
    """Yield the rows of Tables 11 and 12."""
    for name, values in results.other_sets.items():
        for row in values["rows"]:
            of_set, ours, paper = values["sets"].get(row["set"], {}), row["ours"] or {}, row["paper"]
            kinds = {"published" if run in values["published"] else "trained" for run in row["runs"]}
            yield FlatRow(
                profile=results.profile, table=name, row=row_key(row), init=None, train_scale=None,
                net=next((net for net, runs in NETS_OF.items() if [*runs] == row["runs"]), None),
                test_scale=" ".join(map(str, of_set["scales"])) if of_set else None,
                mode=FEATURES if of_set else None, runs=" ".join(row["runs"]) or None,
                weights="both" if len(kinds) > 1 else next(iter(kinds), None), seed=None,
                **_error("top1", "wrong", None), **_error("topk", "wrong_topk", None), **_paper({}),
                k=None, images=None, verdict=None, verdict_topk=None, manifest=of_set.get("manifest") or "",
                commit=_commit(results, name) if ours else None, data_set=row["label"]["data set"],
                measure=of_set.get("measured"), aggregation=of_set.get("aggregate"),
                value=ours.get("value"), value_std=ours.get("std"),
                paper_value=paper.get("value"), paper_std=paper.get("std"),
            )  # fmt: skip


def _of_further_seeds(results: Results) -> Iterator[FlatRow]:
    """Yield the rows of the seeds after the first, whose rows are the tables' own."""
    values = results.seeds
    for row in values.get("rows", ()):
        entries = results.tables.get(row["table"], {"rows": ()})["rows"]
        printed: Row = next((entry for entry in entries if entry["label"] == row["label"]), {})
        for seed in values["seeds"][1:]:
            rates = {name: row[name]["by_seed"].get(str(seed)) for name in ("top1", "topk")}
            yield FlatRow(
                **_labels(results, row["table"], row),
                **_paper(printed),
                **_error("top1", "wrong", _interval(rates["top1"], values["images"])),
                **_error("topk", "wrong_topk", _interval(rates["topk"], values["images"])),
                runs=" ".join(seeded(run, seed) for run in row["runs"]),
                weights="trained",
                seed=seed,
                k=values["k"],
                images=None if rates["top1"] is None else values["images"],
                verdict=None,
                verdict_topk=None,
                manifest=values["manifest"],
                commit=_commit(results, "seeds"),
            )


def _of_training(results: Results, run: str, summary: Row) -> FlatRow:
    crop = summary["centre_crop"]
    labels: dict[str, Any] = {
        "profile": results.profile, "table": TRAINING, "row": run, "net": summary["net"], "init": None,
        "train_scale": _scale(summary), "test_scale": str(crop["test_scale"]), "mode": "centre",
    }  # fmt: skip
    return FlatRow(
        **labels,
        **_paper({}),
        **_error("top1", "wrong", _interval(crop["top1"], crop["images"])),
        **_error("topk", "wrong_topk", _interval(crop["topk"], crop["images"])),
        runs=run,
        weights="trained",
        seed=summary["seed"],
        k=crop["k"],
        images=crop["images"],
        verdict=None,
        verdict_topk=None,
        manifest=summary["data"],
        commit=_commit(results, train_stage(run)),
    )


def _labels(results: Results, table: str, row: Row) -> dict[str, Any]:
    """Return the parts of a row's label; S also of a single run whose label does not have it."""
    label, runs = row["label"], row["runs"]
    modes = list(dict.fromkeys(work_of(stage)[0] for stage in row["scores"]))
    summary = results.summaries.get(runs[0]) if len(runs) == 1 else None
    fixed = MODES[modes[0]].scale if len(modes) == 1 and modes[0] in MODES else None
    return {
        "profile": results.profile,
        "table": table,
        "row": row_key(row),
        "net": label.get("net") or (summary["net"] if summary else None),
        "init": label.get("init"),
        "train_scale": label.get("S") or (_scale(summary) if summary else None),
        "test_scale": label.get("Q") or (str(fixed) if fixed else None),
        "mode": "+".join(modes) or None,
    }


def _scale(summary: Row) -> str:
    scale = summary["scale"]
    return printed_scale(scale if isinstance(scale, list) else [scale])


def _paper(row: Row) -> dict[str, Any]:
    names = ("top1_val", "top5_val", "top5_test")
    return {f"paper_{name}": row.get("paper", {}).get(name) for name in names}


def _interval(rate: float | None, images: int) -> Row | None:
    """Return an error rate with its interval, as the tables have it."""
    return None if rate is None else error_of_rate(rate, images)._asdict()


def _error(name: str, wrong: str, error: Row | None) -> dict[str, Any]:
    values = error or {}
    return {
        name: values.get("error"),
        f"{name}_low": values.get("low"),
        f"{name}_high": values.get("high"),
        wrong: values.get("wrong"),
    }


def _commit(results: Results, stage: str) -> str | None:
    """Return the commit by which a stage has made its result; None if that is not recorded."""
    made = results.known_provenance.get(stage)
    return str(made["commit"]) if made else None
