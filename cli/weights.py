"""vgg-repro weights: initial weights, published nets in, finished nets out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import imports
from cli.common import Direct, Run, complete_runs, params, repro, through_dvc

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

SECOND_CHECK = (
    "A second check of D-jitter and E-jitter needs no ImageNet: Table 11 on VOC-2007 (vgg-repro prepare voc2007 --path "
    "FOLDER --profile published, dvc repro table11; docs/other-data-sets.md)"
)
app = typer.Typer(no_args_is_help=True, help="Make, import, check and export weights.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make, import, check and export weights."""


def _complete(incomplete: str) -> list[str]:
    from pipeline.experiment.params import NETS

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
    from pipeline.experiment.run_names import random_stage
    from pipeline.experiment.targets import check_net

    parameters = params()
    if net not in parameters.extra.random:
        check_net(net)
    _ = parameters.active.training  # raises Failure early if the profile trains nothing
    if not direct and f"random-{net}" not in {run.init for run in parameters.all_runs.values()}:
        raise UsageError(f"no run of params.yaml starts from random-{net}; to draw the weights anyway, add --direct")

    def work() -> None:
        from stages.random import main

        main(parameters, net)

    through_dvc([random_stage(net)], direct, work)


app.command("import")(imports.import_)


@app.command("check")
def check(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs with published nets; default: all.", autocompletion=complete_runs),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=20, help="Number of validation images; default: all on a GPU, 500 on a CPU.")
    ] = None,
    direct: Direct = False,
) -> None:
    """Compare imported nets' errors, centre crop and dense, with the published ones; exit with 1 if they differ.

    A second check, which needs no ImageNet, is Table 11 on VOC-2007: docs/other-data-sets.md.

    Example: vgg-repro weights check D-jitter --images 1000
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.other_sets import DESCRIBED
    from pipeline.experiment.targets import check_imported
    from stages.imported import input_override

    parameters = params()
    named = runs or list(parameters.imports)
    if not named:
        raise UsageError("no published net is imported yet: vgg-repro weights import D-jitter FILE")
    if parameters.weights == "trained":
        raise UsageError("params.yaml has weights: trained; set weights: published to score published nets")
    for run in named:
        input_override(check_imported(parameters, run))
    if not direct:
        _check_images(parameters)
        repro("prepare", *(f"import@{run}" for run in named), quiet=True)
    from pipeline.datasets.facts import read_facts
    from reports.check_page import check_page
    from reports.terminal import terminal
    from stages.tools.check import main

    results, facts = main(parameters, named, images), read_facts(parameters.profile)
    typer.echo(f"\n{terminal(check_page(results, '' if facts.comparable else facts.about))}")
    if unknown := [run for run in named if run not in {result.run for result in results}]:
        typer.echo(f"No published errors are known for {', '.join(unknown)}, only for nets A, B, D and E.\n")
    if set(named) & set(DESCRIBED):
        typer.echo(SECOND_CHECK)
    if any(result.differs for result in results):
        raise typer.Exit(1)


def _check_images(parameters: Params) -> None:
    """Raise Failure if the profile's images are missing, with the check that does not need them."""
    from pipeline.datasets.sources import open_source
    from pipeline.errors import Failure

    source = open_source(parameters.active)
    if not source.downloads and (lacking := source.missing()):
        raise Failure(f"{lacking}\n{SECOND_CHECK}")


@app.command("export")
def export(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Output file, ending in .pth, .pt, .safetensors or .onnx.")],
) -> None:
    """Write a run's net as torchvision's state dict, as safetensors, or as ONNX (dense, for images of any size).

    Example: vgg-repro weights export D-256 vgg16.pth
    """
    from pipeline.experiment.targets import check_classifier

    parameters = params()
    check_classifier(parameters, run)
    from stages.tools.export import main

    main(parameters, run, file.expanduser())
