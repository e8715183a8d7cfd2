"""A stage's job on a real Slurm, from its submission to its end, and all that can happen in between.

The stage counts (tests/support/counting_stage.py), so that a job takes seconds.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.commands import MarkedCommand, until
from tests.support.slurm import Slurm

pytestmark = pytest.mark.cluster
HEAD = ("python", "-m", "tests.support.counting_stage", "head")
LONG = "600"  # a count that takes a minute


class Clone:
    """A folder with slurm.yaml in which jobs count, and the processes that follow them."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        self.folder, self.slurm, self.heads = folder, slurm, list[MarkedCommand]()
        self.settings()

    def settings(self, **values: object) -> None:
        """Write slurm.yaml: other values than the usual ones."""
        usual = {"partition": "long", "time": 10, "notice": 30, "cpus": 1, "nodes": 1, **values}
        defaults = ", ".join(f"{key}: {value}" for key, value in usual.items())
        (self.folder / "slurm.yaml").write_text(f"defaults: {{{defaults}}}\ntrain:\nscore:\npoll: 1\n")

    def head(self, count: str, **environment: str) -> MarkedCommand:
        """Start a process that has a job count, and follows it."""
        variables = {"SLURM_CONF": self.slurm.environment["SLURM_CONF"], "PYTHONPATH": str(ROOT), **environment}
        self.heads.append(MarkedCommand(self.folder, *HEAD, COUNT_TO=count, **variables))
        return self.heads[-1]

    def ends(self, head: MarkedCommand, code: int) -> str:
        """Return what a head has said at its end, which must be with this exit code."""
        until("the head to end", lambda: head.child.poll() is not None)
        assert head.child.returncode == code, head.said
        return head.said

    @property
    def number(self) -> str:
        """Return the number of the stage's job, as soon as it has one."""
        return until("a job's number", self._file("number").exists) and self._file("number").read_text()

    @property
    def result(self) -> str:
        """Return the result, an empty string if there is none."""
        path = self.folder / "result"
        return path.read_text() if path.exists() else ""

    def begun(self, start: str = "0") -> None:
        """Wait until the job counts, from this start."""
        path = self.folder / "begun"
        until(f"the job to count from {start}", lambda: path.exists() and path.read_text() == start)

    def requeued(self, times: int = 1) -> None:
        """Wait until the job is queued again, for the time of this number, then have it start at once."""
        until("the job to be queued again", lambda: self.slurm.field(self.number, "Restarts") == str(times))
        until("the job to wait", lambda: self.slurm.state(self.number) == "PENDING")
        self.slurm.hurry(self.number)

    def _file(self, name: str) -> Path:
        return self.folder / "checkpoints/jobs/train@COUNT" / name

    def clear(self) -> None:
        """End what still runs."""
        for head in self.heads:
            head.clear()
        self.slurm.clear()


@pytest.fixture
def clone(slurm: Slurm, tmp_path: Path) -> Iterator[Clone]:
    """A folder in which jobs count."""
    folder = tmp_path / "clone"
    folder.mkdir()
    made = Clone(folder, slurm)
    yield made
    made.clear()


def test_a_job_does_the_work_and_its_log_is_followed(clone: Clone) -> None:
    said = clone.ends(clone.head("5"), 0)
    assert clone.result == "counted to 5, 0 of them earlier"
    assert re.search(r"job \d+ submitted\n", said) and "counting from 0" in said


def test_a_failure_is_the_commands_own(clone: Clone) -> None:
    said = clone.ends(clone.head("2", COUNT_CODE="7"), 7)
    assert "it went wrong" in said and not clone.result


def test_at_its_limit_a_job_is_queued_again_and_goes_on_from_what_it_saved(clone: Clone) -> None:
    clone.settings(partition="short", time=1, notice=30)
    head = clone.head("300")
    clone.requeued()
    said = clone.ends(head, 0)
    saved = re.findall(r"saved at (\d+)", said)
    assert clone.result == f"counted to 300, {saved[-1]} of them earlier" and int(saved[0]) > 0


