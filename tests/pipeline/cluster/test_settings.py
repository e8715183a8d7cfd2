"""slurm.yaml: what it says, what is wrong with it, and what a kind of stage asks for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli.main
from pipeline.cluster.settings import chosen, kind_of_stage, seconds, settings
from pipeline.errors import UsageError
from pipeline.system.yaml_text import parse_yaml
from tests.support import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("VGG_REPRO_CLUSTER", "VGG_REPRO_GPUS_PER_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_example_is_valid(folder: Path) -> None:
    shutil.copy(ROOT / "docs/slurm.yaml", folder / "slurm.yaml")
    score = settings().request("score")
    assert score and (score.partition, score.time, score.gpus) == ("gpu", "06:00:00", 1)
    assert settings().request("prepare") is None


def test_the_examples_of_the_guide_are_valid(folder: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/cluster.md").read_text(), re.S)
    requests = []
    for text in examples:
        (folder / "slurm.yaml").write_text(text)
        requests += [settings().request("train"), settings().request("score")]
    assert [(request.nodes, request.gpus) for request in requests if request] == [(1, 1), (1, 1), (2, 4), (1, 1)]


def test_the_example_names_every_key() -> None:
    from pipeline.cluster.settings import ClusterSettings, JobRequest

    text = (ROOT / "docs/slurm.yaml").read_text()
    assert [key for key in (*ClusterSettings.model_fields, *JobRequest.model_fields) if f"{key}:" not in text] == []


def test_a_block_overrides_the_defaults(folder: Path) -> None:
    (folder / "slurm.yaml").write_text("defaults: {gpus: 4, time: 120}\ntrain:\nprepare: {gpus: null, cpus: 32}\n")
    train, prepare = settings().request("train"), settings().request("prepare")
    assert train and train.gpus == 4
    assert prepare and (prepare.gpus, prepare.cpus, prepare.time) == (None, 32, 120)


@pytest.mark.parametrize("memory", ["64G", "64g", "1T", 4096, "0"])
def test_memory_is_given_as_to_sbatch(folder: Path, memory: str | int) -> None:
    (folder / "slurm.yaml").write_text(f"train: {{memory: {memory}}}\n")
    train = settings().request("train")
    assert train and str(train.memory) == str(memory)


def test_gpus_per_stage_replaces_the_gpus_of_training_and_scoring(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "slurm.yaml").write_text("defaults: {gpus: 4, nodes: 2}\ntrain:\nprepare: {gpus: null}\n")
    monkeypatch.setenv("VGG_REPRO_GPUS_PER_STAGE", "2")
    train, prepare = settings().request("train"), settings().request("prepare")
    assert train and (train.gpus, train.nodes) == (2, 1)
    assert prepare and (prepare.gpus, prepare.nodes) == (None, 1), "images are prepared on one node"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {partitoin: gpu}\ntrain:", "unknown key defaults.partitoin. Did you mean partition?"),
        ("trian:", "unknown key trian. Did you mean train?"),
        ("train: {time: soon}", "train.time is 'soon': give minutes, H:M:S or D-H:M:S"),
        ("train: {gpus: 0}", "train.gpus is 0: give null for none"),
        ("train: {memory: -5G}", "train.memory is '-5G': give megabytes, or a number with K, M, G or T, such as 64G"),
        ("train: {memory: 500 MB}", "train.memory is '500 MB': give megabytes"),
        ("train: {memory: 1.5}", "train.memory"),
        ("train: [gpu]", "train is a list: give a block of keys and values"),
        ("train: yes", "train is a text: give a block of keys and values"),
        ("train: {time: 24:00:00}", 'Within braces, quote a time: {time: "24:00:00"}'),
        ("defaults: {time: 60}", "no kind of stage is to be jobs"),
        ("train: {time: 5}", "less than twice its notice"),
        ("train: [", "slurm.yaml is not YAML"),
        ("- train", "slurm.yaml: the file is a list: give a block"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "slurm.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"slurm\.yaml") as error:
        settings()
    assert message in str(error.value)


def test_without_settings_the_example_is_named() -> None:
    with pytest.raises(UsageError, match=r"cp docs/slurm\.yaml slurm\.yaml"):
        settings()


def test_a_cluster_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not chosen()
    monkeypatch.setenv("VGG_REPRO_CLUSTER", "slurm")
    assert chosen()
    monkeypatch.setenv("VGG_REPRO_CLUSTER", "lsf")
    with pytest.raises(UsageError, match="only slurm is supported"):
        chosen()


@pytest.mark.parametrize("command", ["plan", "status"])
def test_an_unknown_cluster_is_noticed_before_a_run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGG_REPRO_CLUSTER", "lsf")
    done = CliRunner().invoke(cli.main.app, [command])
    assert isinstance(done.exception, UsageError) and "only slurm is supported" in str(done.exception)


@pytest.mark.parametrize(
    ("time", "expected"),
    [(5, 300), ("60", 3600), ("1:30", 90), ("24:00:00", 86400), ("1-2", 93600), ("1-02:03", 93780), ("1-0:0:4", 86404)],
)
def test_times_are_read_as_sbatch_reads_them(time: int | str, expected: int) -> None:
    assert seconds(time) == expected


def test_the_kind_of_every_stage_follows_from_its_name() -> None:
    """It is the kind that the stage's own command asks for."""
    kinds = {
        "train": "train",
        "prepare": "prepare",
        **dict.fromkeys(("score", "boxes", "windows", "test-score", "features"), "score"),
    }
    for stage, entry in parse_yaml((ROOT / "dvc.yaml").read_text())["stages"].items():
        command = entry.get("do", entry)["cmd"].split()
        assert kind_of_stage(f"{stage}@D-256-seed1") == kinds.get(command[2]), stage
