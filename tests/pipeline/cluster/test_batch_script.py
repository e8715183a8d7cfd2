"""The script of a job, run by bash with stand-ins for Slurm's commands: what it does after each end of the work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.batch_script import batch_script
from pipeline.cluster.job_folder import JobFolder
from pipeline.cluster.settings import JobRequest

STAND_IN = '#!/bin/sh\necho "{name} $*" >> "$LOG"\n{does}\n'


class ScriptRun:
    """A folder in which a job's script is run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job = folder, JobFolder(folder / "checkpoints/jobs/train@it's $A")
        self.job.path.mkdir(parents=True)
        (folder / "bin").mkdir()
        for name, does in {"scontrol": "", "squeue": "echo $STATE", "sleep": ""}.items():
            self._stand_in(name, does)

    def run(self, work: str = "", state: str = "RUNNING", resumes: bool = True, **settings: object) -> int:
        """Return the exit code of the script whose work is this shell command."""
        self._stand_in("srun", f"({work})")
        request = JobRequest.model_validate({"notice": 30, **settings})
        script = batch_script("train@it's $A", self.job, ["vgg-repro", "stage", "it's $A"], request, resumes)
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        values = {"PATH": path, "LOG": str(self.folder / "log"), "STATE": state, "SLURM_JOB_ID": "7"}
        return subprocess.run(["bash", "-c", script], env=values, cwd="/", check=False).returncode

    @property
    def calls(self) -> str:
        """The commands that the script has called."""
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def _stand_in(self, name: str, does: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(STAND_IN.format(name=name, does=does))
        path.chmod(0o755)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptRun:
    """A clone in a folder whose name has a space."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return ScriptRun(folder)


def test_work_that_is_done_is_not_queued_again(script: ScriptRun) -> None:
    assert script.run('test "$PWD" = "' + str(script.folder) + '" && test -d "$VGG_REPRO_JOB"') == 0
    assert script.job.code == 0 and "scontrol update JobId=7 Requeue=0" in script.calls
    assert "vgg-repro stage it's $A" in script.calls


def test_a_job_that_slurm_starts_again_after_its_end_does_nothing(script: ScriptRun) -> None:
    (script.job.path / "code").write_text("0\n")
    assert script.run("exit 1") == 0 and script.calls == "" and script.job.code == 0


def test_a_job_that_is_stopped_before_it_starts_does_nothing(script: ScriptRun) -> None:
    script.job.ask_to_stop()
    assert script.run() == 130 and script.calls == "" and script.job.code == 130


def test_a_failure_keeps_its_code(script: ScriptRun) -> None:
    assert script.run("exit 3") == 3 and script.job.code == 3 and "requeue" not in script.calls


@pytest.mark.parametrize("code", [130, 143])
def test_work_that_slurm_stops_is_queued_again(script: ScriptRun, code: int) -> None:
    script.run(f"exit {code}")
    assert "scontrol requeue 7" in script.calls


@pytest.mark.parametrize("code", [130, 143])
def test_work_that_cannot_resume_is_left_to_slurm(script: ScriptRun, code: int) -> None:
    assert script.run(f"exit {code}", resumes=False) == code
    assert "requeue" not in script.calls and "sleep 150" in script.calls


def test_work_that_is_cancelled_or_stopped_by_its_head_is_not_queued_again(script: ScriptRun) -> None:
    assert script.run("exit 130", state="COMPLETING") == 130 and "requeue" not in script.calls
    assert script.run('touch "$VGG_REPRO_JOB/stop"; exit 130') == 130 and "requeue" not in script.calls


def test_the_sites_lines_come_first(script: ScriptRun) -> None:
    settings = {"setup": ["GREETING=hello", "export GREETING"], "local": "$TMPDIR"}
    assert script.run('test "$GREETING $VGG_REPRO_LOCAL" = "hello \\$TMPDIR"', **settings) == 0


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["module load 'no such'", "true"], "exit code 127: module load 'no such'"),
        (["true", "set -e; false; true"], "exit code 1: set -e; false; true"),
        (["exit 0", "true"], "exit code 0: exit 0"),
    ],
)
def test_a_line_of_the_site_that_fails_ends_the_job_and_is_named(
    script: ScriptRun, lines: list[str], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert script.run(setup=lines) == 1 and script.job.code == 1
    assert "srun" not in script.calls
    assert f"a line of `setup` in slurm.yaml has failed with {named}\n" in capfd.readouterr().out


def test_a_job_that_is_stopped_in_a_line_of_the_site_has_not_failed(script: ScriptRun) -> None:
    assert script.run(setup=["kill -TERM $$; true"]) == 143 and script.job.code is None
    assert script.run(setup=["sh -c 'kill -TERM $$'"]) == 143 and script.job.code is None


def test_a_line_of_the_site_may_choose_how_its_failures_end_it(script: ScriptRun) -> None:
    assert script.run("exit 3", setup=["set -e"]) == 3 and script.job.code == 3
    assert script.run("true", setup=["false || true", "# a remark"]) == 0


def test_the_times_of_starts_are_those_of_the_log_and_the_script(script: ScriptRun) -> None:
    def at(name: str, time: float | None = None) -> float:
        if time is not None:
            (script.job.path / name).touch()
            os.utime(script.job.path / name, (time, time))
        return (script.job.path / name).stat().st_mtime

    assert script.run("exit 3") == 3 and script.job.last_start == script.job.last_work == 0.0
    at("began", 1000.0)
    at("works", 1300.0)
    at("log", 1900.0)
    assert script.run("exit 3") == 3
    assert (script.job.last_start, script.job.last_work) == (900.0, 600.0)
    assert at("began") > 1900.0
