"""A stage's job on a real Slurm that is interrupted: by its limit, by pre-emption, by a lost node or controller.

The stage counts (tests/support/counting_stage.py), so that a job takes seconds.
"""

from __future__ import annotations

import re

import pytest

from tests.support.commands import until
from tests.support.counting_clone import LONG, CountingClone

pytestmark = pytest.mark.cluster


def test_at_its_limit_a_job_is_queued_again_and_goes_on_from_what_it_saved(clone: CountingClone) -> None:
    clone.settings(partition="short", time=1, notice=30)
    head = clone.head("300")
    clone.requeued()
    said = clone.ends(head, 0)
    saved = re.findall(r"saved at (\d+)", said)
    assert clone.result == f"counted to 300, {saved[-1]} of them earlier" and int(saved[0]) > 0


def test_a_preempted_job_goes_on_later_from_what_it_saved(clone: CountingClone) -> None:
    head = clone.head("40")
    clone.begun()
    clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
    clone.requeued()
    saved = re.findall(r"saved at (\d+)", clone.ends(head, 0))
    assert clone.result == f"counted to 40, {saved[0]} of them earlier"


def test_a_job_that_is_killed_without_grace_goes_on_later(clone: CountingClone) -> None:
    clone.settings(partition="nograce")
    head = clone.head("90", COUNT_STOPS="no")
    clone.begun()
    clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
    clone.requeued()
    assert "saved" not in clone.ends(head, 0)
    assert clone.result == "counted to 90, 0 of them earlier"


def test_a_job_whose_node_is_lost_goes_on_elsewhere(clone: CountingClone) -> None:
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


def test_a_job_outlives_a_controller_that_is_away(clone: CountingClone) -> None:
    head = clone.head("150")
    clone.begun()
    clone.slurm.stop_controller()
    try:
        until("the head to say so", lambda: "still following it" in head.said)
        assert head.child.poll() is None
    finally:
        clone.slurm.start_controller()
    clone.ends(head, 0)


def test_a_job_is_submitted_once_the_controller_is_back(clone: CountingClone) -> None:
    clone.slurm.stop_controller()
    try:
        head = clone.head("2")
        until("the head to say so", lambda: "trying again" in head.said)
    finally:
        clone.slurm.start_controller()
    clone.ends(head, 0)
    assert clone.number and clone.result


def test_two_stops_without_progress_are_a_failure(clone: CountingClone) -> None:
    clone.settings(partition="short", time=1, notice=30)  # so that any stop may be that at the limit
    head = clone.head(LONG, COUNT_SAVES="no")
    for restarts in (0, 1):
        until("another start", lambda restarts=restarts: head.said.count("counting from 0") > restarts)
        clone.slurm.call("scancel", "--signal=TERM", clone.number)
        clone.requeued(restarts + 1)
    assert "no progress between two stops" in clone.ends(head, 1)


def test_early_preemptions_are_no_lack_of_progress(clone: CountingClone) -> None:
    head = clone.head("20", COUNT_SAVES="no")
    for restarts in range(3):
        until("another start", lambda restarts=restarts: head.said.count("counting from 0") > restarts)
        clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
        clone.requeued(restarts + 1)
    clone.ends(head, 0)


def test_a_stage_that_cannot_resume_is_not_queued_again_at_its_limit(clone: CountingClone) -> None:
    clone.settings(partition="short", time=1, notice=30)
    said = clone.ends(clone.head(LONG, COUNT_KIND="score", COUNT_SAVES="no"), 1)
    assert "it reached its time limit: raise `time` of score in slurm.yaml" in said
    assert clone.slurm.field(clone.number, "Restarts") == "0"


def test_a_finished_job_never_runs_again(clone: CountingClone) -> None:
    clone.ends(clone.head("2"), 0)
    (clone.folder / "begun").unlink()
    clone.slurm.call("scontrol", "requeue", clone.number)
    clone.slurm.hurry(clone.number)
    until("the job to end", lambda: clone.slurm.state(clone.number) == "COMPLETED")
    assert not (clone.folder / "begun").exists()


def test_a_limit_above_the_partitions_is_shown(clone: CountingClone) -> None:
    clone.settings(partition="short", time=60)
    head = clone.head("2")
    until("the reason", lambda: "pending (PartitionTimeLimit)" in head.said)
