"""The command line: help, completion, one message for every failure, and the handover to DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli import common
from cli.common import check_devices, complete_runs, complete_targets
from cli.main import app
from cli.table import complete_tables, read_computed
from pipeline.errors import Failure, UsageError
from pipeline.experiment.validation import load
from pipeline.system import devices
from tests.support import ROOT

PROGRAM = Path(sys.executable).parent / "vgg-repro"


def call(*words: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person does."""
    variables = {**{k: v for k, v in os.environ.items() if k != "DVC_STAGE"}, **environment}
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, cwd=folder, env=variables, check=False)


@pytest.mark.parametrize("words", [["prepare"], ["weights", "random"], ["train"], ["score"], ["table"], ["report"]])
def test_each_command_helps_with_an_example(words: list[str]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert f"Example: vgg-repro {' '.join(words)}" in " ".join(done.output.split())


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("vgg-repro 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "D-348"], "Did you mean D-384"),
        (["score", "dens", "D-384"], "Did you mean dense"),
        (["score", "dense", "X"], "unknown run 'X'"),
        (["weights", "random", "F"], "unknown net 'F'"),
        (["table", "0"], "Available: 1, 2"),
    ],
)
def test_wrong_names_end_with_one_message_and_code_2(words: list[str], message: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    assert call("train", "--bogus").returncode == 2


def test_a_failure_ends_with_one_message_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = call("score", "dense", "D-384", "--direct", folder=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == "vgg-repro: data/classification/statistics.json does not exist; make it with: vgg-repro prepare\n"
    )


def test_a_broken_file_is_named_with_the_command_that_makes_it_again(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    facts = tmp_path / "data/classification/statistics.json"
    facts.parent.mkdir(parents=True)
    for text, what in (("{", "is not valid JSON"), ("[1]", "has unexpected content"), ("{}", "has unexpected")):
        facts.write_text(text)
        done = call("score", "dense", "D-384", "--direct", folder=tmp_path)
        assert done.returncode == 1
        assert f"vgg-repro: data/classification/statistics.json {what}" in done.stderr
        assert done.stderr.endswith("make it again with: vgg-repro prepare\n")


def test_a_broken_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports/mini").mkdir(parents=True)
    (tmp_path / "reports/mini/table4.json").write_text("{")
    with pytest.raises(Failure, match=r"table4\.json is not valid JSON .*make it again with: vgg-repro table 4"):
        read_computed(load(), "table4")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "Traceback" in call("--debug", "report", folder=tmp_path).stderr


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    done = call("train", "A-256", folder=tmp_path)
    assert done.returncode == 2
    assert "root of the repository" in done.stderr


@pytest.mark.parametrize("words", ["-h", "--help", "help", ""])
def test_the_help_fits_a_narrow_terminal_and_cuts_nothing_off(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = call(*words.split(), folder=tmp_path)
    text = done.stdout + done.stderr
    assert "Make:" in text and "Look:" in text and "Care:" in text
    assert "..." not in text.partition("Make:")[2]
    assert all(len(line) <= 60 for line in text.splitlines())


def test_a_source_that_is_not_there_leaves_params_yaml_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "photographs/train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for words in ("--profile paper", "--source imagefolder --path photographs", "--source imagefolder --path nowhere"):
        with pytest.raises(UsageError, match=r"params\.yaml is unchanged|nowhere"):
            app(["prepare", *words.split()], standalone_mode=False)
        assert Path("params.yaml").read_text() == text


def test_a_printed_command_prepares_the_folder_and_the_profile_that_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for split in ("train", "val"):
        (tmp_path / "my photographs" / split / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        app(["prepare", "--profile", "paper", "--path", "my photographs"], standalone_mode=False)
    command = "vgg-repro prepare --profile paper --source imagefolder --path 'my photographs'"
    assert str(caught.value).partition("\n")[0].endswith(command)


def test_prepare_ends_with_what_to_type_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("cli.common.repro", lambda *stages: None)
    monkeypatch.setattr("cli.prepare._make_missing_shards", lambda *_: None)
    monkeypatch.setattr("pipeline.experiment.params_file.locate", lambda: None)
    app(["prepare"], standalone_mode=False)
    assert capsys.readouterr().out.endswith("Next: vgg-repro data, vgg-repro plan, vgg-repro run\n")


def test_score_takes_the_mode_first_or_last_and_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("cli.common.repro", lambda *stages: asked.append(stages))
    for words in ("score dense D-384 E-384", "score D-384 dense", "train D-384 E-384"):
        app(words.split(), standalone_mode=False)
    assert asked == [("dense@D-384", "dense@E-384"), ("dense@D-384",), ("train@D-384", "train@E-384")]
    with pytest.raises(UsageError, match="Did you mean dense"):
        app(["score", "D-384", "dens"], standalone_mode=False)


def test_tables_and_stages_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    numbers = [str(number) for number in range(1, 13)]
    assert complete_tables("") == [*numbers, "shallow", "initialisation"]
    assert complete_targets("tab") == [f"table{number}" for number in numbers]
    assert complete_targets("dense@D-j") == ["dense@D-jitter", "dense@D-jitter-fc"]


def test_run_names_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert complete_runs("D-") == ["D-256", "D-384", "D-jitter", "D-jitter-fc"]
    monkeypatch.chdir(tmp_path)
    assert complete_runs("D-") == []


def test_a_person_is_handed_to_dvc_and_a_stage_works_itself(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "you are not inside of a DVC repository" in call("prepare", folder=tmp_path).stderr
    inside = call("stage", "score", "dense", "D-384", folder=tmp_path)
    assert "statistics.json does not exist" in inside.stderr


def test_the_runs_that_the_active_profile_adds_are_written_even_without_its_images(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"profile": "paper"}
    values["profiles"]["paper"] |= {"seeds": [0, 1], "seed_runs": ["A-256"]}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    assert "vgg-repro prepare --profile paper" in call("status", folder=tmp_path).stderr
    done = call("prepare", "--profile", "paper", folder=tmp_path)
    assert done.returncode == 2 and "runs that profile paper adds: 1 " in done.stdout
    assert list(load(path).extra.runs) == ["A-256-seed1"]


def test_dvc_calls_stages_and_people_do_not_see_them() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    commands = [stage.get("do", stage)["cmd"] for stage in stages]
    assert all(command.startswith(("vgg-repro stage ", "echo ")) for command in commands)
    listed = call("--help", folder=ROOT).stdout
    assert "status" in listed and "\n  stage " not in listed


@pytest.mark.parametrize("profile", ["mini", "paper"])
def test_nothing_begins_for_full_size_nets_if_the_gpu_cannot_be_used(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_fault", lambda: devices.GpuFault("it is too old", "make it younger"))
    params = load(ROOT / "params.yaml").model_copy(update={"profile": profile})
    if profile == "mini":
        check_devices(params)  # the stages warn
        return
    with pytest.raises(Failure, match=r"has a GPU, but it is too old.* fix: make it younger; .*device: cpu"):
        check_devices(params)
    blocks = {
        step: getattr(params.active, step).model_copy(update={"device": "cpu"}) for step in ("train", "score")
    }  # fmt: skip
    check_devices(params.model_copy(update={"profiles": {profile: params.active.model_copy(update=blocks)}}))


@pytest.mark.parametrize(("direct", "cluster", "checks"), [(False, "", 1), (False, "slurm", 0), (True, "slurm", 1)])
def test_only_work_on_this_machine_needs_its_gpu(
    direct: bool, cluster: str, checks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []
    monkeypatch.setenv("VGG_REPRO_CLUSTER", cluster)
    monkeypatch.setattr(common, "params", lambda: None)
    monkeypatch.setattr(common, "check_devices", checked.append)
    monkeypatch.setattr(common, "repro", lambda *stages: None)
    common.through_dvc(["train@A-256"], direct, lambda: None)
    assert len(checked) == checks


def test_make_alone_shows_all_targets() -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not `make test`'s
    done = subprocess.run(["make"], capture_output=True, text=True, cwd=ROOT, check=True, env=own)
    (targets,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")]
    assert [line.split()[0] for line in done.stdout.splitlines()] == targets.split()[1:]
