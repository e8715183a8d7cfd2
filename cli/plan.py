"""vgg-repro plan: what would run, why, and what it would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import complete_targets, params, show

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.orchestration.cost_plan import CostPlan
    from pipeline.orchestration.speed import Speed

NO_TIME = "For time estimates, add --measure, or --images-per-second for another machine."
CAPS = "Iteration counts are for the whole schedule; a plateau may end a run sooner. "


def plan(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Tables, runs or stages; default: all.", autocompletion=complete_targets),
    ] = None,
    images_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Training images per second of net D; other work by its FLOPs.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="First measure each net for a few seconds.")] = False,
) -> None:
    """Show which stages would run and why, what they cost, and which runs are independent. No stage is run.

    Example: vgg-repro plan table4 --images-per-second 500
    """
    from pipeline.cluster.settings import chosen
    from pipeline.errors import UsageError
    from pipeline.experiment.targets import stage_of, within_reach
    from pipeline.orchestration.cost_plan import plan as planned
    from pipeline.orchestration.dvc_graph import ALWAYS, forecasts, lost_from_cache
    from reports.plan_page import plan_page
    from reports.terminal import terminal

    if measure and images_per_second is not None:
        raise UsageError("--measure and --images-per-second both set the speed: give only one of them")
    chosen()  # raises UsageError for an unknown cluster
    parameters = params()
    named = [stage_of(parameters, target) for target in targets or []]
    stage_forecasts = forecasts(within_reach(named, parameters), parameters)
    cost_plan = planned(parameters, [forecast for forecast in stage_forecasts if forecast.why != ALWAYS])
    speed = _speed(parameters, cost_plan, images_per_second, measure)
    nets = {name: run.net for name, run in parameters.all_trained.items()}
    times = speed.times(cost_plan, nets) if speed else None
    note = f"{CAPS if cost_plan.training else ''}{speed.source if speed else NO_TIME}"
    if lost := lost_from_cache(parameters):
        typer.echo(f"{lost}\n", err=True)
    show(plan_page(cost_plan, named, times, note), terminal)


def _speed(parameters: Params, cost_plan: CostPlan, images_per_second: float | None, measure: bool) -> Speed | None:
    """Return the speed of this machine, if `measure` is set, or of the one with `images_per_second`; else None."""
    from pipeline.orchestration.cost_plan import REFERENCE
    from pipeline.orchestration.speed import Speed
    from reports.plan_page import si

    if images_per_second is not None:
        rate = images_per_second * cost_plan.nets[REFERENCE]
        source = f"Times are for a machine that trains {images_per_second:g} images of net D per second"
        return Speed(
            dict.fromkeys(cost_plan.nets, rate), rate, f"{source} and does all other work at the same FLOP rate."
        )
    if not measure:
        return None
    from stages.distributed import processes
    from stages.tools.measure import scoring_rate, training_rates

    scoring = scoring_rate(parameters, cost_plan.images.classes)
    if not cost_plan.training:
        return Speed({}, scoring, f"Measured here: net {REFERENCE} scores at {si(scoring, 'FLOP')} per second.")
    rates, decoded = training_rates(parameters, cost_plan)
    listed = ", ".join(f"{net} {rate:,.0f}" for net, rate in rates.items())
    condition = "with the prepared images" if decoded else "with random pixels, so without decoding"
    train = parameters.active.training
    count = processes(train.processes, train.device)
    shared = f" One process was measured; a run has {count}, at best {count} times as fast." if count > 1 else ""
    source = f"Measured here, training images per second {condition}: {listed}.{shared}"
    return Speed({net: rate * cost_plan.nets[net] for net, rate in rates.items()}, scoring, source)
