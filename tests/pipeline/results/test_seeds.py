"""The tables' rows over the seeds: hand-computed spreads, rows that lack seeds, and ranks of the further seeds."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev

import numpy as np
import pytest

from pipeline.datasets.facts import Facts
from pipeline.experiment.modes import MODES, runs_of, scales_of
from pipeline.experiment.paper_tables import rows
from pipeline.experiment.params import Params
from pipeline.experiment.paths import errors, posteriors
from pipeline.experiment.validation import load
from pipeline.results.ranks import seed_row
from pipeline.results.scores import Scores, average
from pipeline.results.seeds import compute_seeds, repeated_rows, spread
from pipeline.results.tables import compute_table
from pipeline.system.atomic_files import write_json
from reports.markdown import markdown
from reports.seeds_page import seeds_section
from tests.support import ROOT
from tests.support.extra import INITIAL, params_with

IMAGES, CLASSES = 40, 10
FACTS = Facts(
    "digits", "digits", False, [str(i) for i in range(CLASSES)], 100, IMAGES, 0, [0.0] * 3, [[0.0] * 3] * 3, {}, "m",
)  # fmt: skip
REPEATED = ["A-256", "B-256", "D-256", "D-384", "D-jitter", "E-256", "E-384", "E-jitter"]
THREE = {"seeds": [4, 1, 2], "seed_runs": REPEATED}
LABELS = np.arange(IMAGES) % CLASSES


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Parameters with three seeds of some runs, the first of them 4, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    one = params_with(tmp_path)
    train = one.active.training.model_copy(update={"seed": 4})
    active = one.active.model_copy(update={"train": train, **THREE})
    changed = one.model_copy(update={"profiles": {**one.profiles, "mini": active}})
    from pipeline.experiment.extra_runs import extra_rows

    return changed.model_copy(update={"extra": extra_rows(changed)})


def write_scores(params: Params, run: str, mode: str, wrong: int) -> None:
    """Posteriors of a run at every Q that get the first `wrong` images wrong."""
    guessed = np.where(np.arange(IMAGES) < wrong, (LABELS + 1) % CLASSES, LABELS)
    values = np.full((IMAGES, CLASSES), 0.01, np.float32)
    values[np.arange(IMAGES), guessed] = 0.91
    path = posteriors(run, mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    scales = scales_of(params.all_runs[run], mode)
    np.savez(path, **{str(scale): values for scale in scales}, labels=LABELS, weights=np.array("w"))
    write_json(errors(run, mode), {"profile": params.profile, "data": "m", "posteriors_sha256": f"of {run}"})


def write_all(params: Params, lacking: str = "nothing") -> None:
    """Write all scores but those of runs whose names end in `lacking`: 4, 8 and 9 images wrong of seeds 4, 1 and 2."""
    for mode in MODES:
        for run in [*runs_of(params, mode), *getattr(params.extra, mode)]:
            if not run.endswith(lacking):
                write_scores(params, run, mode, {"1": 8, "2": 9}.get(run.rpartition("-seed")[2], 4))


def test_the_spread_is_the_sample_standard_deviation() -> None:
    assert spread([10.0, 20.0, 22.5]) == {"mean": 17.5, "std": pytest.approx(stdev([10.0, 20.0, 22.5]))}
    assert spread([10.0]) == {"mean": 10.0, "std": None}
    assert spread([]) == {"mean": None, "std": None}


def test_each_row_has_each_seeds_error_their_mean_and_deviation(params: Params) -> None:
    write_all(params)
    values = compute_seeds(params, FACTS).values
    assert values["seeds"] == [4, 1, 2]
    assert values["rows"]
    for row in values["rows"]:
        assert row["top1"]["by_seed"] == {"4": 10.0, "1": 20.0, "2": 22.5}, row
        assert (row["top1"]["mean"], row["missing"]) == (17.5, [])
        assert row["top1"]["std"] == pytest.approx(6.614378)
    text = markdown(seeds_section(values, {}))
    assert "17.5 ± 6.6" in text and "3 of 3" in text and "fewer than two" not in text


def test_rows_of_which_every_run_is_repeated_are_shown_and_no_others(params: Params) -> None:
    shown = {(table, row.key) for table, row in repeated_rows(params)}
    assert ("table3", "D, 384, 384") in shown and ("table3", "C, 384, 384") not in shown
    assert ("table6", "post-submission, D-jitter, E-jitter, multi-crop & dense") in shown, "a fusion of repeated runs"
    assert not any(key.startswith("ILSVRC submission") for _, key in shown), "it has nets that are not repeated"
    assert not any(table == "shallow" and key.startswith("shallow") for table, key in shown)
    assert ("shallow", "B, 256, 256") in shown


def test_the_tables_stay_the_first_seeds(params: Params) -> None:
    write_all(params)
    ours = [row["ours"]["top1"]["error"] for row in compute_table("table3", params, FACTS).values["rows"]]
    assert set(ours) == {10.0}


def test_an_average_of_a_seed_is_of_that_seeds_runs(params: Params) -> None:
    write_all(params)
    row = next(row for row in rows("table6", params) if row.label["method"] == "multi-crop & dense")
    for seed, wrong in ((4, 4), (1, 8), (2, 9), (None, 4)):
        scores = Scores(params, FACTS, seed)
        mean, labels = average(row, scores)
        assert int((mean.argmax(1) != labels).sum()) == wrong
        suffix = "" if seed in (4, None) else f"-seed{seed}"
        assert set(scores.weights()) == {f"D-jitter{suffix}", f"E-jitter{suffix}"}
        prefix = "extra-" if suffix else ""
        assert f"{prefix}crops@D-jitter{suffix}" in scores.hashes()


def test_a_row_with_fewer_than_two_seeds_has_no_deviation_and_says_what_is_missing(params: Params) -> None:
    write_all(params, lacking="-seed1")
    (posteriors("D-384-seed2", "dense")).unlink()
    values = compute_seeds(params, FACTS).values
    by_key = {(row["table"], tuple(row["runs"])): row for row in values["rows"]}
    half, few = by_key["table3", ("A-256",)], by_key["table3", ("D-384",)]
    assert (half["top1"]["by_seed"], half["top1"]["mean"]) == ({"4": 10.0, "2": 22.5}, 16.25)
    assert half["missing"] == ["vgg-repro score dense A-256-seed1"]
    assert (few["top1"]["by_seed"], few["top1"]["std"]) == ({"4": 10.0}, None)
    assert few["missing"] == ["vgg-repro score dense D-384-seed1", "vgg-repro score dense D-384-seed2"]
    text = markdown(seeds_section(values, {}))
    assert "2 of 3" in text and "1 of 3" in text
    assert f"2 of {len(values['rows'])} rows have fewer than two seeds" in text, "of Tables 3 and 4"
    assert "`vgg-repro score dense A-256-seed1` and" in text


def test_the_ranks_are_those_of_the_further_seeds(params: Params) -> None:
    """Those of the first are beside its tables."""
    write_all(params, lacking="-seed2")
    computed = compute_seeds(params, FACTS)
    assert set(computed.ranks.rows) == {seed_row(1, table, row.key) for table, row in repeated_rows(params)}
    assert (computed.ranks.rows[seed_row(1, "table3", "D, 384, 384")] > 0).sum() == 8
    assert computed.ranks.manifest == "m"


def test_with_one_seed_there_are_no_rows_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    computed = compute_seeds(load(ROOT / "params.yaml"), FACTS)
    assert computed.values["rows"] == [] and computed.values["seeds"] == [11] and not computed.ranks.rows
    text = markdown(seeds_section(computed.values, {}))
    assert "Every run has one seed (seed 11)" in text and "`seed_runs`" in text


def test_scores_of_another_profile_or_other_images_are_not_a_seeds(params: Params) -> None:
    write_all(params)
    for run, change in (("A-256-seed1", {"profile": "other"}), ("A-256-seed2", {"data": "others"})):
        record = {"profile": "mini", "data": "m", "posteriors_sha256": ""} | change
        write_json(errors(run, "dense"), record)
    first = next(row for row in compute_seeds(params, FACTS).values["rows"] if row["runs"] == ["A-256"])
    assert first["top1"]["by_seed"] == {"4": 10.0}


def test_the_initialisations_are_a_table_and_in_a_profile_without_them_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports.table_pages import table_section

    monkeypatch.chdir(tmp_path)
    params = params_with(tmp_path, **INITIAL)
    write_scores(params, "D-normal", "centre", 36)
    values = compute_table("initialisation", params, FACTS).values
    text = markdown(table_section(values, {}))
    (row,) = [line for line in text.splitlines() if line.startswith("| D ") and "| normal " in line]
    assert "| may not train | 90.0" in row
    assert "**not run**: `vgg-repro score centre D-normal-from-A`" in text
    assert "standard deviation 0.01" in text and "chance, about 90.0 %" in text
    assert list(compute_table("initialisation", params, FACTS).ranks.rows) == ["D, normal"]  # type: ignore[union-attr]
    without = compute_table("initialisation", load(ROOT / "params.yaml"), FACTS).values
    assert "has no `initialisation` in params.yaml" in markdown(table_section(without, {}))
