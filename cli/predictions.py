"""vgg-repro predictions: a file for ILSVRC's evaluation server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import params


def predictions(
    task: Annotated[
        Literal["classification", "localisation"], typer.Argument(metavar="TASK", help="classification, localisation.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; an existing file is replaced.")],
) -> None:
    """Write the best system's guesses of the validation images in the format of ILSVRC's evaluation server.

    Example: vgg-repro predictions localisation predictions.txt
    """
    from pipeline.results.predictions import write_predictions

    written = write_predictions(params(), task, file)
    typer.echo(
        f"{file}: {written.images:,} validation images in the order of their names, {written.guesses} guesses each, "
        f"read back. Their error here: {written.error:.1f} %"
    )
