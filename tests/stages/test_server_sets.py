"""Files for the evaluation server of test images: made from the same images, they are those of validation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from cli.main import app
from pipeline.datasets.facts import read_statistics
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, errors, posteriors, record, threshold, weights
from pipeline.experiment.server_sets import ILSVRC_TEST, ServerScore, box_scores, class_scores
from pipeline.experiment.validation import load
from pipeline.results.predictions import Task, write_predictions
from stages import prepare, score, server_scores, truth, windows
from stages import random as random_weights
from stages import threshold as choose
from stages.common import build, save_tensors, weights_of
from tests.support.ilsvrc_files import IlsvrcImage, StandIn, in_this_process, make
from tests.support.training import in_copy_of, tiny
from tests.support.unlabelled import kaggle_tree, later

TEST = DataSet(ILSVRC_TEST)
SCORES = [*class_scores(ILSVRC_TEST), *box_scores(ILSVRC_TEST)]
TASKS: tuple[Task, ...] = get_args(Task)
OUT = Path("predictions.txt")
COUNT = 10


def stand_in() -> StandIn:
    return make(np.random.default_rng(5), each=(14, 16), val=COUNT)


def as_test_images(images: list[IlsvrcImage]) -> list[IlsvrcImage]:
    """Validation images under names of test images, in the same order."""
    return [image._replace(id=image.id.replace("val", "test")) for image in images]


def invented(params: Params, name: str, outputs: int, seed: int) -> None:
    """Weights of a net D that nobody trained."""
    torch.manual_seed(seed)
    net = build(params, "D", outputs)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.2)
    save_tensors(weights(name), {"net": "D", "weights": weights_of(net)})


def opinionated(params: Params, run: str) -> None:
    """Weights whose guesses differ from image to image: random ones guess the same classes for all."""
    shutil.copy(weights(f"random-{run[0]}"), weights(run))
    score.main(params, run, "dense")
    with np.load(posteriors(run, "dense")) as arrays:
        usual = np.log(arrays["384"]).mean(0)
    values = torch.load(weights(run), weights_only=True)
    values["weights"]["fc3.bias"] -= torch.from_numpy(usual)
    values["weights"] |= {name: 1000 * values["weights"][name] for name in ("fc3.weight", "fc3.bias")}
    save_tensors(weights(run), values)


def files_in(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def run(*words: str) -> str:
    """What a command prints. Its error is raised."""
    return CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False).output


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ILSVRC's stand-in, scored by random nets, and its validation images as test images beside it."""
    folder = tmp_path_factory.mktemp("scored")
    made = stand_in()
    later(as_test_images(made.val), made.archives(folder / "given"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VGG_REPRO_SHARDS", raising=False)
        in_this_process(patch)
        tiny(folder)
        values = yaml.safe_load(Path("params.yaml").read_text())
        values["profiles"]["mini"]["data"] |= {"source": "ilsvrc2012", "path": "given", "limit": None}
        values["profiles"]["mini"]["localise"]["tuning_images"] = 9
        Path("params.yaml").write_text(yaml.safe_dump(values))
        params = load()
        prepare.main(params)
        for net in "DE":
            random_weights.main(params, net)
            opinionated(params, f"{net}-jitter")
        for seed, name in enumerate(("D-256", "D-384")):
            invented(params, name, 7, seed)
            invented(params, f"PCR-{name.partition('-')[2]}", 4 * 7, 10 + seed)
        truth.main(params)
        for asked in class_scores(""):
            score.main(params, asked.run, asked.mode)
        for name in params.windows:
            windows.main(params, name)
        choose.main(params)
    return folder


@pytest.fixture(scope="module")
def tested(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder where the files of the test images were written by the command: TASK.txt, TASK.said."""
    folder = tmp_path_factory.mktemp("tested")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        in_copy_of(scored, folder, patch)
        run("prepare", ILSVRC_TEST, "--direct")
        for task in TASKS:
            Path(f"{task}.said").write_text(run("predictions", task, f"{task}.txt", "--test", "--direct"))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)


@pytest.fixture
def before(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the folder without test images, which is the current one."""
    return in_copy_of(scored, tmp_path, monkeypatch)


@pytest.fixture
def params(tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the folder with test images, which is the current one."""
    return in_copy_of(tested, tmp_path, monkeypatch)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_images_under_test_names_give_the_file_of_validation(task: Task, params: Params) -> None:
    assert params.test_sets[ILSVRC_TEST].path == "given", "the folder of the profile's images"
    write_predictions(params, task, OUT)
    assert Path(f"{task}.txt").read_text() == OUT.read_text()
    assert len(set(OUT.read_text().splitlines())) >= 5, "they differ from image to image"
    said = Path(f"{task}.said").read_text()
    assert "10 test images" in said and "all 100,000: 99,990 are missing" in said and "Their error" not in said


def test_scores_of_images_without_labels_have_no_labels_and_no_errors(params: Params) -> None:
    for asked in SCORES:
        with np.load(posteriors(asked.run, asked.mode, TEST)) as arrays:
            assert not [name for name in arrays if "label" in name or "truth" in name or name.startswith("train")]
        known = json.loads(errors(asked.run, asked.mode, TEST).read_text())
        assert known["data"] == read_statistics(TEST).manifest != read_statistics().manifest
        assert not known.get("errors") and Path(f"provenance/{asked.stage}.json").exists()


def test_what_tables_are_made_from_stays_to_the_byte(scored: Path, tested: Path) -> None:
    for place in (CLASSIFICATION.folder, Path("weights")):
        assert files_in(scored / place).values() and sorted(files_in(scored / place).values()) == sorted(
            files_in(tested / place).values()
        )
    ours = {path.relative_to(scored): data for path, data in files_in(scored / "scores").items()}
    theirs = {path.relative_to(tested): data for path, data in files_in(tested / "scores").items()}
    assert ours.items() <= theirs.items() and all(ILSVRC_TEST in path.parts for path in theirs.keys() - ours.keys())


def test_only_what_is_missing_or_of_other_weights_is_scored(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ServerScore] = []
    monkeypatch.setattr(server_scores, "main", lambda _, one: asked.append(one))
    server_scores.score_missing(params, SCORES)
    assert not asked
    posteriors("E-jitter", "crops", TEST).unlink()
    errors("PCR-256", "windows", TEST).unlink()
    weights("D-jitter").write_bytes(weights("D-256").read_bytes())
    server_scores.score_missing(params, SCORES)
    lost = [("E-jitter", "crops"), ("PCR-256", "windows")]
    assert asked == [one for one in SCORES if one.run == "D-jitter" or (one.run, one.mode) in lost]


def without_row(params: Params) -> None:
    """No test images have been prepared."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(values | {"test_sets": {}}))


def without_kit(params: Params) -> None:
    """The kit, which has the server's numbers, is gone, as from Kaggle's copy."""
    Path("given/ILSVRC2012_devkit_t12.tar.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_row, r"no test images are prepared: vgg-repro prepare ilsvrc-test --path FOLDER"),
        (without_kit, r"put ILSVRC2012_devkit_t12\.tar\.gz there"),
    ],
)
def test_what_prevents_a_file_is_said_before_anything_is_scored(
    spoil: Callable[[Params], None], message: str, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(params)
    shutil.rmtree("scores")
    monkeypatch.setattr(server_scores, "main", lambda *_: pytest.fail("it was scored"))
    with pytest.raises((UsageError, Failure), match=message):
        run("predictions", "classification", str(OUT), "--test", "--direct")
    assert not OUT.exists()


def test_a_test_image_that_cannot_be_read_prevents_a_file(params: Params) -> None:
    images = as_test_images(stand_in().val)
    images[4] = images[4]._replace(data=b"no image")
    kaggle_tree(images, Path("kaggle"))
    assert "1 file skipped" in run("prepare", ILSVRC_TEST, "--path", "kaggle", "--direct")
    with pytest.raises(Failure, match="1 test images are skipped, the first ILSVRC2012_test_00000005, so that"):
        write_predictions(load(), "classification", OUT, TEST)


def test_scores_of_other_test_images_are_not_used(params: Params) -> None:
    kaggle_tree(as_test_images(stand_in().val)[:6], Path("kaggle"))
    run("prepare", ILSVRC_TEST, "--path", "kaggle", "--direct")
    with pytest.raises(Failure, match="dense of D-jitter is missing; make it with: dvc repro test-dense@ilsvrc-test-D"):
        write_predictions(load(), "classification", OUT, TEST)


def test_published_nets_have_no_boxes_and_are_imported_first(params: Params) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(values | {"weights": "published"}))
    with pytest.raises(UsageError, match="boxes need localisers, which are trained here"):
        run("predictions", "localisation", str(OUT), "--test", "--direct")
    with pytest.raises(UsageError, match="no published net is imported for D-jitter yet"):
        run("predictions", "classification", str(OUT), "--test", "--direct")


def test_published_nets_classify_test_images_as_they_do_validation_images(params: Params) -> None:
    wnids = stand_in().wnids
    values = yaml.safe_load(Path("params.yaml").read_text())
    rows = {f"{net}-jitter": {"file": "elsewhere"} for net in "DE"}
    Path("params.yaml").write_text(yaml.safe_dump(values | {"weights": "published", "imports": rows}))
    for net in "DE":
        stored = torch.load(weights(f"{net}-jitter"), weights_only=True) | {"classes": wnids}
        stored["input"] = {"mean_rgb": [120.0, 110.0, 100.0], "std_rgb": [60.0, 60.0, 60.0]}
        save_tensors(weights(f"{net}-jitter", "published"), stored)
        record(f"{net}-jitter").write_text("{}")
    for asked in class_scores(""):
        score.main(load(), asked.run, asked.mode)
    run("predictions", "classification", str(OUT), "--test", "--direct")
    write_predictions(load(), "classification", Path("validation.txt"))
    assert OUT.read_text() == Path("validation.txt").read_text() != Path("classification.txt").read_text()


def test_the_threshold_is_the_one_chosen_on_training_images(params: Params) -> None:
    values = json.loads(threshold().read_text())
    (chosen,) = [row for key, row in values["rows"].items() if " and " in key]
    chosen["threshold"] = 0.4 if chosen["threshold"] != 0.4 else 2.0
    threshold().write_text(json.dumps(values))
    write_predictions(params, "localisation", OUT, TEST)
    assert OUT.read_text() != Path("localisation.txt").read_text()
    threshold().unlink()
    with pytest.raises(Failure, match="the threshold of merging is missing"):
        write_predictions(params, "localisation", OUT, TEST)


def test_images_of_other_classes_and_missing_ones_leave_params_yaml_as_it_is(before: Params) -> None:
    text = Path("params.yaml").read_text()
    with pytest.raises(UsageError, match=r"has no test images of ILSVRC-2012(.|\n)*params\.yaml is unchanged"):
        run("prepare", ILSVRC_TEST, "--path", "provenance", "--direct")
    images = as_test_images(stand_in().val)
    with pytest.raises(UsageError, match=r"has 9 of the 100,000 test images: 1 before(.|\n)*params\.yaml is unchanged"):
        run("prepare", ILSVRC_TEST, "--path", str(kaggle_tree(images[:5] + images[6:], Path("gap"))), "--direct")
    assert Path("params.yaml").read_text() == text
    values = yaml.safe_load(text)
    values["profiles"]["mini"]["data"] |= {"source": "characters", "path": None}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="has the classes of source ilsvrc2012, but profile mini has source charact"):
        run("prepare", ILSVRC_TEST, "--path", "given", "--direct")
