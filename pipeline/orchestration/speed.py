"""A machine's speed, and the time that a plan takes on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.orchestration.cost_plan import CostPlan


@dataclass(frozen=True)
class Times:
    """The seconds that a plan takes."""

    stages: Mapping[str, float]  # of each stage that would run
    training: float
    scoring: float
    chain: Sequence[str]  # the dependent stages that take longest, in order

    @property
    def one_by_one(self) -> float:
        """Return the seconds of all stages."""
        return sum(self.stages.values())

    @property
    def side_by_side(self) -> float:
        """Return the seconds of the chain: no number of machines takes less."""
        return sum(self.stages[name] for name in self.chain)


@dataclass(frozen=True)
class Speed:
    """The assumed speed of a machine: FLOP per second in training, by net, and in scoring."""

    training: Mapping[str, float]
    scoring: float
    source: str  # a sentence that says how the speed is known

    def times(self, plan: CostPlan, nets: Mapping[str, str]) -> Times:
        """Return the times of what would run; `nets` has the net of each run."""
        training = {cost.stage: cost.flops / self.training[nets[cost.name]] for cost in plan.training}
        scoring = {cost.stage: cost.flops / self.scoring for cost in plan.scoring}
        stages = training | scoring
        return Times(stages, sum(training.values()), sum(scoring.values()), plan.chain(stages))
