"""What the preparations of all data sets share: a look at their files, the active profile, and lost shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.common import repro

if TYPE_CHECKING:
    from pipeline.datasets.sources.base import Source
    from pipeline.experiment.params import Params
    from pipeline.experiment.paths import DataSet


def check_readable(source: Source) -> None:
    """Raise UsageError if the files of a source are missing, damaged or others: params.yaml then stays as it is."""
    from pipeline.datasets.readers.base import Reader
    from pipeline.errors import Failure, UsageError

    if source.downloads:
        return
    try:
        lacking = source.missing()
        if not lacking and source.place == "given":  # archives of ILSVRC take minutes to list
            source.listing()
            if isinstance(source, Reader):
                source.annotations()
    except Failure as reason:
        lacking = str(reason)
    if lacking:
        raise UsageError(f"{lacking}\nparams.yaml is unchanged")


def activate(parameters: Params, profile: str) -> None:
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


def drop_test_sets() -> None:
    """Remove the rows of `test_sets` that the active profile cannot have, and print them."""
    from pipeline.experiment.params_file import fit_test_sets

    if removed := fit_test_sets():
        typer.echo(f"params.yaml: {', '.join(removed)} removed from test_sets, because it has other classes")


def make_missing_shards(parameters: Params, data_set: DataSet, stage: str) -> None:
    """Prepare again if DVC thinks that all is done, but the shards are missing or recorded for another request.

    DVC does not track the shards, which may be on another machine. A new version of this program may record a request
    in another way; then the shards are found, and only their record is written.
    """
    from pipeline.datasets.dataset_key import is_asked_for
    from pipeline.datasets.prepare import is_whole

    if not is_whole(data_set.shards) or not is_asked_for(parameters, data_set):
        repro("--force", "--single-item", stage)
