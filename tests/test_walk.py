"""Stages side by side: each after what it needs, the longest chain first, a failure stopping only what needs it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.errors import Failure, UsageError
from pipeline.graph import needs
from pipeline.walk import Walk, longest_first

ROOT = Path(__file__).parent.parent
GRAPH = {
    "data": frozenset[str](),
    "a": frozenset({"data"}),
    "d": frozenset({"a"}),
    "d2": frozenset({"d"}),
    "lone": frozenset({"data"}),
    "table": frozenset({"d2", "lone"}),
}


class Recorded(Walk):
    """A walk that notes when stages begin and end, and fails those of `bad`."""

    bad: frozenset[str] = frozenset()

    def _stage(self, stage: str) -> bool:
        with self.printing:
            self.events = [*getattr(self, "events", []), ("begin", stage)]
        time.sleep(0.01)
        with self.printing:
            self.events.append(("end", stage))
        return stage not in self.bad


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_stage_runs_once_and_after_what_it_needs(jobs: int) -> None:
    walk = Recorded(GRAPH, jobs)
    walk.run()
    assert sorted(stage for kind, stage in walk.events if kind == "begin") == sorted(GRAPH)
    for stage, upstream in GRAPH.items():
        for up in upstream:
            assert walk.events.index(("end", up)) < walk.events.index(("begin", stage))


def test_no_more_run_at_a_time_than_asked_for() -> None:
    walk = Recorded({str(number): frozenset[str]() for number in range(20)}, 3)
    walk.run()
    running = most = 0
    for kind, _ in walk.events:
        running += 1 if kind == "begin" else -1
        most = max(most, running)
    assert most == 3


def test_the_longest_chain_begins_first() -> None:
    order = longest_first(GRAPH)
    assert order[:2] == ["data", "a"]
    assert order.index("d") < order.index("lone")


def test_a_failed_stage_stops_what_needs_it_and_nothing_else() -> None:
    walk = Recorded(GRAPH, 2)
    walk.bad = frozenset({"d"})
    with pytest.raises(Failure, match="failed: d; 2 stages"):
        walk.run()
    assert walk.done == {"data", "a", "lone"}


def test_the_graph_is_dvcs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    graph = needs(["table5"])
    assert graph["train@D-jitter"] == {"prepare", "train@D-384"}
    assert "train@B-256" not in graph
    with pytest.raises(UsageError, match="tabel5"):
        needs(["tabel5"])
