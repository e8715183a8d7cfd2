"""A stage's work inside its job, without a cluster: what is refused, waited for, and taken over."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.cluster import inside, slurm
from pipeline.cluster.inside import do_in_job
from pipeline.cluster.job_folder import IN_JOB, Asked, JobFolder, job_folder
from pipeline.cluster.slurm import JobState, NodePlace
from pipeline.errors import Failure
from pipeline.system.locks import alone

RESULT = Path("result")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """The folder of this job, which was submitted for `key`."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_NNODES", "SLURM_NODEID", "SLURM_JOB_ID", "VGG_REPRO_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    made = job_folder("train@A")
    made.begin(Asked("key", [str(RESULT)]))
    monkeypatch.setenv(IN_JOB, str(made.path.absolute()))
    return made


def work() -> None:
    """Make the result."""
    RESULT.write_text("made")


def test_results_are_kept_after_the_work(folder: JobFolder) -> None:
    do_in_job("key", "0", None, (), work)
    assert folder.has_kept("key")


def test_work_is_not_done_for_other_parameters(folder: JobFolder) -> None:
    with pytest.raises(Failure, match="have changed since its job was submitted"):
        do_in_job("other", "0", None, (), work)
    assert not RESULT.exists()


def test_the_parameter_that_has_changed_is_named(folder: JobFolder) -> None:
    folder.begin(Asked("key", [str(RESULT)], {"profiles.mini.rate": 0.1, "weights": "trained"}))
    Path("params.yaml").write_text("{profiles: {mini: {rate: 0.2}}, weights: trained}")
    with pytest.raises(Failure, match=r"submitted \(profiles\.mini\.rate: 0\.1, now 0\.2\)\. Set them back, or keep"):
        do_in_job("other", "0", None, (), work)


def test_work_that_was_done_is_not_done_again(folder: JobFolder) -> None:
    do_in_job("key", "0", None, (), work)
    RESULT.unlink()
    do_in_job("key", "0", None, (), lambda: pytest.fail("done again"))
    assert RESULT.read_text() == "made"


def start(folder: JobFolder, mark: str, after: float = 0.0, work: float = 0.0) -> None:
    """Start the job, which ran for `after` seconds the last time, and its work for the last `work` of them."""
    for name, seconds in {"before": after, "works": work, "last": 0.0}.items():
        (folder.path / name).touch()
        os.utime(folder.path / name, (10_000 - seconds, 10_000 - seconds))
    with pytest.raises(KeyboardInterrupt):
        do_in_job("key", mark, None, (), stopped)


def stopped() -> None:
    """Be stopped."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("time", "after", "work"),
    [("1:00:00", 3400.0, 0.0), ("1:00:00", 1000.0, 400.0), (None, 400.0, 0.0), (10, 250.0, 10.0)],
)
def test_the_third_start_without_progress_is_refused(
    folder: JobFolder, time: str | int | None, after: float, work: float
) -> None:
    folder.begin(Asked("key", [str(RESULT)], {}, {"time": time, "notice": 300}))
    start(folder, "5")
    start(folder, "5", after, work)
    with pytest.raises(Failure, match="no progress between two stops"):
        start(folder, "5", after, work)
    start(folder, "6", after, work)


def test_stops_before_anything_could_be_saved_do_not_count(folder: JobFolder) -> None:
    folder.begin(Asked("key", [str(RESULT)], {}, {"time": "1:00:00", "notice": 300}))
    for _ in range(5):
        start(folder, "5", after=1000.0, work=200.0)
    start(folder, "5", after=1000.0, work=400.0)
    start(folder, "5", after=1000.0, work=200.0)
    with pytest.raises(Failure, match="no progress between two stops"):
        start(folder, "5", after=1000.0, work=400.0)


def test_work_without_a_mark_may_start_as_often_as_it_is_preempted(folder: JobFolder) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            do_in_job("key", None, None, (), lambda: print(1 / 0))


def test_a_lost_node_that_still_works_is_waited_for(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as held:
        held.enter_context(alone(Path("lock"), "training A"))
        monkeypatch.setattr(inside.time, "sleep", lambda seconds: held.close())
        do_in_job("key", "0", Path("lock"), (), work)
    assert RESULT.exists() and "waiting for another process that does this work: process" in capsys.readouterr().out


def test_only_work_that_reads_shards_has_copies_of_them(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGG_REPRO_LOCAL", "$HOME/local")
    copied: list[tuple[Path, tuple[str, ...]]] = []
    monkeypatch.setattr(inside, "copied_shards", lambda local, splits: copied.append((local, splits)))
    do_in_job("key", "0", None, (), work)
    assert copied == []
    folder.begin(Asked("key", [str(RESULT)]))
    do_in_job("key", "0", None, ("val",), work)
    assert copied == [(Path.home() / "local", ("val",))]


def test_only_the_first_node_keeps_notes(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NODEID", "1")
    do_in_job("key", "0", None, (), work)
    assert not folder.has_kept("key") and not (folder.path / "starts").exists()


def test_only_a_stages_own_job_has_nodes(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NNODES": "2", "NODEID": "1", "JOB_ID": "20007", "LAUNCH_NODE_IPADDR": "10.0.0.1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert slurm.place() == NodePlace(2, 1, "10.0.0.1", 20007)
    monkeypatch.delenv(IN_JOB)  # somebody's own job of two nodes, in which the program is started by hand
    assert slurm.place() == NodePlace()


def test_a_job_inherits_nothing_of_another_job_or_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_STAGE", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", "VGG_REPRO_QUIET", "SLURM_CONF", "MINE"):
        monkeypatch.setenv(name, "1")
    environment = slurm.environment()
    assert environment.keys() & {"DVC_STAGE", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", "VGG_REPRO_QUIET"} == set()
    assert environment.keys() >= {"SLURM_CONF", "MINE", "PATH", "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (JobState("PENDING", "Priority"), "pending (Priority)"),
        (JobState("RUNNING", "None", "n[1-2]"), "running on n[1-2]"),
        (JobState("OUT_OF_MEMORY", "OutOfMemory", "n1"), "out of memory (OutOfMemory)"),
    ],
)
def test_states_in_words(state: JobState, text: str) -> None:
    assert str(state) == text
