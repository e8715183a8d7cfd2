"""vgg-repro prepare: the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Direct, check_before_change, complete_profiles, params, through_dvc
from cli.prepare_sets import prepare_set
from cli.preparing import activate, check_readable, drop_test_sets, make_missing_shards

if TYPE_CHECKING:
    from pipeline.datasets.sources.base import Source

COMMAND = "vgg-repro prepare"


def _complete_source(incomplete: str) -> list[str]:
    from pipeline.datasets.sources import SOURCES

    return [source for source in SOURCES if source.startswith(incomplete)]


def _complete_set(incomplete: str) -> list[str]:
    from pipeline.experiment.other_sets import PROTOCOLS
    from pipeline.experiment.server_sets import ILSVRC_TEST

    return [source for source in (*PROTOCOLS, ILSVRC_TEST) if source.startswith(incomplete)]


def prepare(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Another data set (Tables 11 and 12; ilsvrc-test for the server), written to params.yaml; without it, "
            "the profile's images.",
            autocompletion=_complete_set,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="mini, evening, imagenette, paper, published; written to params.yaml.",
            autocompletion=complete_profiles,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="characters, digits, imagefolder, imagenette or ilsvrc2012; written to params.yaml.",
            autocompletion=_complete_source,
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(help="Folder with train/CLASS/, or with a data set's archives; written to params.yaml."),
    ] = None,
    follow_links: Annotated[
        bool | None,
        typer.Option(
            "--follow-links/--no-follow-links",
            help="Read what links out of the folder lead to; written to params.yaml. Off by default, because such a "
            "link may lead to any file, and what it leads to may change or be missing on another machine.",
        ),
    ] = None,
    direct: Direct = False,
) -> None:
    """Decode and rescale the source's images into shards, and measure their mean RGB and colours.

    Example: vgg-repro prepare --source imagefolder --path ~/photographs

    Example: vgg-repro prepare --profile paper --path /data/ilsvrc2012

    Example: vgg-repro prepare voc2007 --path /data/voc --profile published

    Example: vgg-repro prepare ilsvrc-test --path /data/ilsvrc2012
    """
    if name is not None:
        prepare_set(name, profile, (source, follow_links), path, direct)
        return
    from pipeline.experiment.params_file import locate
    from pipeline.experiment.paths import CLASSIFICATION

    if not direct:
        check_before_change()
    if not all(option is None for option in (profile, source, path, follow_links)):
        _write(profile, source, path, follow_links)
    drop_test_sets()
    params()  # it says what is wrong with the file
    if located := locate():
        typer.echo(f"params.yaml: the claims now need {located} (`located`)")
    parameters = params()

    def work() -> None:
        from stages.prepare import main

        main(parameters)

    through_dvc(["prepare"], direct, work)
    if not direct:
        make_missing_shards(parameters, CLASSIFICATION, "prepare")
        then = "vgg-repro plan, vgg-repro run" if parameters.active.train else "vgg-repro weights import RUN FILE"
        typer.echo(f"Next: vgg-repro data, {then}")


def _write(profile: str | None, source: str | None, path: Path | None, follow_links: bool | None = None) -> None:
    """Write a profile, its source and its folder to params.yaml, and print them. Raise UsageError if one is wrong."""
    from pipeline.datasets.sources import open_source, source_class
    from pipeline.errors import UsageError
    from pipeline.experiment.params_file import set_values
    from pipeline.experiment.targets import check_profile

    parameters = params(extra=False)
    name = check_profile(parameters, profile or parameters.profile)
    if profile == parameters.profile:  # its rows of `extra`, which need no images, may be outdated
        activate(parameters, profile)
    kind = source_class(source or parameters.profiles[name].data.source)
    values: dict[str, str | bool | None] = {"source": source} if source is not None else {}
    if path is not None:
        values["path"] = str(path.expanduser())
    elif source is not None and kind.place == "usual":
        values["path"] = None  # the old path may be a folder of somebody's photographs
    if follow_links is not None:
        values["follow_links"] = follow_links
    try:
        _check(kind, values)
        old = parameters.profiles[name]
        check_readable(open_source(old.model_copy(update={"data": old.data.model_copy(update=values)})))
    except UsageError as reason:  # a command in it must not prepare the active profile instead
        named = COMMAND if name == parameters.profile else f"{COMMAND} --profile {name}"
        raise UsageError(str(reason).replace(f"{COMMAND} --", f"{named} --")) from None
    if set_values(values, ("profiles", name, "data")):
        changes = ", ".join(f"{key}: {_as_yaml(value)}" for key, value in values.items())
        typer.echo(f"params.yaml: profile {name} now has {changes}")
    if profile is not None and profile != parameters.profile:
        activate(parameters, profile)


def _as_yaml(value: str | bool | None) -> str:
    """Return a value as it is written in params.yaml."""
    return str(value).lower() if isinstance(value, bool) else value or "null"


def _check(kind: type[Source], values: Mapping[str, str | bool | None]) -> None:
    """Raise UsageError if the source reads no folder and `values` name one."""
    from pipeline.datasets.sources.base import prepare_command
    from pipeline.errors import UsageError

    if (path := values.get("path")) and kind.place == "none":
        command = prepare_command("imagefolder", Path(str(path)))
        raise UsageError(f"source {kind.name} does not read a folder; to read this one: {command}")
