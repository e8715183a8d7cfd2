"""Localisers as stages: what they start from and learn, resumed or in several processes the same, and their files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.distributed.launcher import api

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.experiment.validation import load
from pipeline.orchestration.heartbeat import identity
from pipeline.system.atomic_files import sha256
from stages import centre_boxes, score, train, trainer, truth, windows
from stages.boxes import BoxedImages, true_boxes, with_boxes
from tests.support import ROOT, forks
from tests.support.training import in_copy_of, with_random_weights
from vgg.fit import State
from vgg.localise import first_right

NAME = "PCR-256"
WEIGHTS = Path(f"weights/trained/{NAME}.pt")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny trained and scored run A-256, to be copied."""
    folder = tmp_path_factory.mktemp("begun")
    with_random_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = edited()
        train.main(params, "A-256")
        score.main(params, "A-256", "dense")
        truth.main(params)
    return folder


@pytest.fixture
def params(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the folder, which is the current one."""
    return in_copy_of(begun, tmp_path, monkeypatch)


def edited(**row: str) -> Params:
    """The parameters with localisers that start from A-256, each for three epochs of six steps."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    one = {"run": "A-256", "boxes": "class", "recipe": "localise"}
    values["localisers"] = {NAME: one | row, "SCR-256": one | {"boxes": "one", "layers": "fc"}}
    values["windows"] = {NAME: {"scores": "A-256", "scales": [256]}}
    values["profiles"]["mini"]["recipes"]["localise"] |= {"epochs": 3, "first_drop": 0}
    values["profiles"]["mini"]["localise"]["tuning_images"] = 9
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return load()


def weights(name: str) -> dict[str, torch.Tensor]:
    """The finished weights of a run."""
    values: dict[str, torch.Tensor] = torch.load(f"weights/trained/{name}.pt", weights_only=True)["weights"]
    return values


def test_a_localiser_of_fc_layers_keeps_the_convolutions_of_its_run(params: Params) -> None:
    train.main(params, "SCR-256")
    ours, theirs = weights("SCR-256"), weights("A-256")
    assert ours["fc3.bias"].shape == (4,)
    for name, value in theirs.items():
        if name.startswith("conv"):
            assert torch.equal(ours[name], value), name
        elif not name.startswith("fc3"):
            assert not torch.equal(ours[name], value), name
    summary = json.loads(Path("weights/trained/SCR-256.json").read_text())
    assert (summary["boxes"], summary["layers"], summary["init"], summary["steps"]) == ("one", "fc", "A-256", 18)
    assert summary["without_boxes"] == {"train": 0, "val": 0}


def test_interrupted_at_any_step_a_localiser_ends_in_the_same_bytes(
    params: Params, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    train.main(params, NAME)
    expected = sha256(WEIGHTS)
    assert weights(NAME)["fc3.bias"].shape == (4 * read_statistics().classes,)
    WEIGHTS.unlink()
    step, real = int(rng.integers(1, 18)), trainer.Trainer._after_step

    def interrupt(self: trainer.Trainer, state: State, loss: float, stop: bool) -> None:
        if state.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, state, loss, stop)

    monkeypatch.setattr(trainer.Trainer, "_after_step", interrupt)
    with pytest.raises(Interrupted, match=f"{NAME} stopped at step {step + 1};"):
        train.main(params, NAME)
    monkeypatch.setattr(trainer.Trainer, "_after_step", real)
    train.main(params, NAME)
    assert sha256(WEIGHTS) == expected, f"interrupted at step {step}"


def test_what_shapes_a_localiser_is_its_checkpoints_identity(params: Params) -> None:
    statistics = read_statistics()
    ours, theirs = identity(params, NAME, statistics), identity(params, "A-256", statistics)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["profiles"]["mini"]["localise"]["min_visible"] = 0.25
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert identity(load(), NAME, statistics) != ours
    assert identity(load(), "A-256", statistics) == theirs
    CLASSIFICATION.boxes.write_text("other boxes")
    assert identity(params, NAME, statistics) != ours
    assert identity(params, "A-256", statistics) == theirs


def test_the_error_of_training_is_that_of_the_boxes_stage(params: Params) -> None:
    train.main(params, NAME)
    centre_boxes.main(params, NAME)
    with np.load(f"scores/boxes-{NAME}.npz") as arrays:
        labels = arrays["labels"]
        first = first_right(arrays["boxes"][:, None], labels[:, None], labels, arrays["truth"], arrays["truth_of"])
    trained = json.loads(WEIGHTS.with_suffix(".json").read_text())["centre_crop"]
    assert 100 * (first > 0).mean() == pytest.approx(trained["top1"], abs=100 / len(labels))  # bfloat16, other batches


def test_windows_are_of_the_guessed_classes_and_of_training_images(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.main(params, NAME)
    monkeypatch.setattr(windows, "GUESSING", windows.GUESSING.__class__({}, ("A-256",), ("dense",), True))
    windows.main(params, NAME)
    images = Shards(CLASSIFICATION.shards, "val")
    with np.load("scores/dense-A-256.npz") as scores, np.load(f"scores/windows-{NAME}.npz") as arrays:
        best = np.argsort(-scores["256"], 1, kind="stable")[:, :5]
        assert np.array_equal(arrays["classes"], best)
        assert len(arrays["256"]) == arrays["256-counts"].sum() and arrays["256"].shape[1:] == (5, 5)
        assert len(arrays["256-counts"]) == len(images)
        assert arrays["train-256"].shape[1:] == (1, 5) and len(arrays["train-labels"]) == 9
        assert (arrays["256"][..., 4] > 0).all() and (arrays["256"][..., 4] < 1).all()


def test_images_without_boxes_are_not_trained_on(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Shards.boxes_of
    monkeypatch.setattr(Shards, "boxes_of", lambda self, image: real(self, image)[: image % 3])
    train.main(params, NAME)
    summary = json.loads(WEIGHTS.with_suffix(".json").read_text())
    shards = {split: len(Shards(CLASSIFICATION.shards, split)) for split in ("train", "val")}
    assert summary["without_boxes"] == {split: -(-count // 3) for split, count in shards.items()}
    assert summary["centre_crop"]["images"] == shards["val"] - -(-shards["val"] // 3)
    monkeypatch.setattr(Shards, "boxes_of", lambda self, image: real(self, image)[:0])
    with pytest.raises(Failure, match="none of the training images has a box"):
        train.main(edited(layers="fc"), NAME)


def test_boxes_of_some_images_are_theirs(params: Params) -> None:
    shards = Shards(CLASSIFICATION.shards, "train")
    numbers = with_boxes(shards)[::-2]
    some = BoxedImages(shards, numbers)
    boxes, of = true_boxes(some)
    assert of.tolist() == list(range(len(numbers)))
    for place, number in enumerate(numbers):
        assert np.array_equal(some.boxes_of(place), shards.boxes_of(number))
        assert np.array_equal(boxes[place], shards.boxes_of(number)[0])
        assert np.array_equal(some[place], shards[number])
        assert (some.heights[place], some.labels[place]) == (shards.heights[number], shards.labels[number])


@pytest.mark.slow  # each process takes some seconds to import torch
def test_two_processes_train_a_localiser_as_one_does(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    forks.serve()
    usual, how = api.LaunchConfig, {"start_method": "forkserver"}
    monkeypatch.setattr(api, "LaunchConfig", lambda *words, **more: usual(*words, **more | how))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found, histories = [], []
    for processes in (1, 2):
        values = yaml.safe_load(Path("params.yaml").read_text())
        values["profiles"]["mini"]["train"] |= {"processes": processes, "precision": "float32"}
        Path("params.yaml").write_text(yaml.safe_dump(values))
        train.main(load(), NAME)
        found.append(weights(NAME))
        lines = WEIGHTS.with_suffix(".csv").read_text().splitlines()[1:]
        histories.append([list(map(float, line.split(","))) for line in lines])
        assert json.loads(Path(f"provenance/localiser@{NAME}.json").read_text())["processes"] == processes
    for name, value in found[0].items():
        assert (found[1][name] - value).norm() <= 1e-5 * value.norm() + 1e-9, name
    np.testing.assert_allclose(*histories, rtol=1e-4)
