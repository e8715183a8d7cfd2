"""params.yaml: read as typed values; whatever is wrong is named with its place and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import modify_yaml
from pydantic import BaseModel

from pipeline.errors import UsageError
from pipeline.experiment.modes import PROTOCOLS
from pipeline.experiment.params import ROUNDING, Params, Score, Train
from pipeline.experiment.validation import load
from tests.support import ROOT

TEXT = (ROOT / "params.yaml").read_text()


def edited(folder: Path, old: str, new: str) -> Params:
    """The repository's params.yaml with `old` replaced, read from `folder`."""
    assert old in TEXT
    path = folder / "params.yaml"
    path.write_text(TEXT.replace(old, new))
    return load(path)


def test_the_repositorys_own_file_is_read() -> None:
    params = load(ROOT / "params.yaml")
    assert params.active.net.crop == 96
    assert params.largest_scale == 512
    assert params.runs["D-jitter"].scales == (256, 512)
    assert params.runs["D-256"].scales == (256, 256)


@pytest.mark.parametrize(
    ("stage", "block", "model"),
    [*((s, "train", Train) for s in ("train", "localiser")), *((mode, "score", Score) for mode in PROTOCOLS)],
)
def test_all_that_shapes_a_result_is_tracked(stage: str, block: str, model: type[BaseModel]) -> None:
    """dvc.yaml names the keys one by one: those that change results by rounding alone are none of them.

    Nor are `mean` and `remainder` for crops, whose score map is of one cell, and `mean` for boxes, which have none.
    """
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    prefix = f"profiles.${{profile}}.{block}."
    listed = [key.removeprefix(prefix) for key in stages[stage]["do"]["params"] if key.startswith(prefix)]
    without = {"mean", "remainder"} if stage in ("crops", "centre", "boxes") else set()
    without |= {"mean"} if stage == "windows" else set()
    assert sorted(listed) == sorted(set(model.model_fields) - set(ROUNDING) - without)


