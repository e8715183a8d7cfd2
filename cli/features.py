"""vgg-repro features: descriptors of any folder's images (appendix B)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import complete_runs, params
from pipeline.experiment.other_sets import FIVE
from pipeline.experiment.run_names import is_localiser

if TYPE_CHECKING:
    from pipeline.experiment.params import Params


def complete_described(incomplete: str) -> list[str]:
    """Return the runs with class scores whose names begin with `incomplete`."""
    return [run for run in complete_runs(incomplete) if not is_localiser(run)]


def features(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images, at any depth.")],
    run: Annotated[
        str, typer.Option(help="The run whose network describes the images.", autocompletion=complete_described)
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file, ending in .npz or .parquet.")],
    scales: Annotated[str, typer.Option(help="Q, in the paper's pixels, with commas between.")] = ",".join(
        map(str, FIVE)
    ),
    aggregate: Annotated[
        Literal["average", "stack"], typer.Option(help="How the activations at all Q become one vector.")
    ] = "average",
    dtype: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="Of the vectors; default: `transfer.dtype` of the active profile.", show_default=False),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Read what links out of the folder lead to.")
    ] = False,
) -> None:
    """Write the paper's descriptor (appendix B) of each image in a folder: its path, and a vector of length 1.

    Example: vgg-repro features ~/photographs --run D-jitter --out photographs.npz
    """
    parameters = params()
    _check_run(parameters, run)
    chosen = _scales(scales)
    from stages.tools.describe import DescriptorChoice, main

    choice = DescriptorChoice(chosen, aggregate, dtype or parameters.active.transferring.dtype)
    file = out.expanduser()
    made = main(parameters, run, folder.expanduser(), file, choice, follow_links)
    skipped = f"; {made.skipped:,} skipped" if made.skipped else ""
    typer.echo(f"{file}: path ({made.images:,},), vector ({made.images:,}, {made.numbers:,}) {choice.dtype}{skipped}")


def _check_run(parameters: Params, run: str) -> None:
    """Raise UsageError if there is no such run, if it is a localiser, or if it has no published network."""
    from pipeline.experiment.targets import check_classifier, check_imported

    check_classifier(parameters, run)
    if parameters.weights == "published":
        check_imported(parameters, run)


def _scales(text: str) -> tuple[int, ...]:
    """Return the Q. Raise UsageError if they are not different whole numbers, at least the crop."""
    from pipeline.errors import UsageError
    from pipeline.experiment.params import CROP

    try:
        scales = tuple(int(word) for word in text.split(","))
    except ValueError:
        scales = ()
    if not scales or min(scales) < CROP or len(set(scales)) < len(scales):
        raise UsageError(f"--scales must be different whole numbers from {CROP} on, such as 256,384,512, not {text!r}")
    return scales