def test_a_preempted_job_goes_on_later_from_what_it_saved(clone: Clone) -> None:
    head = clone.head("40")
    clone.begun()
    clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
    clone.requeued()
    saved = re.findall(r"saved at (\d+)", clone.ends(head, 0))
    assert clone.result == f"counted to 40, {saved[0]} of them earlier"


def test_a_job_that_is_killed_without_grace_goes_on_later(clone: Clone) -> None:
    clone.settings(partition="nograce")
    head = clone.head("90", COUNT_STOPS="no")
    clone.begun()
    clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
    clone.requeued()
    assert "saved" not in clone.ends(head, 0)
    assert clone.result == "counted to 90, 0 of them earlier"


def test_a_job_whose_node_is_lost_goes_on_elsewhere(clone: Clone) -> None:
    head = clone.head("60")
    clone.begun()
    node = clone.slurm.field(clone.number, "NodeList")
    clone.slurm.lose_node(node)
    try:
        clone.requeued()
        clone.ends(head, 0)
    finally:
        clone.slurm.start_node(node)
    assert clone.result == "counted to 60, 0 of them earlier"


def test_one_ctrl_c_lets_the_job_save_and_stop(clone: Clone) -> None:
    head = clone.head(LONG)
    clone.begun()
    head.child.send_signal(signal.SIGINT)
    said = clone.ends(head, 130)
    assert "saved at" in said and "the same command resumes" in said
    assert clone.slurm.state(clone.number) != "RUNNING"
    resumed = clone.ends(clone.head(re.findall(r"saved at (\d+)", said)[0]), 0)
    assert "counting from 0" not in resumed


def test_ctrl_c_removes_a_job_that_waits(clone: Clone) -> None:
    clone.settings(sbatch="[--begin=now+3600]")
    head = clone.head(LONG)
    until("the job to wait", lambda: "pending" in head.said)
    head.child.send_signal(signal.SIGINT)
    clone.ends(head, 130)
    assert clone.slurm.state(clone.number) == "CANCELLED"


def test_a_second_ctrl_c_cancels_the_job(clone: Clone) -> None:
    head = clone.head(LONG, COUNT_STOPS="no")
    clone.begun()
    head.child.send_signal(signal.SIGINT)
    until("the first to be answered", lambda: "asked to stop" in head.said)
    assert clone.slurm.state(clone.number) == "RUNNING"
    head.child.send_signal(signal.SIGINT)
    clone.ends(head, 130)
    assert clone.slurm.state(clone.number) in ("CANCELLED", "COMPLETING")


def test_a_job_that_is_cancelled_by_hand_has_failed(clone: Clone) -> None:
    head = clone.head(LONG)
    clone.begun()
    clone.slurm.call("scancel", clone.number)
    assert "it was cancelled" in clone.ends(head, 1)


