"""Rows of `test_sets` and their stages: only files of predictions depend on images without labels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment.modes import scales_of
from pipeline.experiment.paper_tables import GUESSING, rows
from pipeline.experiment.params import Import
from pipeline.experiment.params_file import fit_test_sets, write
from pipeline.experiment.params_file import with_row as with_row_of
from pipeline.experiment.paths import PARAMS, DataSet
from pipeline.experiment.server_sets import (
    ILSVRC_TEST,
    LOCALISERS,
    box_scores,
    class_scores,
    server_score,
    set_stages,
)
from pipeline.experiment.targets import everything, stages
from pipeline.experiment.validation import load
from pipeline.orchestration.cost_plan import plan
from pipeline.orchestration.dvc_graph import StageForecast
from pipeline.orchestration.stage_facts import score_facts
from reports.plan_page import _protocol
from tests.support import ROOT

SCORES = [*class_scores(ILSVRC_TEST), *box_scores(ILSVRC_TEST)]
STAGES = {*set_stages(ILSVRC_TEST), *(score.stage for score in SCORES)}


def with_row(folder: Path, profile: str = "paper", name: str = ILSVRC_TEST) -> Path:
    """The repository's params.yaml with another profile and a row."""
    values = yaml.safe_load((ROOT / PARAMS).read_text())
    values |= {"profile": profile, "test_sets": {name: {"path": "/data/ilsvrc2012"}}}
    values |= {} if profile == "mini" else {"datasets": {}}
    path = folder / PARAMS
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """DVC's stages, where the row is there, in the current folder."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    with_row(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    Repo.init(str(tmp_path), no_scm=True).close()
    with Repo(str(tmp_path)) as repo:
        yield {stage.addressing: stage for stage in repo.index.stages}


def test_without_a_row_there_are_no_stages_of_it() -> None:
    params = load(ROOT / PARAMS)
    assert not params.test_sets and not STAGES & set(stages(params))


def test_a_rows_stages_are_dvcs_and_their_results_those_that_are_known(graph: dict[str, Any]) -> None:
    params = load()
    assert set(stages(params)) == set(graph) and set(graph) > STAGES
    for score in SCORES:
        facts = score_facts(params, score.run, score.mode, DataSet(ILSVRC_TEST))
        assert facts.stage == score.stage and server_score(params, score.stage) == score
        assert {str(path) for path in facts.outputs} == {out.def_path for out in graph[score.stage].outs}
    assert server_score(params, "dense@D-jitter") is None


def test_nothing_else_depends_on_images_without_labels(graph: dict[str, Any]) -> None:
    made = {out.def_path for stage in STAGES for out in graph[stage].outs}
    assert all(f"/{ILSVRC_TEST}/" in path for path in made)
    for name, stage in graph.items():
        used = {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}
        assert name in STAGES or not used & made, name


def test_scores_depend_on_what_shapes_those_of_the_validation_images(graph: dict[str, Any]) -> None:
    """Their weights, the training images' colours and all parameters, but not the validation images' scores."""

    def depends(stage: str) -> tuple[set[str], set[str]]:
        files = {dep.def_path for dep in graph[stage].deps if not hasattr(dep, "params")}
        return files, {key for dep in graph[stage].deps for key in getattr(dep, "params", ())}

    for score in SCORES:
        files, keys = depends(score.stage)
        same_files, same_keys = depends(f"{score.mode}@{score.run}")
        assert keys == {key for key in same_keys if not key.endswith("tuning_images")}, "of training images"
        same_files -= {"data/classification/boxes.json"}  # which the test images do not have
        moved = {path.replace("scores/", f"scores/{ILSVRC_TEST}/") for path in same_files}
        assert files == moved | {f"data/{ILSVRC_TEST}/statistics.json"}


def test_they_are_the_scores_of_the_papers_best_systems() -> None:
    params = load(ROOT / PARAMS)
    assert {(score.run, score.mode) for score in class_scores(ILSVRC_TEST)} == set(GUESSING.needs())
    assert all(len(scales_of(params.runs[run], mode)) == 3 for run, mode in GUESSING.needs())
    assert rows("table9", params)[-1].runs == LOCALISERS


def test_published_nets_classify_and_nothing_asks_for_boxes(tmp_path: Path) -> None:
    params = load(with_row(tmp_path, "paper"))
    assert everything(params) == [], "all, with boxes"
    imports = {"D-jitter": Import(file="D")}
    published = params.model_copy(update={"weights": "published", "imports": imports})
    asked = {stage for stage in everything(published) if stage in STAGES}
    assert asked == {score.stage for score in class_scores(ILSVRC_TEST) if score.run == "D-jitter"}


def test_without_boxes_no_test_windows_are_asked_for(tmp_path: Path) -> None:
    params = load(with_row(tmp_path, "paper"))
    profile = params.active.model_copy(update={"localise": None})
    params = params.model_copy(update={"profiles": {"paper": profile}, "located": "table3"})
    asked = STAGES & set(everything(params))
    assert asked == STAGES - {score.stage for score in box_scores(ILSVRC_TEST)}


def test_the_plan_counts_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load(with_row(tmp_path))
    monkeypatch.chdir(tmp_path)
    costs = plan(params, [StageForecast(score.stage, frozenset(), "run", "") for score in SCORES]).scoring
    scales = {"dense": 3, "crops": 3, "windows": 0}
    expected = [scales[score.mode] or len(params.windows[score.run].scales) for score in SCORES]
    assert [(cost.name, cost.images) for cost in costs] == [
        (score.run, 100_000 * count) for score, count in zip(SCORES, expected, strict=True)
    ]
    assert all(cost.flops and cost.disk for cost in costs)
    named = {"dense, test images", "50 crops per scale, test images", "boxes, dense, test images"}
    assert {_protocol(cost) for cost in costs} == named


def test_a_profile_of_other_classes_cannot_have_the_row(tmp_path: Path) -> None:
    path = with_row(tmp_path, "mini")
    with pytest.raises(UsageError, match=r"test_sets has ilsvrc-test.*prepare --profile mini"):
        load(path, extra=True)
    assert fit_test_sets(path) == [ILSVRC_TEST]
    assert not yaml.safe_load(path.read_text())["test_sets"] and fit_test_sets(path) == []
    assert fit_test_sets(with_row(tmp_path, "paper")) == []


def test_a_row_comes_and_goes_and_the_file_is_otherwise_the_same(tmp_path: Path) -> None:
    path = Path(shutil.copy(ROOT / PARAMS, tmp_path))
    text = path.read_text()
    write(with_row_of("test_sets", ILSVRC_TEST, {"path": "/data/my images"}, path), path)
    assert path.read_text() == text.replace("test_sets: {}", "test_sets:\n  ilsvrc-test: {path: /data/my images}")
    assert fit_test_sets(path) == [ILSVRC_TEST] and path.read_text() == text


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown data set mine\. Available: ilsvrc-test"):
        load(with_row(tmp_path, name="mine"))
