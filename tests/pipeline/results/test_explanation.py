"""The chain behind a number: right to the seed, from committed files alone, and what changed or is missing is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import kept_records, provenance_record, summary
from pipeline.experiment.validation import load
from pipeline.results.explanation import Explanation, Files, explain
from pipeline.results.provenance import keep_provenance, known_provenance, record_provenance
from pipeline.results.row_choice import choose, row_names
from pipeline.results.tables import read_table
from tests.support import ROOT
from tests.support.committed import add_seeds, change, committed

D_JITTER = ("random-A", "A-256", "D-256", "D-384", "D-jitter")


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini and dvc.lock, in the current folder: as in a fresh clone."""
    monkeypatch.chdir(tmp_path)
    return committed(tmp_path, "dvc.lock")


def explained(
    table: str, words: str, params: Params | None = None, outdated: Mapping[str, str] | None = None
) -> Explanation:
    """Explain the one row of a table of mini that the words choose."""
    values, seeds = read_table("mini", table), read_table("mini", "seeds")
    (row,) = choose(words.split(), row_names(values, seeds), values["seed"])
    return explain(params or load(), Files("mini"), values, seeds, row, outdated)


def test_the_chain_goes_from_the_first_weights_to_the_averaged_run(mini: Path) -> None:
    found = explained("table4", "D jitter", outdated={})
    assert found.chains == {"D-jitter": D_JITTER}
    assert [(run.name, run.row.init) for run in found.runs] == list(zip(D_JITTER[1:], D_JITTER, strict=False))
    for run in found.runs:
        written = json.loads((mini / f"runs/{run.name}.json").read_text())
        assert (run.seed, run.steps, run.epochs, run.drops) == (11, *(written[k] for k in ("steps", "epochs", "drops")))
        assert (run.error, run.weights) == (written["centre_crop"]["top1"], written["weights_sha256"])
        assert run.values["batch"] == 16 and run.values["momentum"] == 0.9 and run.values["precision"] == "bfloat16"
        assert run.continued is True and not run.missing
    assert [run.learning_rate for run in found.runs] == [0.005, 0.005, 0.003, 0.003]
    (first,) = found.first
    assert (first.name, first.seed, first.values["init"]) == ("random-A", 11, "he")


def test_the_number_and_its_scores_are_the_tables(mini: Path) -> None:
    found, values = explained("table4", "D jitter", outdated={}), read_table("mini", "table4")
    (entry,) = [row for row in values["rows"] if row["runs"] == ["D-jitter"]]
    assert [measure.ours for measure in found.measures] == [entry["ours"]["top1"], entry["ours"]["topk"]]
    assert [measure.paper for measure in found.measures] == [24.8, 7.5]
    (score,) = found.scores
    assert (score.stage, score.scales) == ("dense@D-jitter", (256, 384, 512))
    assert score.posteriors == values["scores"]["dense@D-jitter"]
    assert not score.again and not score.other_weights and found.recorded and found.outdated == {}
    assert found.images.facts["train"] == 5712 and found.images.are_prepared is None


def test_a_fusion_has_every_chain_and_each_run_once(mini: Path) -> None:
    found = explained("table6", "ilsvrc")
    assert list(found.chains) == ["D-256", "D-384", "D-jitter-fc", "C-256", "C-384", "E-256", "E-384"]
    names = [run.name for run in found.runs]
    assert len(names) == len(set(names)) == 8
    assert all(run.row.init in (*names[:place], "random-A") for place, run in enumerate(found.runs))
    both = explained("table6", "multi-crop dense")
    assert [score.stage for score in both.scores] == [
        "dense@D-jitter", "crops@D-jitter", "dense@E-jitter", "crops@E-jitter",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["table3", "shallow"])
def test_a_table_of_one_test_scale_has_one_q(name: str, mini: Path) -> None:
    assert explained(name, "B").scores[0].scales == (256,)


