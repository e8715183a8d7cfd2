"""The facts of stages that may be jobs: results as dvc.yaml has them, and keys that change with what shapes these."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.datasets.facts import read_statistics
from pipeline.experiment.modes import CENTRE_BOXES, WINDOWS
from pipeline.experiment.other_sets import FEATURES, described_by
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, checkpoints, weights
from pipeline.experiment.run_names import work_of
from pipeline.experiment.validation import load
from pipeline.orchestration.heartbeat import identity
from pipeline.orchestration.stage_facts import StageFacts, features_facts, prepare_facts, score_facts, train_facts
from tests.support import ROOT
from tests.support.training import in_copy_of


@pytest.fixture
def params(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of that folder, which is the current one."""
    return in_copy_of(prepared, tmp_path, monkeypatch)


def facts_of(params: Params, stage: str) -> StageFacts:
    """The facts of a stage."""
    work, name = work_of(stage)
    if work == "prepare":
        return prepare_facts(params)
    if work in ("train", "localiser"):
        return train_facts(params, name)
    if work == FEATURES:
        return features_facts(params, *described_by(stage))
    return score_facts(params, name, work)


def changed(**blocks: Mapping[str, Any]) -> Params:
    """The parameters with other values in blocks of the profile."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    for block, keys in blocks.items():
        values["profiles"]["mini"][block] |= keys
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return load()


def test_the_results_are_those_that_dvc_knows(params: Params) -> None:
    from dvc.repo import Repo

    travelling = ("prepare", "train", "localiser", "dense", "crops", "centre", CENTRE_BOXES, WINDOWS, FEATURES)
    with chdir(ROOT), Repo() as repo:
        outs = {stage.addressing: {out.def_path for out in stage.outs} for stage in repo.index.stages}
    outs = {stage: paths for stage, paths in outs.items() if work_of(stage)[0] in travelling}
    assert len(outs) > 30
    for stage, paths in outs.items():
        facts = facts_of(params, stage)
        assert (facts.stage, {str(path) for path in facts.outputs}) == (stage, paths)


def test_training_is_known_by_its_checkpoint(params: Params) -> None:
    facts = train_facts(params, "A-256")
    key = identity(params, "A-256", read_statistics())
    assert facts.key == key and facts.lock == checkpoints("A-256", key) / "lock"
    assert facts.splits == ("train", "val")
    checkpoints("A-256", key).mkdir(parents=True)
    (checkpoints("A-256", key) / "last.pt").write_text("saved")
    assert train_facts(params, "A-256").mark != facts.mark


def test_what_affects_rounding_only_does_not_change_a_key(params: Params) -> None:
    stages = (
        "train@A-256",
        "dense@A-256",
        "boxes@SCR-384-fc",
        "windows@PCR-384",
        "features@scenes-D-jitter",
        "prepare",
    )
    keys = [facts_of(params, stage).key for stage in stages]
    other = changed(train={"threads": 7}, score={"threads": 7, "processes": 3}, prepare={"processes": 5})
    assert [facts_of(other, stage).key for stage in stages] == keys


@pytest.mark.parametrize("stage", ["dense@A-256", "crops@D-jitter", "boxes@SCR-384-fc", "windows@PCR-384"])
def test_what_shapes_a_score_changes_its_key(params: Params, stage: str) -> None:
    keys = [facts_of(params, stage).key]
    weights(work_of(stage)[1]).write_text("weights")
    keys.append(facts_of(params, stage).key)
    keys.append(facts_of(changed(score={"resize": "bicubic"}), stage).key)
    assert len(set(keys)) == 3
    assert facts_of(params, stage).mark is None


def test_a_score_reads_the_validation_images_alone(params: Params) -> None:
    assert facts_of(params, "dense@A-256").splits == ("val",)
    assert facts_of(params, "windows@PCR-384").splits == ("train", "val")


def test_other_images_are_another_preparation(params: Params) -> None:
    assert prepare_facts(params).key != prepare_facts(changed(prepare={"quality": 90})).key


def test_features_are_known_by_all_that_shapes_them(params: Params) -> None:
    stage, data_set = "features@scenes-D-jitter", DataSet("scenes")
    data_set.folder.mkdir(parents=True)
    keys = [facts_of(params, stage).key]
    for path in (data_set.examples, data_set.statistics, weights("D-jitter")):
        path.write_bytes(b"other")
        keys.append(facts_of(params, stage).key)
    for changes in ({"dtype": "float16"}, {"activations": "before_relu"}):
        keys.append(facts_of(changed(transfer=changes), stage).key)
    row = params.datasets["scenes"].model_copy(update={"scales": (256,)})
    keys.append(facts_of(load().model_copy(update={"datasets": {"scenes": row}}), stage).key)
    assert len(set(keys)) == len(keys)
    assert facts_of(changed(transfer={"costs": [1]}), stage).key == keys[-2]
