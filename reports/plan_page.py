"""The plan, for the terminal: what would run and why, what that costs, and which runs are independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.experiment.modes import MODES
from pipeline.orchestration.cost_plan import Cost, CostPlan
from pipeline.system.progress import duration
from reports.page import Paragraph, Preformatted, Table, left, right
from reports.phrases import NONE
from reports.terminal import TerminalBlock

UNITS = ("", "k", "M", "G", "T", "P", "E", "Z")
AMOUNTS = ("arithmetic", "memory a batch", "disk")


@dataclass(frozen=True)
class Speed:
    """The assumed speed of a machine: FLOP per second in training, by net, and in scoring."""

    training: Mapping[str, float]
    scoring: float
    source: str  # a sentence that says how the speed is known

    def seconds(self, plan: CostPlan, nets: Mapping[str, str]) -> dict[str, float]:
        """Return the seconds that each stage takes that would run; `nets` has the net of each run."""
        times = {cost.stage: cost.flops / self.training[nets[cost.name]] for cost in plan.training}
        return times | {cost.stage: cost.flops / self.scoring for cost in plan.scoring}


def plan_page(
    plan: CostPlan, targets: Sequence[str], seconds: Mapping[str, float], note: str
) -> Iterator[TerminalBlock]:
    """Yield the whole plan. `seconds` has the time of each stage that would run, or is empty; `note` is its source."""
    yield Paragraph(_head(plan, targets))
    if stages := _stages(plan):
        yield Preformatted(stages)
    if plan.training or plan.scoring:
        yield Paragraph(_images(plan))
    if plan.training:
        yield _training(plan, seconds)
        yield Preformatted(_turns(plan))
    if plan.scoring:
        yield _scoring(plan, seconds)
    if plan.training or plan.scoring:
        yield Preformatted(_totals(plan, seconds))
        if note:
            yield Paragraph(note)


def _head(plan: CostPlan, targets: Sequence[str]) -> str:
    counts = Counter(forecast.what for forecast in plan.forecasts)
    what = ", ".join(targets) if targets else "everything"
    return (
        f"Profile {plan.profile}, {what}: {len(plan.forecasts)} stages, {counts['done']} up to date, "
        f"{counts['cached']} from the cache, {counts['run']} to run."
    )


def _stages(plan: CostPlan) -> str:
    """Return each stage that is not up to date, and the reason."""
    width = max((len(forecast.stage) for forecast in plan.forecasts), default=0)
    return "\n".join(
        f"{forecast.what:7} {forecast.stage:{width}}  {forecast.why}"
        for forecast in plan.forecasts
        if forecast.what != "done"
    )


def _images(plan: CostPlan) -> str:
    images = plan.images
    source = "as prepared" if images.counted else "as the source is known to have; none is prepared yet"
    training = f"{images.train:,} training and " if images.train else ""
    return f"{training}{images.val:,} validation images of {images.classes} classes, {source}."


def _training(plan: CostPlan, seconds: Mapping[str, float]) -> Table:
    columns = (*left("to train"), *right("images", "iterations", *AMOUNTS, *["time"] * bool(seconds)))
    rows = ((cost.name, *_counts(cost), *_amounts(cost, seconds)) for cost in plan.training)
    return Table(columns, tuple(rows))


def _scoring(plan: CostPlan, seconds: Mapping[str, float]) -> Table:
    amounts = right("images x scales", "passes", *AMOUNTS, *["time"] * bool(seconds))
    rows = ((cost.name, _protocol(cost), *_counts(cost), *_amounts(cost, seconds)) for cost in plan.scoring)
    return Table((*left("to score", "how"), *amounts), tuple(rows))


def _protocol(cost: Cost) -> str:
    return MODES[cost.stage.partition("@")[0]].protocol


def _counts(cost: Cost) -> tuple[str, str]:
    return f"{cost.images:,}", f"{cost.iterations:,}"


def _amounts(cost: Cost, seconds: Mapping[str, float]) -> list[str]:
    """Return the cells of the columns AMOUNTS, and the time if it is known."""
    cells = [si(cost.flops, "FLOP"), si(cost.memory, "B"), si(cost.disk, "B")]
    return cells + ([duration(seconds[cost.stage])] if seconds else [])


def _turns(plan: CostPlan) -> str:
    turns = plan.waves()
    if len(turns) == 1:
        return f"None of these runs waits for another: {', '.join(turns[0])}."
    lines = [f"{number}. {', '.join(wave)}" for number, wave in enumerate(turns, 1)]
    return "Runs on one line need not wait for each other:\n" + "\n".join(lines)


def _totals(plan: CostPlan, seconds: Mapping[str, float]) -> str:
    lines = list(_sums(plan, seconds))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)


def _sums(plan: CostPlan, seconds: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for name, costs in (("training", plan.training), ("scoring", plan.scoring)):
        time = f", {duration(sum(seconds[cost.stage] for cost in costs))}" if seconds else ""
        if costs:
            yield name, si(sum(cost.flops for cost in costs), "FLOP") + time
    if seconds:
        chain = plan.chain(seconds)
        yield "one by one", duration(sum(seconds.values()))
        yield "side by side", f"{duration(sum(seconds[name] for name in chain))} at the least: {', '.join(chain)}"
    shards = (
        f"{si(plan.images.bytes, 'B')} of {'prepared images' if plan.images.counted else 'images to prepare'}, "
        if plan.images.bytes
        else ""
    )
    kept = [sum(cost.disk for cost in costs) for costs in (plan.training, plan.scoring)]
    largest = max((2 * cost.disk for cost in plan.training), default=0)
    parts = [(kept[0], "of trained weights"), (kept[1], "of scores"), (largest, "of checkpoint where a run trains")]
    yield "disk", shards + ", ".join(f"{si(size, 'B')} {what}" for size, what in parts if size)
    memory = max(cost.memory for cost in (*plan.training, *plan.scoring))
    yield "memory", f"{si(memory, 'B')} for the largest, on the device that computes"


def si(value: float, unit: str) -> str:
    """Return a number with its unit and a suitable prefix: 4.33 EFLOP."""
    power = 0
    while value >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {UNITS[power]}{unit}" if value else NONE
