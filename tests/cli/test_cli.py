"""The command line: help, completion, one message for every failure, and the handover to DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.common import complete_runs
from cli.main import app
from cli.table import table
from pipeline.errors import Failure
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
        (["score", "dense", "X"], "no run is called 'X'"),
        (["weights", "random", "F"], "no net is called 'F'"),
        (["table", "8"], "not there yet"),
        (["table", "0"], "There are 1, 2"),
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
        done.stderr == "vgg-repro: data/classification/statistics.json is not there; make it with: vgg-repro prepare\n"
    )


def test_a_broken_file_is_named_with_the_command_that_makes_it_again(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    facts = tmp_path / "data/classification/statistics.json"
    facts.parent.mkdir(parents=True)
    for text, what in (("{", "is no JSON"), ("[1]", "does not hold what it should"), ("{}", "does not hold")):
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
    monkeypatch.setattr("stages.table.main", lambda *_: None)
    with pytest.raises(Failure, match=r"table4\.json is no JSON .*make it again with: vgg-repro table 4"):
        table("4", direct=True)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "Traceback" in call("--debug", "report", folder=tmp_path).stderr


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    done = call("train", "A-256", folder=tmp_path)
    assert done.returncode == 2
    assert "root of the repository" in done.stderr


def test_run_names_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert complete_runs("D-") == ["D-256", "D-384", "D-jitter", "D-jitter-fc"]
    monkeypatch.chdir(tmp_path)
    assert complete_runs("D-") == []


def test_a_person_is_handed_to_dvc_and_a_stage_works_itself(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "you are not inside of a DVC repository" in call("prepare", folder=tmp_path).stderr
    inside = call("stage", "score", "dense", "D-384", folder=tmp_path)
    assert "statistics.json is not there" in inside.stderr


def test_dvc_calls_stages_and_people_do_not_see_them() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    commands = [stage.get("do", stage)["cmd"] for stage in stages]
    assert all(command.startswith(("vgg-repro stage ", "echo ")) for command in commands)
    listed = call("--help", folder=ROOT).stdout
    assert "status" in listed and "\n  stage " not in listed


def test_make_alone_shows_all_targets() -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not `make test`'s
    done = subprocess.run(["make"], capture_output=True, text=True, cwd=ROOT, check=True, env=own)
    (targets,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")]
    assert [line.split()[0] for line in done.stdout.splitlines()] == targets.split()[1:]