def test_parameters_are_those_that_stand_in_the_current_folder_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two repositories in one process, and a file that is edited meanwhile."""
    for place, seed in (("one", 1), ("two", 2), ("one", 3)):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        Path("params.yaml").write_text(TEXT.replace("seed: 11\n      batch: 16", f"seed: {seed}\n      batch: 16"))
        assert load().profiles["mini"].training.seed == seed


def test_the_grid_is_the_papers() -> None:
    runs = load(ROOT / "params.yaml").runs
    assert {name for name, run in runs.items() if run.recipe == "warm"} == {"B-256", "C-256", "D-256", "E-256"}
    assert all(runs[f"{net}-256"].init == "A-256" for net in "BCDE")
    assert all(runs[f"{net}-384"].init == f"{net}-256" for net in "CDE")
    assert all(runs[f"{net}-jitter"].init == f"{net}-384" for net in "CDE")
    assert (runs["D-jitter-fc"].layers, runs["D-jitter-fc"].init) == ("fc", "D-384")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rate: 0.005, epochs: 4", "learning_rte: 0.005, epochs: 4", ["learning_rte", "learning_rate"]),
        ("momentum: 0.9", "momentum: high", ["momentum", "valid number"]),
        ("momentum: 0.9", "momentum: 1.5", ["profiles.mini.train.momentum", "less than 1"]),
        ("profile: mini", "profile: mimi", ["mimi", "mini"]),
        ("batch: 16", "batch: -3", ["train.batch"]),
        ("batch: 16", "batch: 16.5", ["train.batch"]),
        ("init: D-256, recipe", "init: D-265, recipe", ["runs.D-384.init", "Did you mean D-256"]),
        ("D-256: {net: D, scale: 256, init: A-256", "D-256: {net: D, scale: 256, init: D-384", ["leads back"]),
        ("C-256: {net: C, scale: 256, init: A-256", "C-256: {net: C, scale: 256, init: E-256", ["cannot start from"]),
        ("C-384: {net: C, scale: 384", "C-384: {net: C, scale: 200", ["runs.C-384.scale", "crop"]),
        (
            "D-jitter: {net: D, scale: [256, 512]",
            "D-jitter: {net: D, scale: [512, 256]",
            ["smaller value must come first"],
        ),
        ("crops: [D-jitter,", "crops: [D-jiter,", ["crops: unknown run D-jiter", "Did you mean D-jitter"]),
        ("size_ratio: 3/7", "size_ratio: 1/8", ["size_ratio", "below 32"]),
        ("size_ratio: 3/7", "size_ratio: 3/0", ["size_ratio"]),
        ("net: shallow,", "net: shalow,", ["runs.shallow-256.net"]),
        ("texture: 10.0", "textur: 10.0", ["profiles.mini.data.characters.textur", "Did you mean texture"]),
        ("canvas: [256, 512]", "canvas: [512, 256]", ["data.characters.canvas", "smaller value must come first"]),
        ("digit: [0.45, 0.6]", "digit: [0.6, 0.45]", ["data.digits.digit", "smaller value must come first"]),
        ("shared: drop", "shared: dropp", ["profiles.mini.prepare.shared", "'drop' or 'keep'"]),
        (
            "shard_images: 256",
            "shard_imgs: 256",
            ["unknown key profiles.mini.prepare.shard_imgs", "Did you mean shard_images"],
        ),
        ("max_unreadable: 0.01", "max_unreadable: 1.5", ["prepare.max_unreadable", "less than or equal to 1"]),
        ("PCR-256: {run: D-256,", "PCR-256: {run: D-265,", ["localisers.PCR-256.run", "Did you mean D-256"]),
        ("PCR-256: {run: D-256, boxes: class", "PCR-256: {run: D-256, boxes: one", ["boxes: one", "begins with SCR-"]),
        ("PCR-256: {run: D-256,", "PCR 256: {run: D-256,", ["localisers.PCR 256", "without any of"]),
        ("boxes: class, recipe", "boxes: klass, recipe", ["localisers.PCR-256.boxes", "'one' or 'class'"]),
        ("boxes: class, recipe", "boxs: class, recipe", ["localisers.PCR-256.boxs", "Did you mean boxes"]),
        ("A-256: {net: A,", "PCR-A: {net: A,", ["runs.PCR-A", "are those of `localisers`"]),
        ("PCR-256: {scores", "PCR-265: {scores", ["windows.PCR-265", "Did you mean PCR-256"]),
        ("scores: D-256", "scores: D-265", ["windows.PCR-256.scores", "Did you mean D-256"]),
        ("scales: [256]}", "scales: [200]}", ["windows.PCR-256.scales", "smaller than the 224-pixel crop"]),
        ("scales: [352, 384]", "scales: [384, 384]", ["windows.PCR-384.scales", "may be there once"]),
        ("min_visible: 0.5", "min_visible: 50", ["profiles.mini.localise.min_visible", "less than or equal to 1"]),
        ("min_visible: 0.5", "min_visibel: 0.5", ["localise.min_visibel", "Did you mean min_visible"]),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        edited(tmp_path, old, new)
    assert all(word in str(caught.value) for word in ["params.yaml", *words]), str(caught.value)


def test_broken_yaml_and_a_missing_file_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not YAML"):
        edited(tmp_path, "profile: mini", "profile: [mini")
    with pytest.raises(UsageError, match="there is no"):
        load(tmp_path / "nowhere.yaml")


def test_every_block_is_checked_for_missing_keys(tmp_path: Path) -> None:
    values = yaml.safe_load(TEXT)
    for number, block in enumerate(("data", "prepare", "net", "train", "score")):
        removed = dict(values["profiles"]["mini"][block])
        key = next(key for key in removed if key != "limit")
        removed.pop(key)
        path = tmp_path / f"{number}.yaml"
        path.write_text(
            yaml.safe_dump({**values, "profiles": {"mini": {**values["profiles"]["mini"], block: removed}}})
        )
        with pytest.raises(UsageError, match=f"profiles.mini.{block}.{key} is missing"):
            load(path)


def test_a_number_may_have_an_exponent(tmp_path: Path) -> None:
    assert edited(tmp_path, "learning_rate: 0.005, epochs: 4", "learning_rate: 5e-3, epochs: 4") == load(
        ROOT / "params.yaml"
    )


def test_the_file_as_dvc_writes_it_means_the_same(tmp_path: Path) -> None:
    """`dvc exp run -S` writes params.yaml anew, by YAML 1.2: without the quotes of 4:4:4, with null as nothing."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    with modify_yaml(str(path)) as values:
        values["profiles"]["mini"]["train"]["seed"] = 11
    assert 'chroma: "4:4:4"' not in path.read_text()
    assert load(path) == load(ROOT / "params.yaml")
