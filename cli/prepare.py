"""vgg-repro prepare: the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import Direct, complete_profiles, params, repro, through_dvc

if TYPE_CHECKING:
    from pipeline.datasets.sources.base import Source
    from pipeline.experiment.params import Params
    from pipeline.experiment.paths import DataSet

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
    if name == "ilsvrc-test":
        _prepare_test_set(name, (profile, source, follow_links), path, direct)
        return
    if name is not None:
        _prepare_set(name, profile, (source, follow_links), path, direct)
        return
    from pipeline.experiment.params_file import fit_test_sets, locate
    from pipeline.experiment.paths import CLASSIFICATION
    from pipeline.system.checkout import check

    if not direct:
        check()  # before params.yaml is changed
    if not all(option is None for option in (profile, source, path, follow_links)):
        _write(profile, source, path, follow_links)
    if removed := fit_test_sets():
        typer.echo(f"params.yaml: {', '.join(removed)} removed from test_sets, because it has other classes")
    params()  # it says what is wrong with the file
    if located := locate():
        typer.echo(f"params.yaml: the claims now need {located} (`located`)")
    parameters = params()

    def work() -> None:
        from stages.prepare import main

        main(parameters)

    through_dvc(["prepare"], direct, work)
    if not direct:
        _make_missing_shards(parameters, CLASSIFICATION, "prepare")
        then = "vgg-repro plan, vgg-repro run" if parameters.active.train else "vgg-repro weights import RUN FILE"
        typer.echo(f"Next: vgg-repro data, {then}")


def _prepare_set(name: str, profile: str | None, others: tuple[object, ...], path: Path | None, direct: bool) -> None:
    """Prepare another data set, after its row, and `profile` if given, was written to params.yaml.

    The images of the profile itself are not needed. Raise UsageError if something does not fit.
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.other_sets import DESCRIBED
    from pipeline.experiment.paths import DataSet
    from pipeline.system.checkout import check

    if any(option is not None for option in others):
        raise UsageError(f"of the options, vgg-repro prepare {name} takes only --path, --profile and --direct")
    if not direct:
        check()  # before params.yaml is changed
    _write_set(name, path, profile)
    parameters = params()

    def work() -> None:
        from stages.other_set import main

        main(parameters, name)

    through_dvc([f"dataset@{name}"], direct, work)
    if not direct:
        _make_missing_shards(parameters.for_set(name), DataSet(name), f"dataset@{name}")
        lacking = [run for run in DESCRIBED if parameters.weights == "published" and run not in parameters.imports]
        imports = "".join(f"vgg-repro weights import {run} FILE, " for run in lacking)
        typer.echo(f"Next: {imports}dvc repro {parameters.datasets[name].table}")


def _prepare_test_set(name: str, others: tuple[object, ...], path: Path | None, direct: bool) -> None:
    """Prepare the test images, after their row was written to params.yaml. Raise UsageError if it does not fit."""
    from pipeline.errors import UsageError
    from pipeline.experiment.paths import DataSet
    from pipeline.experiment.server_sets import set_stages
    from pipeline.system.checkout import check

    if any(option is not None for option in others):
        raise UsageError(f"of the options, vgg-repro prepare {name} takes only --path and --direct")
    if not direct:
        check()  # before params.yaml is changed
    _write_test_set(name, path)
    parameters = params()

    def work() -> None:
        from stages.server_set import main

        main(parameters, name)

    _, stage = set_stages(name)
    through_dvc([stage], direct, work)
    if not direct:
        _make_missing_shards(parameters.for_set(name), DataSet(name), stage)
    typer.echo("Next: vgg-repro predictions classification FILE --test")


def _write_test_set(name: str, path: Path | None) -> None:
    """Write the row of the test images, by default in the folder of the profile's images, and print it.

    Raise UsageError if they are not there, or if the active profile has other classes.
    """
    from pipeline.datasets.sources import UNLABELLED
    from pipeline.datasets.sources.base import root_of
    from pipeline.errors import UsageError
    from pipeline.experiment.params import UnlabelledSet
    from pipeline.experiment.params_file import with_row, write
    from pipeline.experiment.server_sets import OF_SOURCE

    parameters = params()
    data, old = parameters.active.data, parameters.test_sets.get(name)
    if data.source != OF_SOURCE:
        raise UsageError(
            f"{name} has the classes of source {OF_SOURCE}, but profile {parameters.profile} has source {data.source}: "
            "switch to another profile first, such as with vgg-repro prepare --profile paper"
        )
    row = UnlabelledSet(path=str(path.expanduser())) if path else old or UnlabelledSet(path=str(root_of(data)))
    future = parameters.model_copy(update={"test_sets": {name: row}})
    _read_set(UNLABELLED[name].of(future.for_set(name).active))
    if row != old:
        write(with_row("test_sets", name, row.model_dump(mode="json")))
        typer.echo(f"params.yaml: test images of ILSVRC-2012 in {row.path}, for vgg-repro predictions --test")


