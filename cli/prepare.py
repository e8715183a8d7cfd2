"""vgg-repro prepare: the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Direct, in_stage, params, repro, through_dvc


def _complete(incomplete: str) -> list[str]:
    from pipeline.params import SOURCES

    return [source for source in SOURCES if source.startswith(incomplete)]


def prepare(
    source: Annotated[
        str | None,
        typer.Option(
            help="digits, imagefolder, cifar10 or imagenette; written to params.yaml.", autocompletion=_complete
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="The images' folder, with train/CLASS/ in it; written to params.yaml.")
    ] = None,
    direct: Direct = False,
) -> None:
    """Decode and rescale the source's images into shards, and measure their mean RGB and colours.

    Example: vgg-repro prepare --source imagefolder --path ~/photographs
    """
    if source is not None or path is not None:
        _write(source, path)
    chosen = params()

    def work() -> None:
        from stages.prepare import main

        main(chosen)

    through_dvc("prepare", direct, work)
    if not (direct or in_stage()):
        _make_missing_shards()


def _write(source: str | None, path: Path | None) -> None:
    """Write the source and its path to the profile in force in params.yaml, and say so."""
    from pipeline.edit import set_values
    from pipeline.errors import UsageError
    from pipeline.params import SOURCES, nearest

    if source is not None and source not in SOURCES:
        raise UsageError(f"there is no source {source}. {nearest(source, SOURCES)}")
    profile = params().profile
    reads = source or params().chosen.data.source
    values: dict[str, str | None] = {"source": source} if source is not None else {}
    if path is not None:
        if reads == "digits":
            raise UsageError("the digits are drawn and read no folder: add --source imagefolder")
        if reads == "imagefolder" and not (path.expanduser() / "train").is_dir():
            raise UsageError(f"there is no folder {path / 'train'}: images lie in train/CLASS/ and val/CLASS/")
        values["path"] = str(path.expanduser())
    elif source in ("cifar10", "imagenette"):
        values["path"] = None  # and not into the folder of somebody's photographs
    if set_values(values, ("profiles", profile, "data")):
        said = ", ".join(f"{key}: {value or 'null'}" for key, value in values.items())
        typer.echo(f"params.yaml: profile {profile} has {said} now")


def _make_missing_shards() -> None:
    """Make the shards again where DVC, which does not track them, thinks all is done: on another machine, say."""
    from pipeline.paths import shards
    from pipeline.prepare import is_whole

    if not is_whole(shards()):
        repro("--force", "--single-item", "prepare")
