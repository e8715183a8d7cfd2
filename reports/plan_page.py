"""The plan, for the terminal: what would run and why, what that costs, and which runs are independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.experiment.modes import PROTOCOLS
from pipeline.experiment.other_sets import FEATURES, described_by
from pipeline.experiment.paper_facts import GPUS, SPEEDUP
from pipeline.experiment.run_names import work_of
from pipeline.experiment.server_sets import PREFIX
from pipeline.orchestration.cost_plan import Cost, CostPlan
from pipeline.orchestration.several_gpus import WAYS, job_needs, ways
from pipeline.orchestration.speed import Times
from pipeline.system.progress import duration
from reports.page import Paragraph, Preformatted, Table, left, right
from reports.phrases import NONE
from reports.terminal import TerminalBlock

UNITS = ("", "k", "M", "G", "T", "P", "E", "Z")
AMOUNTS = ("compute", "memory per batch", "disk")


def plan_page(plan: CostPlan, targets: Sequence[str], times: Times | None, note: str) -> Iterator[TerminalBlock]:
    """Yield the whole plan, with the times of what would run if they are known; `note` is their source."""
    yield Paragraph(_head(plan, targets))
    if stages := _stages(plan):
        yield Preformatted(stages)
    if _classifies(plan):
        yield Paragraph(_images(plan))
    if plan.training:
        yield _training(plan, times)
        if turns := _turns(plan):
            yield Preformatted(turns)
    if plan.scoring:
        yield _scoring(plan, times)
    if plan.training or plan.scoring:
        yield Preformatted(_totals(plan, times))
        if times:
            yield from _cluster(plan, times)
        if note:
            yield Paragraph(note)


def _cluster(plan: CostPlan, times: Times) -> Iterator[TerminalBlock]:
    """Yield what to ask a cluster for, and how long each way of using several GPUs takes."""
    yield Paragraph("To ask a cluster for, if this is the speed of one GPU (docs/cluster.md):")
    columns = (*left("job"), *right("GPU hours", "GPU memory", "memory", "time limit"))
    rows = (
        (need.name, f"{need.gpu_hours:,.1f}", si(need.gpu_memory, "B"), si(need.memory, "B"), f"{need.time_limit} h")
        for need in job_needs(plan, times)
    )
    yield Table(columns, tuple(rows))
    if not plan.training:
        return
    yield Paragraph(
        f"Time of each way to use several such GPUs, if {GPUS} train one network {SPEEDUP} times as fast as one, as in "
        "the paper (section 3.3):"
    )
    ways_rows = (
        (str(gpus), *(NONE if time is None else duration(time) for time in of_ways))
        for gpus, of_ways in ways(plan, times).items()
    )
    yield Table((*left("GPUs"), *right(*WAYS)), tuple(ways_rows))


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


def _classifies(plan: CostPlan) -> bool:
    """Return True if something needs the profile's own images: more than the features of other data sets."""
    return bool(plan.training) or any(work_of(cost.stage)[0] != FEATURES for cost in plan.scoring)


def _images(plan: CostPlan) -> str:
    images = plan.images
    source = "as prepared" if images.counted else "as known for this source; none are prepared yet"
    training = f"{images.train:,} training and " if images.train else ""
    return f"{training}{images.val:,} validation images of {images.classes} classes, {source}."


def _training(plan: CostPlan, times: Times | None) -> Table:
    columns = (*left("to train"), *right("images", "iterations", *AMOUNTS, *["time"] * bool(times)))
    rows = ((cost.name, *_counts(cost), *_amounts(cost, times)) for cost in plan.training)
    return Table(columns, tuple(rows))


def _scoring(plan: CostPlan, times: Times | None) -> Table:
    amounts = right("images x scales", "passes", *AMOUNTS, *["time"] * bool(times))
    rows = ((cost.name, _protocol(cost), *_counts(cost), *_amounts(cost, times)) for cost in plan.scoring)
    return Table((*left("to score", "protocol"), *amounts), tuple(rows))


def _protocol(cost: Cost) -> str:
    work = work_of(cost.stage)[0]
    if work.startswith(PREFIX):
        return f"{PROTOCOLS[work.removeprefix(PREFIX).partition('-')[0]]}, test images"
    return f"features of {described_by(cost.stage)[0]}" if work == FEATURES else PROTOCOLS[work]


def _counts(cost: Cost) -> tuple[str, str]:
    return f"{cost.images:,}", f"{cost.iterations:,}"


def _amounts(cost: Cost, times: Times | None) -> list[str]:
    """Return the cells of the columns AMOUNTS, and the time if it is known."""
    cells = [si(cost.flops, "FLOP"), si(cost.memory, "B"), si(cost.disk, "B")]
    return cells + ([duration(times.stages[cost.stage])] if times else [])


def _turns(plan: CostPlan) -> str:
    turns = plan.waves()
    if len(turns) == 1:
        return f"These runs are independent of each other: {', '.join(turns[0])}." if len(turns[0]) > 1 else ""
    lines = [f"{number}. {', '.join(wave)}" for number, wave in enumerate(turns, 1)]
    return "Runs on the same line are independent of each other:\n" + "\n".join(lines)


def _totals(plan: CostPlan, times: Times | None) -> str:
    lines = list(_sums(plan, times))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)


def _sums(plan: CostPlan, times: Times | None) -> Iterator[tuple[str, str]]:
    totals = plan.totals
    if plan.training:
        yield "training", si(totals.training, "FLOP") + (f", {duration(times.training)}" if times else "")
    if plan.scoring:
        yield "scoring", si(totals.scoring, "FLOP") + (f", {duration(times.scoring)}" if times else "")
    if times:
        yield "sequential", duration(times.one_by_one)
        yield "in parallel", f"at least {duration(times.side_by_side)}: {', '.join(times.chain)}"
    shards = (
        f"{si(plan.images.bytes, 'B')} of {'prepared images' if plan.images.counted else 'images to prepare'}, "
        if plan.images.bytes and _classifies(plan)
        else ""
    )
    parts = (
        (totals.weights, "of trained weights"),
        (totals.scores, "of scores"),
        (totals.checkpoint, "of checkpoints during training"),
    )
    yield "disk", shards + ", ".join(f"{si(size, 'B')} {what}" for size, what in parts if size)
    yield "memory", f"{si(totals.memory, 'B')} for the largest stage, on the device that computes"


def si(value: float, unit: str) -> str:
    """Return a number with its unit and a suitable prefix: 4.33 EFLOP."""
    power = 0
    while value >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {UNITS[power]}{unit}" if value else NONE
