"""The doctor's check of a cluster: settings, commands, and a one-minute job on a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cluster.job_folder import job_folder
from pipeline.cluster.slurm import JobState
from pipeline.doctor import cluster as check
from pipeline.doctor.base import DoctorContext, Finding
from pipeline.system.atomic_files import write_text
from tests.support import ROOT
from tests.support.slurm import Slurm

USUAL = "partition: long, time: 10, notice: 30"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty clone, without a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGG_REPRO_CLUSTER", raising=False)
    return tmp_path


@pytest.fixture
def here(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """A real Slurm, whose commands work here."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return slurm


def findings(defaults: str) -> list[Finding]:
    """The findings with these settings."""
    Path("slurm.yaml").write_text(f"defaults: {{{defaults}}}\ntrain:\n")
    return [*check.cluster(DoctorContext(None))]


def test_without_settings_nothing_is_checked() -> None:
    assert [*check.cluster(DoctorContext(None))] == []


def test_wrong_settings_are_a_failure() -> None:
    (finding,) = findings("partitoin: long")
    assert finding.state == "failure" and "Did you mean partition?" in finding.says and "docs/slurm.yaml" in finding.fix


def test_missing_commands_are_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = findings(USUAL)
    assert finding.state == "failure" and "sbatch, squeue, scancel" in finding.says


def test_the_code_of_a_job_that_has_ended_may_become_visible_later(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_folder("doctor")
    looks: list[list[str]] = []

    def look(numbers: list[str]) -> dict[str, JobState]:
        looks.append(numbers)
        if len(looks) == 3:
            write_text(job.path / "code", "0\n")
        return {"7": JobState("COMPLETED")}

    monkeypatch.setattr(check.slurm, "look", look)
    monkeypatch.setattr(check.time, "sleep", lambda seconds: None)
    assert check._waited(job, "7") is None and len(looks) == 3


@pytest.mark.cluster
def test_a_job_sees_this_machines_files_and_locks(here: Slurm) -> None:
    (finding,) = findings(f"{USUAL}, gpus: 2, local: $HOME")
    assert finding.state == "ok", finding.says
    assert "2 GPUs; its files and locks work" in finding.says


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("defaults", "says"),
    [
        (f"{USUAL}, local: /nowhere", "`local` cannot be written"),
        (f"{USUAL}, gpus: 3", "train: sbatch: allocation failure"),
        ("partition: short, time: 60", "train: time is 60, but partition short allows 1:00 at most"),
        (
            f"{USUAL}, setup: [echo no such module, exit 3]",
            "a line of `setup` in slurm.yaml has failed with exit code 3: exit 3",
        ),
        (f"{USUAL}, setup: [module load nothing]", "exit code 127: module load nothing"),
    ],
)
def test_what_a_job_cannot_have_is_a_failure(
    here: Slurm, defaults: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SETTLE", 0.0)  # on one machine a code is visible at once
    (finding,) = findings(defaults)
    assert finding.state == "failure" and says in finding.says and finding.fix


@pytest.mark.cluster
def test_a_lock_that_a_node_does_not_see_is_a_failure(here: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "HELD", "held-elsewhere")
    (finding,) = findings(USUAL)
    assert finding.state == "failure" and "two jobs could train one run at once" in finding.says


@pytest.mark.cluster
def test_a_job_that_waits_is_a_warning_and_cancelled(here: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "PATIENCE", 4.0)
    (finding,) = findings(f"{USUAL}, sbatch: ['--begin=now+3600']")
    assert finding.state == "warning" and "pending (BeginTime); cancelled" in finding.says
    assert not here.call("squeue", "-h", "--states=PENDING,RUNNING")