def test_a_further_seed_has_a_chain_of_its_own(mini: Path) -> None:
    add_seeds(mini)
    found = explained("table3", "A-256-seed13")
    assert found.chains == {"A-256-seed13": ("random-A-seed13", "A-256-seed13")}
    assert [run.seed for run in found.runs] == [13]
    assert [score.stage for score in found.scores] == ["extra-dense@A-256-seed13"]
    assert found.measures[0].ours == pytest.approx(
        {"error": 35.0, "low": 32.13, "high": 37.98, "wrong": 357, "images": 1020}, abs=0.01
    )
    assert set(found.made) == {"extra-train@A-256-seed13", "extra-dense@A-256-seed13", "seeds"}
    first = explained("table3", "A-256-seed11")
    assert first.chains == {"A-256": ("random-A", "A-256")}
    assert first.measures[0].spread is not None and first.measures[0].spread["std"] == 2.5


def test_without_the_lock_nothing_is_made_up(mini: Path) -> None:
    Path("dvc.lock").unlink()
    kept_records("mini").unlink(missing_ok=True)
    found = explained("table4", "D jitter")
    assert found.chains == {"D-jitter": D_JITTER}
    assert all(run.values == {"precision": "bfloat16"} and run.continued is None for run in found.runs)
    assert [run.learning_rate for run in found.runs] == [0.005, 0.005, 0.003, 0.003]  # from the histories
    assert found.first[0].seed is None and not found.first[0].values
    assert not found.recorded and found.outdated is None


def test_the_lock_of_another_result_is_not_taken_for_this_ones(mini: Path) -> None:
    change(mini / "runs/D-256.json", lambda values: values.update(loss=9.0))
    runs = {run.name: run for run in explained("table4", "D jitter").runs}
    assert "batch" not in runs["D-256"].values and runs["D-256"].continued is None
    assert runs["A-256"].values["batch"] == 16


def test_a_broken_lock_is_named(mini: Path) -> None:
    Path("dvc.lock").write_text("stages: {a: [")
    with pytest.raises(Failure, match=r"dvc\.lock cannot be read"):
        explained("table4", "D jitter")


def test_a_run_that_started_from_other_weights_than_its_origin_has_now_is_marked(mini: Path) -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    (weights,) = [out for out in lock["stages"]["train@D-256"]["outs"] if out["path"].endswith(".pt")]
    weights["md5"] = "of a later training"
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert [run.continued for run in explained("table4", "D jitter").runs] == [True, True, False, True]


def test_scores_and_weights_that_were_made_again_are_marked(mini: Path) -> None:
    change(mini / "scores/dense-D-384.json", lambda values: values.update(posteriors_sha256="other"))
    (score,) = explained("table4", "D 384").scores
    assert score.again and not score.other_weights
    change(mini / "runs/D-384.json", lambda values: values.update(weights_sha256="other"))
    (score,) = explained("table4", "D 384").scores
    assert score.again and score.other_weights


def test_a_missing_run_of_the_chain_is_taken_from_params_and_marked(mini: Path) -> None:
    (mini / "runs/D-256.json").unlink()
    found = explained("table4", "D jitter")
    assert found.chains == {"D-jitter": D_JITTER}
    assert [run.name for run in found.runs if run.missing] == ["D-256"]
    (missing,) = [run for run in found.runs if run.missing]
    assert missing.seed is None and missing.row.recipe == "warm"
    assert "train@D-256" not in found.made, "there is nothing of which it could be known"


def test_a_row_that_is_not_run_names_the_commands(mini: Path) -> None:
    def undo(values: Any) -> None:
        values["rows"][0] |= {"ours": None, "missing": ["vgg-repro score dense A-256"]}

    change(mini / "table3.json", undo)
    found = explained("table3", "A")
    assert found.to_do == ("vgg-repro score dense A-256",)
    assert found.measures[0].ours is None and found.measures[0].paper == 29.6


