"""A plan's times: each stage at its own speed, and their sums."""

from __future__ import annotations

from dataclasses import replace

from pipeline.orchestration.cost_plan import Cost, CostPlan, ImageCounts, Totals
from pipeline.orchestration.dvc_graph import StageForecast
from pipeline.orchestration.speed import Speed, Times
from reports.plan_page import plan_page
from reports.terminal import terminal


def cost(stage: str, flops: int, memory: int, disk: int, *needs: str) -> Cost:
    return Cost(stage, stage.partition("@")[2], 1, 1, flops, memory, disk, frozenset(needs))


TRAINING = [cost("train@A-256", 60, 7, 10), cost("train@D-256", 80, 9, 30, "train@A-256")]
SCORING = [cost("dense@A-256", 40, 11, 5, "train@A-256"), cost("dense@D-256", 20, 2, 5, "train@D-256")]
PLAN = CostPlan(
    "mini",
    [StageForecast(each.stage, each.needs, "run", "") for each in (*TRAINING, *SCORING)],
    ImageCounts(1, 1, 1, {1.0: 1}, True, 1, 0),
    TRAINING,
    SCORING,
    {"A": 1, "D": 1},
)


def test_a_run_takes_its_own_nets_time_and_the_chain_the_longest() -> None:
    speed = Speed({"A": 2.0, "D": 4.0}, 10.0, "A test.")
    stages = {"train@A-256": 30.0, "train@D-256": 20.0, "dense@A-256": 4.0, "dense@D-256": 2.0}
    times = speed.times(PLAN, {"A-256": "A", "D-256": "D"})
    assert times == Times(stages, 50.0, 6.0, ["train@A-256", "train@D-256", "dense@D-256"])
    assert (times.one_by_one, times.side_by_side) == (56.0, 52.0)


def test_totals_are_sums_and_the_largest() -> None:
    assert PLAN.totals == Totals(training=140, scoring=60, weights=40, scores=10, checkpoint=60, memory=11)


def test_a_plan_of_other_data_sets_alone_counts_no_images_of_the_profile() -> None:
    unprepared = replace(PLAN, training=[], images=ImageCounts(0, 50_000, 1000, {1.0: 1}, False, 1, 5 * 10**9))
    features = replace(unprepared, scoring=[cost("features@voc2007-D-jitter", 40, 11, 5)])
    assert "50,000 validation images" in terminal(plan_page(unprepared, [], None, ""))
    shown = terminal(plan_page(features, ["table11"], None, ""))
    assert "features of voc2007" in shown and "50,000" not in shown and "images to prepare" not in shown
