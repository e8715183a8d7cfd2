"""The time that a walk still needs, from how long its stages have taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.experiment.paths import provenance_record
from pipeline.orchestration.estimate import Estimate, announcement
from pipeline.system.atomic_files import write_json


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_is_said_while_nothing_is_known() -> None:
    estimate = Estimate()
    assert estimate.left(["train@A-256"], {}, 1) is None
    assert estimate.left([], {}, 1) is None


def test_stages_of_a_kind_take_what_the_finished_ones_took() -> None:
    estimate = Estimate()
    estimate.learn("train@A-256", 10.0)
    estimate.learn("train@B-256", 20.0)
    estimate.learn("dense@A-256", 1.0)
    assert estimate.left(["train@C-256", "dense@B-256"], {}, 1) == 16.0
    assert estimate.left(["train@C-256", "dense@B-256"], {}, 2) == 8.0
    assert estimate.left(["train@C-256"], {"train@D-256": 5.0, "dense@D-256": 60.0}, 1) == 25.0
    assert estimate.left(["crops@D-256"], {}, 1) == pytest.approx(31 / 3), "the mean of all, for an unknown kind"


def test_what_was_recorded_earlier_counts_until_one_of_the_kind_has_ended() -> None:
    write_json(provenance_record("train@E-256"), {"seconds": 100.0})
    estimate = Estimate()
    assert estimate.left(["train@E-256"], {}, 1) == 100.0
    estimate.learn("train@A-256", 10.0)
    assert estimate.left(["train@E-256"], {}, 1) == 10.0


def test_what_will_run_is_announced_with_the_reason_and_the_time() -> None:
    assert announcement([], 7, 2) == "Everything is up to date or in the cache (7 stages)."
    to_run = [("prepare", "method.prepare: 2, now 3"), ("train@A-256", "after prepare")]
    said = "2 of 7 stages will run. First: prepare (method.prepare: 2, now 3)"
    assert announcement(to_run, 7, 2) == said
    write_json(provenance_record("train@A-256"), {"seconds": 100.0})
    write_json(provenance_record("prepare"), {"seconds": 20.0})
    assert "will run, about 1 min 00 s by the times recorded here" in announcement(to_run, 7, 2)
