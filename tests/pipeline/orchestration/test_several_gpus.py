"""A plan on several GPUs: how long each way of using them takes, by hand and by brute force."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import pytest

from pipeline.orchestration.cost_plan import Cost, CostPlan, ImageCounts
from pipeline.orchestration.dvc_graph import Needs, StageForecast
from pipeline.orchestration.several_gpus import divided, job_needs, makespan, speedup, ways
from pipeline.orchestration.speed import Times

HOUR = 3600.0


def a_plan(graph: Needs) -> CostPlan:
    """A plan in which all stages run: train@... trains, the others score."""
    costs = [Cost(stage, stage.partition("@")[2], 1, 1, 1, 10, 1, needs) for stage, needs in graph.items()]
    return CostPlan(
        "mini",
        [StageForecast(stage, needs, "run", "") for stage, needs in graph.items()],
        ImageCounts(1_000_000, 0, 10, {}, True, 0, 0),
        [cost for cost in costs if cost.stage.startswith("train")],
        [cost for cost in costs if not cost.stage.startswith("train")],
        {},
    )


def taking(seconds: Mapping[str, float]) -> Times:
    """The times of stages."""
    return Times(seconds, sum(seconds.values()), 0.0, [])


def test_four_gpus_train_as_much_faster_as_in_the_paper() -> None:
    assert speedup(1) == 1 and speedup(4) == pytest.approx(3.75)
    assert speedup(2) ** 2 == pytest.approx(3.75) and speedup(8) == pytest.approx(3.75**1.5)


def test_the_ways_by_hand() -> None:
    graph = {"train@A": frozenset[str](), "train@D": frozenset({"train@A"}), "train@E": frozenset({"train@A"})}
    plan, times = a_plan(graph), taking({"train@A": 4.0, "train@D": 4.0, "train@E": 4.0})
    assert divided(plan, times, gpus=1, parts=1) == 12
    assert divided(plan, times, gpus=2, parts=2) == 8  # A, then D beside E
    assert divided(plan, times, gpus=8, parts=8) == 8  # six GPUs have nothing to do
    assert divided(plan, times, gpus=4, parts=1) == pytest.approx(12 / 3.75)
    table = ways(plan, times)
    assert table[1] == [12, None, 12] and table[2][1] == table[2][2] == 8


def test_scores_are_divided_without_loss() -> None:
    plan = a_plan({"dense@A": frozenset()})
    assert divided(plan, taking({"dense@A": 8.0}), gpus=8, parts=1) == 1


def test_no_order_of_two_workers_is_twice_as_fast_as_the_walks(rng: np.random.Generator) -> None:
    for _ in range(20):
        graph = {str(n): frozenset(str(up) for up in range(n) if rng.random() < 0.3) for n in range(5)}
        seconds = {stage: float(rng.integers(1, 9)) for stage in graph}
        best = min(_in_order(order, graph, seconds) for order in permutations(graph))
        found = makespan(graph, seconds, 2)
        assert best <= found <= 2 * best  # Graham's bound
        assert makespan(graph, seconds, 1) == sum(seconds.values())


def _in_order(order: tuple[str, ...], graph: Needs, seconds: Mapping[str, float]) -> float:
    """Return when two workers end that start the stages in this order."""
    ends: dict[str, float] = {}
    free = [0.0, 0.0]
    for stage in order:
        if not graph[stage] <= ends.keys():
            return float("inf")
        free.sort()
        ends[stage] = max(free[0], *(ends[up] for up in graph[stage]), 0.0) + seconds[stage]
        free[0] = ends[stage]
    return max(ends.values())


def test_stages_without_a_time_take_none() -> None:
    graph = {"a": frozenset[str](), "table": frozenset({"a"}), "b": frozenset({"table"})}
    assert makespan(graph, {"a": 1.0, "b": 2.0}, 4) == 3


def test_a_job_asks_for_a_quarter_more_than_the_estimate() -> None:
    plan = a_plan({"train@A": frozenset(), "dense@A": frozenset({"train@A"}), "crops@A": frozenset({"train@A"})})
    needs = job_needs(plan, taking({"train@A": 8 * HOUR, "dense@A": 60.0, "crops@A": HOUR}))
    assert [(need.name, need.gpu_hours, need.time_limit) for need in needs] == [
        ("A", 8.0, 10),
        ("the longest score", 1.0, 2),
    ]
    assert needs[0].memory == 8 * 10**9 + 300 * 10**6