def _write_set(name: str, path: Path | None, profile: str | None) -> None:
    """Write the row of the data set `name` and the active profile, and print them.

    Raise UsageError if the files of the data set are not there; params.yaml is then unchanged.
    """
    from pipeline.datasets.readers import READERS
    from pipeline.errors import UsageError
    from pipeline.experiment.other_sets import PROTOCOLS, set_row
    from pipeline.experiment.params_file import with_row, write
    from pipeline.experiment.server_sets import ILSVRC_TEST
    from pipeline.experiment.targets import check_profile
    from pipeline.experiment.validation import nearest

    parameters = params(extra=profile is None)
    active = check_profile(parameters, profile or parameters.profile)
    old = parameters.datasets.get(name)
    if old is None and name not in PROTOCOLS:
        raise UsageError(f"unknown data set {name}. {nearest(name, [*PROTOCOLS, ILSVRC_TEST])}")
    source = old.source if old else name
    if path is not None and PROTOCOLS[source].drawn:
        raise UsageError(f"{name} is drawn here and does not read a folder: leave out --path")
    row = old or set_row(source, None)
    row = row if path is None else row.model_copy(update={"path": str(path.expanduser())})
    future = parameters.model_copy(update={"profile": active, "datasets": {**parameters.datasets, name: row}})
    _read_set(READERS[source].of(future.for_set(name).active))
    if profile is not None:
        _activate(parameters, profile)
    if row != old:
        write(with_row("datasets", name, row.model_dump(mode="json")))
        typer.echo(f"params.yaml: data set {name}, shown in Table {row.table.removeprefix('table')}")


def _read_set(reader: Source) -> None:
    """Raise UsageError if the files of a data set are missing, damaged or others: params.yaml then stays as it is."""
    from pipeline.datasets.readers.base import Reader
    from pipeline.errors import Failure, UsageError

    try:
        lacking = reader.missing()
        if not lacking and reader.place == "given":
            reader.listing()
            if isinstance(reader, Reader):
                reader.annotations()
    except Failure as reason:
        lacking = str(reason)
    if lacking:
        raise UsageError(f"{lacking}\nparams.yaml is unchanged")


def _write(profile: str | None, source: str | None, path: Path | None, follow_links: bool | None = None) -> None:
    """Write a profile, its source and its folder to params.yaml, and print them. Raise UsageError if one is wrong."""
    from pipeline.datasets.sources import source_class
    from pipeline.errors import UsageError
    from pipeline.experiment.params_file import set_values
    from pipeline.experiment.targets import check_profile

    parameters = params(extra=False)
    name = check_profile(parameters, profile or parameters.profile)
    if profile == parameters.profile:  # its rows of `extra`, which need no images, may be outdated
        _activate(parameters, profile)
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
        _look(parameters, name, values)
    except UsageError as reason:  # a command in it must not prepare the active profile instead
        named = COMMAND if name == parameters.profile else f"{COMMAND} --profile {name}"
        raise UsageError(str(reason).replace(f"{COMMAND} --", f"{named} --")) from None
    if set_values(values, ("profiles", name, "data")):
        changes = ", ".join(f"{key}: {_as_yaml(value)}" for key, value in values.items())
        typer.echo(f"params.yaml: profile {name} now has {changes}")
    if profile is not None and profile != parameters.profile:
        _activate(parameters, profile)


def _as_yaml(value: str | bool | None) -> str:
    """Return a value as it is written in params.yaml."""
    return str(value).lower() if isinstance(value, bool) else value or "null"


def _look(parameters: Params, name: str, values: Mapping[str, str | bool | None]) -> None:
    """Raise UsageError if the images of profile `name` are not there: params.yaml then stays as it is."""
    from pipeline.datasets.sources import open_source
    from pipeline.errors import Failure, UsageError

    old = parameters.profiles[name]
    source = open_source(old.model_copy(update={"data": old.data.model_copy(update=dict(values))}))
    if source.downloads:
        return
    try:
        lacking = source.missing()
        if not lacking and source.place == "given":  # somebody's own folder; archives take minutes to list
            source.listing()
    except Failure as reason:
        lacking = str(reason)
    if lacking:
        raise UsageError(f"{lacking}\nparams.yaml is unchanged")


def _activate(parameters: Params, profile: str) -> None:
    """Write the active profile to params.yaml, whether it scores trained or published nets, and the runs that it adds.

    Print what has changed.
    """
    from pipeline.experiment.params_file import activate

    weights = "trained" if parameters.profiles[profile].train else "published"
    extra = activate(profile, weights)
    if parameters.profile != profile:
        typer.echo(f"params.yaml: active profile: {profile}")
    if parameters.weights != weights:
        typer.echo(f"params.yaml: {weights} weights are now scored")
    if parameters.extra != extra:
        typer.echo(f"params.yaml: runs that profile {profile} adds: {len(extra.runs)} (`extra`)")


def _check(kind: type[Source], values: Mapping[str, str | bool | None]) -> None:
    """Raise UsageError if the source reads no folder and `values` name one."""
    from pipeline.datasets.sources.base import prepare_command
    from pipeline.errors import UsageError

    if (path := values.get("path")) and kind.place == "none":
        command = prepare_command("imagefolder", Path(str(path)))
        raise UsageError(f"source {kind.name} does not read a folder; to read this one: {command}")


def _make_missing_shards(parameters: Params, data_set: DataSet, stage: str) -> None:
    """Prepare again if DVC thinks that all is done, but the shards are missing or recorded for another request.

    DVC does not track the shards, which may be on another machine. A new version of this program may record a request
    in another way; then the shards are found, and only their record is written.
    """
    from pipeline.datasets.dataset_key import is_asked_for
    from pipeline.datasets.prepare import is_whole

    if not is_whole(data_set.shards) or not is_asked_for(parameters, data_set):
        repro("--force", "--single-item", stage)