def test_published_weights_end_the_chain_at_their_file(mini: Path) -> None:
    record = {"file": "vgg16.caffemodel", "sha256": "ab" * 32, "weights_sha256": "cd" * 32}

    def publish(values: Any) -> None:
        values["published"] = {"D-jitter": record}
        values["scores"]["dense@D-jitter"] = "ef" * 32

    change(mini / "table6.json", publish)
    scored = {"published": record, "weights_sha256": "cd" * 32, "posteriors_sha256": "ef" * 32}
    change(mini / "scores/dense-D-jitter.json", lambda values: values.update(scored))
    found = explained("table6", "post-submission dense")
    assert found.chains["D-jitter"] == ("vgg16.caffemodel", "D-jitter")
    assert found.chains["E-jitter"][0] == "random-A" and "D-jitter" not in [run.name for run in found.runs]
    assert dict(found.published) == {"D-jitter": record}
    assert not found.scores[0].again and not found.scores[0].other_weights


def test_a_net_that_is_not_imported_is_named(mini: Path) -> None:
    params = load().model_copy(update={"weights": "published"})
    found = explained("table4", "D jitter", params)
    assert found.not_imported == ("D-jitter",) and not found.runs


def test_only_what_this_number_depends_on_counts_as_changed(mini: Path) -> None:
    outdated = {"random@A": "seed", "train@D-256": "rate", "train@E-256": "rate", "table4": "rate", "table3": "rate"}
    found = explained("table4", "D jitter", outdated=outdated)
    assert found.outdated is not None and list(found.outdated) == ["random@A", "train@D-256", "table4"]


def test_newer_files_of_this_machine_come_first_and_those_of_another_profile_do_not_count(mini: Path) -> None:
    summary("D-384").parent.mkdir(parents=True)
    shutil.copyfile(mini / "runs/D-384.json", summary("D-384"))
    change(summary("D-384"), lambda values: values.update(seed=99))
    assert [run.seed for run in explained("table4", "D 384").runs] == [11, 11, 99]
    change(summary("D-384"), lambda values: values.update(profile="paper"))
    assert [run.seed for run in explained("table4", "D 384").runs] == [11, 11, 11]


def test_other_images_that_are_prepared_now_are_told(mini: Path) -> None:
    facts = Path("data/classification/facts-mini.json")
    facts.parent.mkdir(parents=True)
    shutil.copyfile(mini / "data/classification.json", facts)
    assert explained("table4", "D 384").images.are_prepared is True
    change(facts, lambda values: values.update(manifest="other", train=1))
    images = explained("table4", "D 384").images
    assert images.are_prepared is False and images.facts["train"] == 5712


def test_provenance_is_kept_in_git_for_exactly_the_results_it_is_of(mini: Path) -> None:
    path = mini / "runs/D-384.json"
    record_provenance("train@D-384", path, "cpu", 1, 61.0)
    results = {"train@D-384": path, "train@D-256": mini / "runs/D-256.json"}
    keep_provenance("mini", known_provenance("mini", results))
    shutil.rmtree(provenance_record("x").parent)
    made = explained("table4", "D 384").made
    assert made["train@D-256"] is None and made["train@D-384"] is not None
    assert made["train@D-384"]["seconds"] == 61.0 and made["train@D-384"]["started"].startswith("20")
    assert made["train@D-384"]["versions"].keys() >= {"vgg-repro", "torch", "numpy"}
    keep_provenance("mini", known_provenance("mini", {"train@D-384": path}))  # as a report in a fresh clone does
    assert explained("table4", "D 384").made["train@D-384"] == made["train@D-384"]
    change(path, lambda values: values.update(loss=9.0))
    assert explained("table4", "D 384").made["train@D-384"] is None


def test_every_row_of_every_committed_table_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = load()
    for name in (*(f"table{number}" for number in range(3, 8)), "shallow"):
        values = read_table("mini", name)
        for row in row_names(values, {}):
            found = explain(params, Files("mini"), values, {}, row, None)
            assert list(found.chains) == list(row.runs)
            assert all(chain[0].startswith("random-") for chain in found.chains.values())
            assert {run.seed for run in found.runs} <= {11} and not any(run.missing for run in found.runs)