def test_a_job_that_is_cancelled_while_it_waits_has_failed(clone: Clone) -> None:
    clone.settings(sbatch="[--begin=now+3600]")
    head = clone.head(LONG)
    until("the job to wait", lambda: "pending (BeginTime)" in head.said)
    clone.slurm.call("scancel", clone.number)
    assert "it was cancelled" in clone.ends(head, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_terminal_or_dvc_leaves_the_job(clone: Clone, number: signal.Signals) -> None:
    head = clone.head(LONG)
    clone.begun()
    head.child.send_signal(number)
    assert f"to end it: scancel {clone.number}" in clone.ends(head, 130)
    assert clone.slurm.state(clone.number) == "RUNNING"


def test_a_killed_heads_job_is_joined(clone: Clone) -> None:
    killed = clone.head("60")
    clone.begun()
    job = clone.number
    assert killed.kill(group=True)
    said = clone.ends(clone.head("60"), 0)
    assert f"job {job} does this already" in said and "counting from 0" in said and "submitted" not in said
    assert clone.result == "counted to 60, 0 of them earlier"


def test_what_has_finished_unseen_is_taken_over(clone: Clone) -> None:
    killed = clone.head("20")
    clone.begun()
    assert killed.kill(group=True)
    until("the job to finish", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    (clone.folder / "result").unlink()  # as DVC does before it runs the stage again
    said = clone.ends(clone.head("20"), 0)
    assert "its results are taken over" in said and "submitted" not in said
    assert clone.result == "counted to 20, 0 of them earlier"


def test_a_job_that_is_cancelled_after_its_work_has_succeeded(clone: Clone) -> None:
    head = clone.head("2", COUNT_LINGERS="yes")
    until("the work to be done", (clone.folder / "checkpoints/jobs/train@COUNT/kept").exists)
    clone.slurm.call("scancel", clone.number)
    clone.ends(head, 0)
    assert clone.result == "counted to 2, 0 of them earlier"


def test_the_same_work_is_done_again_once_its_results_were_seen(clone: Clone) -> None:
    clone.ends(clone.head("2"), 0)
    assert "submitted" in clone.ends(clone.head("2"), 0)


def test_results_of_other_parameters_are_not_taken_over(clone: Clone) -> None:
    killed = clone.head("20")
    clone.begun()
    assert killed.kill(group=True)
    until("the job to finish", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    assert "submitted" in clone.ends(clone.head("3", COUNT_KEY="other"), 0)
    assert clone.result == "counted to 3, 0 of them earlier"


def test_a_job_of_other_parameters_is_not_joined(clone: Clone) -> None:
    killed = clone.head(LONG)
    clone.begun()
    assert killed.kill(group=True)
    said = clone.ends(clone.head(LONG, COUNT_KEY="other"), 1)
    assert "with other parameters or inputs" in said and f"scancel {clone.number}" in said


def test_two_heads_do_not_follow_one_job(clone: Clone) -> None:
    clone.head(LONG)
    clone.begun()
    assert "another process is already following the job of train@COUNT" in clone.ends(clone.head(LONG), 1)


def test_a_job_outlives_a_controller_that_is_away(clone: Clone) -> None:
    head = clone.head("150")
    clone.begun()
    clone.slurm.stop_controller()
    try:
        until("the head to say so", lambda: "still following it" in head.said)
        assert head.child.poll() is None
    finally:
        clone.slurm.start_controller()
    clone.ends(head, 0)


def test_a_job_is_submitted_once_the_controller_is_back(clone: Clone) -> None:
    clone.slurm.stop_controller()
    try:
        head = clone.head("2")
        until("the head to say so", lambda: "trying again" in head.said)
    finally:
        clone.slurm.start_controller()
    clone.ends(head, 0)
    assert clone.number and clone.result


def test_two_stops_without_progress_are_a_failure(clone: Clone) -> None:
    head = clone.head(LONG, COUNT_SAVES="no")
    for restarts in (0, 1):
        until("another start", lambda restarts=restarts: head.said.count("counting from 0") > restarts)
        clone.slurm.call("scancel", "--signal=TERM", clone.number)
        clone.requeued(restarts + 1)
    assert "no progress between two stops" in clone.ends(head, 1)


def test_a_stage_that_cannot_resume_is_not_queued_again_at_its_limit(clone: Clone) -> None:
    clone.settings(partition="short", time=1, notice=30)
    said = clone.ends(clone.head(LONG, COUNT_KIND="score", COUNT_SAVES="no"), 1)
    assert "it reached its time limit: raise `time` of score in slurm.yaml" in said
    assert clone.slurm.field(clone.number, "Restarts") == "0"


def test_a_finished_job_never_runs_again(clone: Clone) -> None:
    clone.ends(clone.head("2"), 0)
    (clone.folder / "begun").unlink()
    clone.slurm.call("scontrol", "requeue", clone.number)
    clone.slurm.hurry(clone.number)
    until("the job to end", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    assert not (clone.folder / "begun").exists()


def test_a_limit_above_the_partitions_is_shown(clone: Clone) -> None:
    clone.settings(partition="short", time=60)
    head = clone.head("2")
    until("the reason", lambda: "pending (PartitionTimeLimit)" in head.said)


def test_a_refused_job_is_a_failure_with_slurms_reason(clone: Clone) -> None:
    clone.settings(partition="nowhere")
    assert "invalid partition" in clone.ends(clone.head("2"), 1)
