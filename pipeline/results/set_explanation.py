"""The chain behind one number of Table 11 or 12: the data set, its SVMs, the features, and the nets' runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.datasets.facts import PREPARE
from pipeline.experiment.other_sets import IMAGE, PROTOCOLS, classified_by, features_stage, variants
from pipeline.experiment.params import RANDOM, Params
from pipeline.experiment.paths import DataSet, classified, features, reported_set, summary, table
from pipeline.experiment.run_names import random_stage, train_stage
from pipeline.results.explanation import (
    ExplainedImages,
    ExplainedSet,
    Explanation,
    Files,
    Record,
    chain_of,
    explained_runs,
    first_names,
    first_weights,
)
from pipeline.results.other_sets import current_part, is_current
from pipeline.results.provenance import known_provenance
from pipeline.results.row_choice import RowName
from pipeline.system.atomic_files import read_json


def explain_set(
    params: Params, files: Files, values: Record, row: RowName, outdated: Mapping[str, str] | None
) -> Explanation:
    """Return the chain behind a row of Table 11 or 12 of a profile, whose values are given.

    `outdated` is as that of `explain`. Only files are read: those of this machine, else those in git.
    """
    profile, values = files.profile, current_part(values, partial(is_current, files.profile))
    entry = next(entry for entry in values["rows"] if entry["label"] == row.label)
    of_set, paths = _explained_set(files, values, entry), {values["table"]: table(profile, values["table"])}
    nets = [run for run in row.runs if run not in values["published"]]
    chains = {run: chain_of(files, params, run) for run in nets}
    runs, firsts = explained_runs(files, params, chains), first_names(chains)
    for stage in entry["scores"]:
        paths |= {stage: _svm_record(files, stage, values["table"])}
        paths |= {features_stage(of_set.name, run): _features_record(files, of_set.name, run) for run in row.runs}
    paths |= {train_stage(run.name): files.path(summary(run.name)) for run in runs}
    involved = {f"dataset@{of_set.name}", *paths, *(random_stage(name.removeprefix(RANDOM)) for name in firsts)}
    involved |= {f"import@{run}" for run in row.runs if run in values["published"]}
    return Explanation(
        profile=profile,
        table=values["table"],
        row=row,
        stage=values["table"],
        comparable=not of_set.about.get("differs"),
        images=_images(profile, of_set),
        chains=chains,
        first=tuple(first_weights(files, name, runs) for name in firsts),
        runs=runs,
        published={run: values["published"][run] for run in row.runs if run in values["published"]},
        not_imported=(),
        scores=(),
        threshold=None,
        measures=(),
        rule=None,
        to_do=_to_do(params, values["table"], entry),
        made=known_provenance(profile, {stage: path for stage, path in paths.items() if path.exists()}),
        recorded=files.lock.made(values["table"], paths[values["table"]], paths[values["table"]]),
        outdated=None if outdated is None else {stage: why for stage, why in outdated.items() if stage in involved},
        of_set=of_set,
    )


def _to_do(params: Params, name: str, entry: Record) -> tuple[str, ...]:
    """Return the commands that compute a row; of a set that was prepared since its table was made, the table's."""
    sources = {row.source for row in params.datasets.values()}
    prepared = any(PROTOCOLS[source].title == entry["label"]["data set"] for source in sources)
    return (f"dvc repro {name}",) if entry["missing"] and not entry["set"] and prepared else tuple(entry["missing"])


def _explained_set(files: Files, values: Record, entry: Record) -> ExplainedSet:
    """Return what the table, and the record of its SVMs, say of a row."""
    name, method = entry["set"] or "", entry["label"]["method"]
    record: Record = {}
    for stage in entry["scores"]:
        path = _svm_record(files, stage, values["table"])
        record = read_json(path, f"dvc repro {stage}") if path.exists() else {}
    scores = values["scores"].get(entry["scores"][0]) if entry["scores"] else None
    return ExplainedSet(
        name=name,
        stage=entry["scores"][0] if entry["scores"] else "",
        variant=next((one for one in variants(True) if method.endswith(f", {one}")), IMAGE),
        about=values["sets"].get(name, {}),
        ours=entry["ours"],
        paper=entry["paper"],
        record=record,
        again=bool(record and scores and record["scores_sha256"] != scores),
    )


def _svm_record(files: Files, stage: str, name: str) -> Path:
    """Return the record of SVMs on this machine, or its copy in git if it is missing or of another profile."""
    return _newest(files, classified(name, *classified_by(stage)).with_suffix(".json"), stage)


def _features_record(files: Files, name: str, run: str) -> Path:
    return _newest(files, features(name, run).with_suffix(".json"), features_stage(name, run))


def _newest(files: Files, path: Path, stage: str) -> Path:
    here = path.exists() and read_json(path, f"dvc repro {stage}").get("profile") == files.profile
    return path if here else reported_set(files.profile, stage)


def _images(profile: str, of_set: ExplainedSet) -> ExplainedImages:
    """Return the data set's images; how many they are is known, not 0, if they are prepared here."""
    about = of_set.about
    facts = DataSet(of_set.name).facts(profile) if of_set.name else Path()
    known: Record = read_json(facts, f"{PREPARE} {of_set.name}") if facts.is_file() else {}
    same = known if known and known["manifest"] == about.get("manifest") else {}
    described = {"about": about["about"]} if about.get("about") else {}
    return ExplainedImages(
        about.get("manifest") or "",
        of_set.record.get("source", of_set.name),
        same.get("val", 0),
        about.get("classes") or 0,
        {**described, **same},
        bool(same) if known else None,
    )
