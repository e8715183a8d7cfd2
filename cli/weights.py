"""vgg-repro weights: initial weights, published nets in, finished nets out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.common import Direct, Run, complete_runs, in_stage, params, repro, through_dvc

app = typer.Typer(no_args_is_help=True, help="Make, import, check and export weights.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Make, import, check and export weights."""


def _complete(incomplete: str) -> list[str]:
    from pipeline.params import NETS

    return [net for net in NETS if net.startswith(incomplete)]


def _complete_input(incomplete: str) -> list[str]:
    from pipeline.formats.base import CONVENTIONS

    return [name for name in CONVENTIONS if name.startswith(incomplete)]


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
    _ = chosen.chosen.training  # a profile that trains nothing says so before anything begins
    if not direct and f"random-{net}" not in {run.init for run in chosen.runs.values()}:
        raise UsageError(f"no run of params.yaml begins from random-{net}; to draw them all the same, add --direct")

    def work() -> None:
        from stages.random import main

        main(chosen, net)

    through_dvc(f"random@{net}", direct, work)


@app.command("import")
def import_(
    run: Run,
    file: Annotated[Path | None, typer.Argument(help="The published net; its kind is told by its content.")] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="Whose input it takes, where its kind is not enough: caffe, matconvnet or torchvision.",
            autocompletion=_complete_input,
        ),
    ] = None,
    channels: Annotated[str | None, typer.Option(help="RGB or BGR.")] = None,
    range: Annotated[int | None, typer.Option(help="The largest value of a pixel: 1 or 255.")] = None,
    mean: Annotated[str | None, typer.Option(help="Subtracted, such as 103.939,116.779,123.68.")] = None,
    deviation: Annotated[str | None, typer.Option(help="Divided by, such as 0.229,0.224,0.225.")] = None,
    class_map: Annotated[
        Path | None, typer.Option(help="A line an output: its WordNet id, its class's number from 0, or - for none.")
    ] = None,
    direct: Direct = False,
) -> None:
    """Import a published net, of Caffe, MatConvNet, PyTorch or safetensors, as the weights of a run.

    Example: vgg-repro weights import D-jitter VGG_ILSVRC_16_layers.caffemodel
    """
    from pipeline.errors import UsageError
    from pipeline.grid import check_imported, check_run
    from stages.imported import given

    check_run(params(), run)
    if file is not None:
        channels = channels.upper() if channels else None
        divided = _three(deviation)
        _check_options(channels, range, divided)
        said = {"channels": channels, "range": range, "mean": _three(mean), "deviation": divided}
        file = Path(os.path.abspath(file.expanduser()))
        _write_import(
            run, file, _convention(input) | {key: one for key, one in said.items() if one is not None}, class_map
        )
    elif any(one is not None for one in (input, channels, range, mean, deviation, class_map)):
        raise UsageError("options say something of a FILE: name it too")
    chosen = params()
    given(check_imported(chosen, run))  # its class map may have changed, which DVC does not see

    def work() -> None:
        from stages.imported import main

        main(chosen, run)

    through_dvc(f"import@{run}", direct, work)
    if chosen.weights == "trained" and not in_stage():
        typer.echo("params.yaml has weights: trained, and trained nets are scored; for these, write weights: published")


@app.command("check")
def check(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs with published nets; all, if none is named.", autocompletion=complete_runs),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=20, help="The first so many validation images; else all on a GPU, 500 on a CPU.")
    ] = None,
    direct: Direct = False,
) -> None:
    """Compare published nets' errors, at the centre crop and densely, with the published ones; exit with 1 at a miss.

    Example: vgg-repro weights check D-jitter --images 1000
    """
    from pipeline.errors import UsageError
    from pipeline.grid import check_imported
    from stages.imported import given

    chosen = params()
    named = runs or list(chosen.imports)
    if not named:
        raise UsageError("there is no published net yet: vgg-repro weights import D-jitter FILE")
    if chosen.weights == "trained":
        raise UsageError("params.yaml has weights: trained; write weights: published to score published nets")
    for run in named:
        given(check_imported(chosen, run))
    if not direct:
        repro("prepare", *(f"import@{run}" for run in named), quiet=True)
    from pipeline.facts import read_facts
    from reports.check import check_text
    from stages.check import main

    found, facts = main(chosen, named, images), read_facts(chosen.profile)
    typer.echo(f"\n{check_text(found, '' if facts.comparable else facts.about)}\n")
    if unknown := [run for run in named if run not in {one.run for one in found}]:
        typer.echo(
            f"Nobody has published figures for {', '.join(unknown)}; those known here are of nets A, B, D and E.\n"
        )
    if not all(one.agrees for one in found):
        raise typer.Exit(1)


@app.command("export")
def export(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Its ending says the format: .pth, .pt, .safetensors or .onnx.")],
) -> None:
    """Write a run's net as torchvision's state dict, as safetensors, or as ONNX (dense, of any size of picture).

    Example: vgg-repro weights export D-256 vgg16.pth
    """
    from pipeline.grid import check_run

    chosen = params()
    check_run(chosen, run)
    from stages.export import main

    main(chosen, run, file.expanduser())


def _write_import(run: str, file: Path, said: dict[str, Any], class_map: Path | None) -> None:
    """Write a row of `imports` in params.yaml, once the file is known to fit."""
    from pipeline.edit import with_row, write
    from pipeline.errors import UsageError
    from pipeline.files import sha256
    from pipeline.params import parse
    from pipeline.paths import PARAMS
    from stages.imported import read

    row: dict[str, Any] = {"file": str(file), **said}
    if class_map is not None:
        class_map = Path(os.path.abspath(class_map.expanduser()))
        if not class_map.is_file():
            raise UsageError(f"there is no class map {class_map}")
        row |= {"class_map": str(class_map), "class_map_sha256": sha256(class_map)}
    text = with_row("imports", run, row)
    read(parse(text.encode(), PARAMS), run)
    write(text)
    typer.echo(f"params.yaml: imports has {run} from {file} now")


def _convention(input: str | None) -> dict[str, Any]:
    """The input of a known kind of net. UsageError for an unknown one."""
    from pipeline.errors import UsageError
    from pipeline.formats.base import CONVENTIONS
    from pipeline.params import nearest

    if input is None:
        return {}
    if input not in CONVENTIONS:
        raise UsageError(f"--input {input} is no kind of net. {nearest(input, list(CONVENTIONS))}")
    said = CONVENTIONS[input].as_dict()
    return {**said, "range": int(said["range"])}


def _three(text: str | None) -> list[float] | None:
    """Three numbers with commas between them. UsageError for anything else."""
    from pipeline.errors import UsageError

    if text is None:
        return None
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"{text!r} is not three numbers with commas between them, such as 103.939,116.779,123.68"
        ) from None
    return [first, second, third]


def _check_options(channels: str | None, range: int | None, deviation: list[float] | None) -> None:
    """UsageError for a value that is none, by the name of its option."""
    from pipeline.errors import UsageError

    if channels not in (None, "RGB", "BGR"):
        raise UsageError(f"--channels {channels} is no order of channels. There are RGB, BGR")
    if range not in (None, 1, 255):
        raise UsageError(f"--range {range} is no range of pixels. There are 1, 255")
    if deviation is not None and not all(one > 0 for one in deviation):
        raise UsageError("--deviation is divided by: its three numbers are above 0")
