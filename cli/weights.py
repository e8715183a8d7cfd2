"""vgg-repro weights: initial weights."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import Direct, params, through_dvc

app = typer.Typer(no_args_is_help=True, help="Make weights.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make weights."""


def _complete(incomplete: str) -> list[str]:
    from pipeline.params import NETS

    return [net for net in NETS if net.startswith(incomplete)]


@app.command("random")
def random(
    net: Annotated[str, typer.Argument(help="A, A-LRN, B, C, D, E or shallow.", autocompletion=_complete)],
    direct: Direct = False,
) -> None:
    """Draw a net's random weights.

    Example: vgg-repro weights random A
    """
    from pipeline.errors import UsageError
    from pipeline.grid import check_net

    chosen = params()
    check_net(net)
    if not direct and f"random-{net}" not in {run.init for run in chosen.runs.values()}:
        raise UsageError(f"no run of params.yaml begins from random-{net}; to draw them all the same, add --direct")

    def work() -> None:
        from stages.random import main

        main(chosen, net)

    through_dvc(f"random@{net}", direct, work)
