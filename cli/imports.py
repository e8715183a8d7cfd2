"""vgg-repro weights import: a published net as the weights of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.common import Direct, Run, params, through_dvc


def _complete_input(incomplete: str) -> list[str]:
    from pipeline.published.convention import CONVENTIONS

    return [name for name in CONVENTIONS if name.startswith(incomplete)]


def import_(
    run: Run,
    file: Annotated[
        Path | None,
        typer.Argument(help="File of the published net, or a folder of Hugging Face's hub; its format is detected."),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="Input convention, if the format does not determine it: caffe, matconvnet or torchvision.",
            autocompletion=_complete_input,
        ),
    ] = None,
    channels: Annotated[str | None, typer.Option(help="RGB or BGR.")] = None,
    range: Annotated[int | None, typer.Option(help="Largest pixel value: 1 or 255.")] = None,
    mean: Annotated[str | None, typer.Option(help="Mean to subtract, such as 103.939,116.779,123.68.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation to divide by, such as 0.229,0.224,0.225.")] = None,
    class_map: Annotated[
        Path | None,
        typer.Option(help="One line or JSON entry per output: a WordNet id, a class number from 0, or - for none."),
    ] = None,
    direct: Direct = False,
) -> None:
    """Import a published net (Caffe, MatConvNet, PyTorch, safetensors or Keras) as the weights of a run.

    Example: vgg-repro weights import D-jitter VGG_ILSVRC_16_layers.caffemodel
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.targets import check_grid_run, check_imported
    from pipeline.system.checkout import check
    from stages.imported import input_override

    if not direct:
        check()  # before params.yaml is changed
    check_grid_run(params(), run)
    if file is not None:
        channels = channels.upper() if channels else None
        divided = _three_numbers(std)
        _check_options(channels, range, divided)
        options = {"channels": channels, "range": range, "mean": _three_numbers(mean), "std": divided}
        file = Path(os.path.abspath(file.expanduser()))
        _write_import(
            run,
            file,
            _convention(input) | {key: value for key, value in options.items() if value is not None},
            class_map,
        )
    elif any(option is not None for option in (input, channels, range, mean, std, class_map)):
        raise UsageError("these options describe a FILE: give the file too")
    parameters = params()
    input_override(check_imported(parameters, run))  # its class map may have changed, which DVC does not see

    def work() -> None:
        from stages.imported import main

        main(parameters, run)

    through_dvc([f"import@{run}"], direct, work)
    if parameters.weights == "trained":
        typer.echo("params.yaml has weights: trained; to score the imported nets, set weights: published")


def _write_import(run: str, file: Path, options: dict[str, Any], class_map: Path | None) -> None:
    """Write a row of `imports` to params.yaml if its file fits. Raise UsageError if the class map is missing."""
    from pipeline.errors import UsageError
    from pipeline.experiment.params_file import with_row, write
    from pipeline.experiment.paths import PARAMS
    from pipeline.experiment.validation import parse
    from pipeline.system.atomic_files import sha256
    from stages.imported import other_outputs, read_published

    row: dict[str, Any] = {"file": str(file), **options}
    if class_map is not None:
        class_map = Path(os.path.abspath(class_map.expanduser()))
        if not class_map.is_file():
            raise UsageError(f"there is no class map {class_map}")
        row |= {"class_map": str(class_map), "class_map_sha256": sha256(class_map)}
    text = with_row("imports", run, row)
    parameters = parse(text.encode(), PARAMS)
    outputs = len(read_published(parameters, run).weights["fc3.bias"])
    if advice := other_outputs(parameters, run, outputs):
        typer.echo(advice)
    write(text)
    typer.echo(f"params.yaml: imports.{run} is now {file}")


def _convention(input: str | None) -> dict[str, Any]:
    """Return the input of a known kind of net. Raise UsageError for an unknown one."""
    from pipeline.errors import UsageError
    from pipeline.experiment.validation import nearest
    from pipeline.published.convention import CONVENTIONS

    if input is None:
        return {}
    if input not in CONVENTIONS:
        raise UsageError(f"unknown --input {input}. {nearest(input, list(CONVENTIONS))}")
    fields = CONVENTIONS[input].as_dict()
    return {**fields, "range": int(fields["range"])}


def _three_numbers(text: str | None) -> list[float] | None:
    """Return three numbers with commas between them. Raise UsageError for anything else."""
    from pipeline.errors import UsageError

    if text is None:
        return None
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not three numbers separated by commas, such as 103.939,116.779,123.68") from None
    return [first, second, third]


def _check_options(channels: str | None, range: int | None, std: list[float] | None) -> None:
    """Raise UsageError for an invalid value, with the name of its option."""
    from pipeline.errors import UsageError

    if channels not in (None, "RGB", "BGR"):
        raise UsageError(f"--channels must be RGB or BGR, not {channels}")
    if range not in (None, 1, 255):
        raise UsageError(f"--range must be 1 or 255, not {range}")
    if std is not None and not all(number > 0 for number in std):
        raise UsageError("--std is a divisor: its three numbers must be above 0")
