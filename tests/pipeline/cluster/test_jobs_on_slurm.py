"""A stage's job on a real Slurm and the process that follows it: its end, signals, joining, taking over.

The stage counts (tests/support/counting_stage.py), so that a job takes seconds.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.commands import until
from tests.support.counting_clone import HEAD, LONG, CountingClone
from tests.support.slurm import Slurm

pytestmark = pytest.mark.cluster


def test_a_job_does_the_work_and_its_log_is_followed(clone: CountingClone) -> None:
    said = clone.ends(clone.head("5"), 0)
    assert clone.result == "counted to 5, 0 of them earlier"
    assert re.search(r"job \d+ submitted\n", said) and "counting from 0" in said


def test_a_failure_is_the_commands_own(clone: CountingClone) -> None:
    said = clone.ends(clone.head("2", COUNT_CODE="7"), 7)
    assert "it went wrong" in said and not clone.result


def test_one_ctrl_c_lets_the_job_save_and_stop(clone: CountingClone) -> None:
    head = clone.head(LONG)
    clone.begun()
    head.child.send_signal(signal.SIGINT)
    said = clone.ends(head, 130)
    assert "saved at" in said and "the same command resumes" in said
    assert clone.slurm.state(clone.number) != "RUNNING"
    resumed = clone.ends(clone.head(re.findall(r"saved at (\d+)", said)[0]), 0)
    assert "counting from 0" not in resumed


def test_ctrl_c_removes_a_job_that_waits(clone: CountingClone) -> None:
    clone.settings(sbatch="[--begin=now+3600]")
    head = clone.head(LONG)
    until("the job to wait", lambda: "pending" in head.said)
    head.child.send_signal(signal.SIGINT)
    clone.ends(head, 130)
    assert clone.slurm.state(clone.number) == "CANCELLED"


def test_a_second_ctrl_c_cancels_the_job(clone: CountingClone) -> None:
    head = clone.head(LONG, COUNT_STOPS="no")
    clone.begun()
    head.child.send_signal(signal.SIGINT)
    until("the first to be answered", lambda: "asked to stop" in head.said)
    assert clone.slurm.state(clone.number) == "RUNNING"
    head.child.send_signal(signal.SIGINT)
    clone.ends(head, 130)
    assert clone.slurm.state(clone.number) in ("CANCELLED", "COMPLETING")


def test_a_job_that_is_cancelled_by_hand_has_failed(clone: CountingClone) -> None:
    head = clone.head(LONG)
    clone.begun()
    clone.slurm.call("scancel", clone.number)
    assert "it was cancelled" in clone.ends(head, 1)


def test_a_job_that_is_cancelled_while_it_waits_has_failed(clone: CountingClone) -> None:
    clone.settings(sbatch="[--begin=now+3600]")
    head = clone.head(LONG)
    until("the job to wait", lambda: "pending (BeginTime)" in head.said)
    clone.slurm.call("scancel", clone.number)
    assert "it was cancelled" in clone.ends(head, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_terminal_or_dvc_leaves_the_job(clone: CountingClone, number: signal.Signals) -> None:
    head = clone.head(LONG)
    clone.begun()
    head.child.send_signal(number)
    assert f"to end it: scancel {clone.number}" in clone.ends(head, 130)
    assert clone.slurm.state(clone.number) == "RUNNING"


def test_a_killed_heads_job_is_joined(clone: CountingClone) -> None:
    killed = clone.head("60")
    clone.begun()
    job = clone.number
    assert killed.kill(group=True)
    said = clone.ends(clone.head("60"), 0)
    assert f"job {job} does this already" in said and "counting from 0" in said and "submitted" not in said
    assert clone.result == "counted to 60, 0 of them earlier"


def test_what_has_finished_unseen_is_taken_over(clone: CountingClone) -> None:
    killed = clone.head("20")
    clone.begun()
    assert killed.kill(group=True)
    until("the job to finish", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    (clone.folder / "result").unlink()  # as DVC does before it runs the stage again
    said = clone.ends(clone.head("20"), 0)
    assert "its results are taken over" in said and "submitted" not in said
    assert clone.result == "counted to 20, 0 of them earlier"


def test_what_must_not_be_recorded_is_kept(clone: CountingClone) -> None:
    assert "parameters have changed" in clone.ends(clone.head("3", COUNT_CHANGES="yes"), 1)
    (clone.folder / "result").unlink()  # as DVC does before it runs the stage again
    assert "its results are taken over" in clone.ends(clone.head("3"), 0)
    assert clone.result == "counted to 3, 0 of them earlier"


def test_a_job_that_is_cancelled_after_its_work_has_succeeded(clone: CountingClone) -> None:
    head = clone.head("2", COUNT_LINGERS="yes")
    until("the work to be done", (clone.folder / "checkpoints/jobs/train@COUNT/kept").exists)
    clone.slurm.call("scancel", clone.number)
    clone.ends(head, 0)
    assert clone.result == "counted to 2, 0 of them earlier"


def test_the_same_work_is_done_again_once_its_results_were_seen(clone: CountingClone) -> None:
    clone.ends(clone.head("2"), 0)
    assert "submitted" in clone.ends(clone.head("2"), 0)


def test_results_of_other_parameters_are_not_taken_over(clone: CountingClone) -> None:
    killed = clone.head("20")
    clone.begun()
    assert killed.kill(group=True)
    until("the job to finish", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    assert "submitted" in clone.ends(clone.head("3", COUNT_KEY="other"), 0)
    assert clone.result == "counted to 3, 0 of them earlier"


def test_a_job_of_other_parameters_is_not_joined(clone: CountingClone) -> None:
    killed = clone.head(LONG)
    clone.begun()
    assert killed.kill(group=True)
    said = clone.ends(clone.head(LONG, COUNT_KEY="other"), 1)
    assert "with other parameters or inputs" in said and f"scancel {clone.number}" in said


def test_other_settings_of_a_job_that_waits_are_named(clone: CountingClone) -> None:
    clone.settings(sbatch="[--begin=now+3600]")
    killed = clone.head(LONG)
    until("the job to wait", lambda: "pending" in killed.said)
    assert killed.kill(group=True)
    clone.settings(sbatch="[--begin=now+3600]", time=5)
    head = clone.head(LONG)
    until("the job to be joined", lambda: "does this already" in head.said)
    assert f"job {clone.number} was submitted with other settings (time)" in head.said


def test_a_job_that_was_accepted_without_an_answer_is_joined(clone: CountingClone) -> None:
    killed = clone.head("60")
    clone.begun()
    job = clone.number
    assert killed.kill(group=True)
    (clone.folder / "checkpoints/jobs/train@COUNT/number").unlink()
    assert f"job {job} does this already" in clone.ends(clone.head("60"), 0)


def test_a_job_of_another_clone_is_not_joined(clone: CountingClone, slurm: Slurm, tmp_path: Path) -> None:
    clone.head(LONG)
    clone.begun()
    (tmp_path / "other").mkdir()
    other = CountingClone(tmp_path / "other", slurm)
    assert "submitted" in other.ends(other.head("2"), 0) and other.result


def test_the_head_may_be_a_job_itself(clone: CountingClone) -> None:
    variables = {**clone.slurm.environment, "COUNT_TO": "3", "PYTHONPATH": str(ROOT)}
    command = f"cd '{clone.folder}' && {sys.executable} {' '.join(HEAD[1:])}"
    words = ("sbatch", "--partition=long", "--parsable", f"--output={clone.folder}/head.log", f"--wrap={command}")
    head = subprocess.run(words, env=variables, capture_output=True, text=True, check=True).stdout.strip()
    until("both to end", lambda: clone.slurm.state(head) in ("COMPLETED", "FAILED"))
    assert clone.result == "counted to 3, 0 of them earlier" and clone.number != head


def test_two_heads_do_not_follow_one_job(clone: CountingClone) -> None:
    clone.head(LONG)
    clone.begun()
    assert "another process is already following the job of train@COUNT" in clone.ends(clone.head(LONG), 1)


def test_a_refused_job_is_a_failure_with_slurms_reason(clone: CountingClone) -> None:
    clone.settings(partition="nowhere")
    said = clone.ends(clone.head("2"), 1)
    assert "invalid partition" in said and "Edit train in slurm.yaml; to check it: vgg-repro doctor" in said


def test_what_no_node_has_is_compared_with_what_the_nodes_have(clone: CountingClone) -> None:
    clone.settings(gpus=3, memory="500M")
    said = clone.ends(clone.head("2"), 1)
    assert "Asked for: 1 node(s) with 1 cpus, memory 500M, 3 gpus." in said, said
    assert "There are: 2 node(s) with 2 cpus, memory 1000M, gpu:2" in said
