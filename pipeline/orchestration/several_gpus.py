"""A plan on several GPUs: how long each way of using them takes, and what a job of each run has to ask for."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.experiment.paper_facts import GPUS, SPEEDUP
from pipeline.orchestration.cost_plan import Cost, CostPlan
from pipeline.orchestration.dvc_graph import Needs
from pipeline.orchestration.runner import longest_first
from pipeline.orchestration.speed import Times

COUNTS = (1, 2, 4, 8)  # GPUs
WAYS = {"one network on all": 1, "two halves": 2, "one network on each": None}  # parts of the GPUs; None: one each
MARGIN = 1.25  # of a time limit over the estimate
HOUR = 3600.0
HOST_BYTES = 8 * 10**9  # main memory of a process that feeds a GPU: assumed, for buffers of torch, CUDA and DALI
IMAGE_BYTES = 300  # main memory for an image's index and random draws (docs/scale.md)


class JobNeeds(NamedTuple):
    """What the job of a run has to ask for, with one GPU."""

    name: str
    gpu_hours: float
    gpu_memory: int  # lower bound, bytes
    memory: int  # bytes
    time_limit: int  # hours


def speedup(gpus: int) -> float:
    """Return how much faster so many GPUs train one network: the paper's 3.75 on four, as a power of their number."""
    return float(gpus ** math.log(SPEEDUP, GPUS))


def divided(plan: CostPlan, times: Times, gpus: int, parts: int) -> float:
    """Return the seconds of a plan on `gpus` GPUs in so many equal parts, each with one stage at a time."""
    training = {cost.stage for cost in plan.training}
    each = gpus // parts
    seconds = {
        stage: time / (speedup(each) if stage in training else each) for stage, time in times.stages.items()
    }  # the images of a score are divided without any exchange
    return makespan({forecast.stage: forecast.needs for forecast in plan.forecasts}, seconds, parts)


def ways(plan: CostPlan, times: Times) -> dict[int, list[float | None]]:
    """Return the seconds of each of WAYS by the number of GPUs; None where the GPUs cannot be divided so."""
    return {
        gpus: [
            divided(plan, times, gpus, parts or gpus) if (parts or gpus) <= gpus else None for parts in WAYS.values()
        ]
        for gpus in COUNTS
    }


def makespan(graph: Needs, seconds: Mapping[str, float], workers: int) -> float:
    """Return when the last stage ends if ready stages start in the order of a walk; those without a time take none."""
    waiting, ends = longest_first(graph), dict[str, float]()
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        ready = [stage for stage in waiting if graph[stage] & graph.keys() <= ends.keys()]
        for stage in ready:
            if stage not in seconds:
                ends[stage] = now
            elif len(running) < workers:
                heapq.heappush(running, (now + seconds[stage], stage))
        started = {stage for _, stage in running} | ends.keys()
        settled = any(stage not in seconds for stage in ready)
        waiting = [stage for stage in waiting if stage not in started]
        if not settled and running:
            now, stage = heapq.heappop(running)
            ends[stage] = now
    return now


def job_needs(plan: CostPlan, times: Times) -> list[JobNeeds]:
    """Return what the job of each run that would be trained has to ask for, and of its longest score."""
    longest = {cost.name: cost for cost in plan.training}
    if plan.scoring:
        longest["the longest score"] = max(plan.scoring, key=lambda cost: times.stages[cost.stage])
    return [_needs(name, cost, plan, times.stages[cost.stage]) for name, cost in longest.items()]


def _needs(name: str, cost: Cost, plan: CostPlan, seconds: float) -> JobNeeds:
    memory = HOST_BYTES + IMAGE_BYTES * (plan.images.train + plan.images.val)
    return JobNeeds(name, seconds / HOUR, cost.memory, memory, math.ceil(MARGIN * seconds / HOUR))
