"""`vgg-repro prepare NAME`: the data sets besides the profile's, after their rows were written to params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.common import check_before_change, params, through_dvc
from cli.preparing import activate, check_readable, drop_test_sets, make_missing_shards

if TYPE_CHECKING:
    from pipeline.experiment.params import Params


def prepare_set(name: str, profile: str | None, others: tuple[object, ...], path: Path | None, direct: bool) -> None:
    """Prepare the data set `name`, after its row, and `profile` if given, was written to params.yaml.

    The images of the profile itself are not needed. Raise UsageError if something does not fit.
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.server_sets import ILSVRC_TEST

    unlabelled = name == ILSVRC_TEST
    taken = "--path and --direct" if unlabelled else "--path, --profile and --direct"
    if any(option is not None for option in others) or (unlabelled and profile is not None):
        raise UsageError(f"of the options, vgg-repro prepare {name} takes only {taken}")
    if not direct:
        check_before_change()
    if unlabelled:
        _prepare_test_images(name, path, direct)
    else:
        _prepare_labelled(name, profile, path, direct)


def _prepare_labelled(name: str, profile: str | None, path: Path | None, direct: bool) -> None:
    """Prepare a data set of Table 11 or 12."""
    from pipeline.experiment.other_sets import DESCRIBED, shown_stage
    from pipeline.experiment.paths import claims

    _write_set(name, path, profile)
    parameters = params()

    def work() -> None:
        from stages.other_set import main

        main(parameters, name)

    _through(parameters, name, f"dataset@{name}", direct, work)
    if not direct:
        lacking = [run for run in DESCRIBED if parameters.weights == "published" and run not in parameters.imports]
        imports = "".join(f"vgg-repro weights import {run} FILE, " for run in lacking)
        has_claims = " claims" * claims(parameters.profile).exists()
        repro = f"dvc repro {parameters.datasets[name].table} {shown_stage(name)}{has_claims}"
        typer.echo(f"Next: {imports}{repro}, vgg-repro report --out reports/")


def _prepare_test_images(name: str, path: Path | None, direct: bool) -> None:
    """Prepare images whose labels only a server knows."""
    from pipeline.experiment.server_sets import set_stages

    _write_test_set(name, path)
    parameters = params()

    def work() -> None:
        from stages.server_set import main

        main(parameters, name)

    _, stage = set_stages(name)
    _through(parameters, name, stage, direct, work)
    typer.echo("Next: vgg-repro predictions classification FILE --test")


def _through(parameters: Params, name: str, stage: str, direct: bool, work: Callable[[], None]) -> None:
    """Have DVC prepare a data set, or do it here if `direct` is set."""
    from pipeline.experiment.paths import DataSet

    through_dvc([stage], direct, work)
    if not direct:
        make_missing_shards(parameters.for_set(name), DataSet(name), stage)


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
    check_readable(READERS[source].of(future.for_set(name).active))
    if profile is not None:
        activate(parameters, profile)
        drop_test_sets()
    if row != old:
        write(with_row("datasets", name, row.model_dump(mode="json")))
        typer.echo(f"params.yaml: data set {name}, shown in Table {row.table.removeprefix('table')}")


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
    check_readable(UNLABELLED[name].of(future.for_set(name).active))
    if row != old:
        write(with_row("test_sets", name, row.model_dump(mode="json")))
        typer.echo(f"params.yaml: test images of ILSVRC-2012 in {row.path}, for vgg-repro predictions --test")
