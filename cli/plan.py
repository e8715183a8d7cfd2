"""vgg-repro plan: what would run, why, and what it would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import params

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.orchestration.cost_plan import CostPlan
    from pipeline.orchestration.speed import Speed

NO_TIME = "For times, add --measure, or --images-per-second for a machine that you have in mind."
CAPS = "Iterations are those of the whole schedule; a plateau may end a run sooner. "


def plan(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Tables or stages, such as table4; all, if none is named.")
    ] = None,
    images_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Training images of net D a second; other work by its arithmetic.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train and score for some seconds a net first.")] = False,
) -> None:
    """Show which stages would run and why, what they cost, and which runs need not wait for each other. Runs nothing.

    Example: vgg-repro plan table4 --images-per-second 500
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.targets import stage_of, within_reach
    from pipeline.orchestration.cost_plan import plan as planned
    from pipeline.orchestration.dvc_graph import ALWAYS, forecasts
    from reports.plan_page import plan_page
    from reports.terminal import terminal

    if measure and images_per_second is not None:
        raise UsageError("--measure and --images-per-second each say how fast a machine is: give one of them")
    parameters = params()
    named = [f"train@{target}" if target in parameters.runs else stage_of(target) for target in targets or []]
    stage_forecasts = forecasts(within_reach(named, parameters), parameters)
    cost_plan = planned(parameters, [forecast for forecast in stage_forecasts if forecast.why != ALWAYS])
    speed = _speed(parameters, cost_plan, images_per_second, measure)
    nets = {name: run.net for name, run in parameters.runs.items()}
    times = speed.times(cost_plan, nets) if speed else None
    note = f"{CAPS if cost_plan.training else ''}{speed.source if speed else NO_TIME}"
    typer.echo(terminal(plan_page(cost_plan, named, times, note)), nl=False)


def _speed(parameters: Params, cost_plan: CostPlan, images_per_second: float | None, measure: bool) -> Speed | None:
    """Return the speed of this machine, if `measure` is set, or of the one with `images_per_second`; else None."""
    from pipeline.orchestration.cost_plan import REFERENCE
    from pipeline.orchestration.speed import Speed
    from reports.plan_page import si

    if images_per_second is not None:
        rate = images_per_second * cost_plan.nets[REFERENCE]
        source = f"Times are those of a machine that trains {images_per_second:g} images of net D a second"
        return Speed(
            dict.fromkeys(cost_plan.nets, rate), rate, f"{source}, and does all else as fast by its arithmetic."
        )
    if not measure:
        return None
    from stages.distributed import processes
    from stages.tools.measure import scoring_rate, training_rates

    scoring = scoring_rate(parameters, cost_plan.images.classes)
    if not cost_plan.training:
        return Speed({}, scoring, f"Measured here: net {REFERENCE} scores at {si(scoring, 'FLOP')} a second.")
    rates, decoded = training_rates(parameters, cost_plan)
    listed = ", ".join(f"{net} {rate:.3g}" for net, rate in rates.items())
    condition = "with the prepared images" if decoded else "of random pixels: images are still to be decoded"
    train = parameters.active.training
    count = processes(train.processes, train.device)
    shared = f" That is one process; a run here has {count}, and takes at best so many times less." if count > 1 else ""
    source = f"Measured here, images a second in training, {condition}: {listed}.{shared}"
    return Speed({net: rate * cost_plan.nets[net] for net, rate in rates.items()}, scoring, source)
