"""The time that a walk still needs, estimated from how long its stages have taken so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from pipeline.experiment.paths import provenance_record
from pipeline.experiment.run_names import work_of
from pipeline.system.progress import duration


def announcement(to_run: Sequence[tuple[str, str]], total: int, jobs: int) -> str:
    """Return what a walk will do, before it begins: the number of stages, the first with its reason, and the time.

    `to_run` has each stage that has to run with the reason; `total` counts all stages.
    """
    if not to_run:
        return f"Everything is up to date or in the cache ({total} stages)."
    stage, why = to_run[0]
    left = Estimate().left([name for name, _ in to_run], {}, jobs)
    time = f", about {duration(left)} by the times recorded here" if left else ""
    return f"{len(to_run)} of {total} stages will run{time}. First: {stage} ({why})"


@dataclass
class Estimate:
    """How long stages take: those of this walk, and before the first of a kind has ended, those recorded earlier."""

    taken: dict[str, list[float]] = field(default_factory=dict)  # kind of stage to seconds

    def learn(self, stage: str, seconds: float) -> None:
        """Record how long a stage took."""
        self.taken.setdefault(_kind(stage), []).append(seconds)

    def left(self, waiting: Iterable[str], running: Mapping[str, float], jobs: int) -> float | None:
        """Return the seconds until all stages are done; None while nothing is known.

        `running` has the seconds since each running stage began; `jobs` stages run at a time.
        """
        expected = {stage: self._expected(stage) for stage in (*waiting, *running)}
        if not expected or None in expected.values():
            return None
        work = sum(max(0.0, (seconds or 0.0) - running.get(stage, 0.0)) for stage, seconds in expected.items())
        return work / jobs

    def _expected(self, stage: str) -> float | None:
        own = self.taken.get(_kind(stage)) or _recorded(stage) or [s for taken in self.taken.values() for s in taken]
        return mean(own) if own else None


def _kind(stage: str) -> str:
    """Return what a stage does: train of train@D-384, table of table4."""
    return "table" if stage.startswith("table") else work_of(stage)[0]


def _recorded(stage: str) -> list[float]:
    """Return the seconds that the stage took here before, if that was recorded."""
    try:
        return [float(json.loads(provenance_record(stage).read_text())["seconds"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []
