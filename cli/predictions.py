"""vgg-repro predictions: files for the evaluation servers of ILSVRC and of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import params


def predictions(
    task: Annotated[
        Literal["classification", "localisation", "voc2012", "actions"],
        typer.Argument(metavar="TASK", help="classification, localisation; of VOC's server voc2012, actions."),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write; for VOC, a folder. Existing files are replaced.")
    ],
) -> None:
    """Write the best system's guesses of the validation images in the format of ILSVRC's or VOC's evaluation server.

    Example: vgg-repro predictions localisation predictions.txt

    Example: vgg-repro predictions voc2012 results
    """
    if task == "voc2012" or task == "actions":
        _of_voc(task, file)
        return
    from pipeline.results.predictions import write_predictions

    written = write_predictions(params(), task, file)
    typer.echo(
        f"{file}: {written.images:,} validation images in the order of their names, {written.guesses} guesses each, "
        f"read back. Their error here: {written.error:.1f} %"
    )


def _of_voc(name: str, folder: Path) -> None:
    from pipeline.results.server_files import write_server_files

    written = write_server_files(params(), name, folder)
    typer.echo(
        f"{written.folder}: {written.classes} files of {written.examples:,} examples of {written.subset}, read back. "
        f"Their mean AP here: {written.value:.1f} %. The server evaluates test, whose images are not read here; "
        f"VOC's development kit evaluates {written.subset}"
    )
