"""vgg-repro predictions: files for the evaluation servers of ILSVRC and of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.common import Direct, params, through_dvc

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.results.predictions import Written

Task = Literal["classification", "localisation"]
ServerSet = Literal["voc2012", "actions"]


def predictions(
    task: Annotated[
        Literal["classification", "localisation", "voc2012", "actions"],
        typer.Argument(metavar="TASK", help="classification, localisation; of VOC's server voc2012, actions."),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write; for VOC, a folder. Existing files are replaced.")
    ],
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Of the test images: of ILSVRC (vgg-repro prepare ilsvrc-test), which are scored first; of VOC, from "
            "VOC2012test.tar.",
        ),
    ] = False,
    direct: Direct = False,
) -> None:
    """Write the best system's guesses of the validation images in the format of ILSVRC's or VOC's evaluation server.

    Example: vgg-repro predictions localisation predictions.txt

    Example: vgg-repro predictions classification predictions.txt --test

    Example: vgg-repro predictions voc2012 results --test
    """
    if task == "voc2012" or task == "actions":
        _of_voc(task, file, test)
        return
    from pipeline.results.predictions import write_predictions

    parameters = params()
    if test:
        typer.echo(_text(file, _of_test_images(parameters, task, file, direct)))
        return
    written = write_predictions(parameters, task, file)
    typer.echo(
        f"{file}: {written.images:,} validation images in the order of their names, {written.guesses} guesses each, "
        f"read back. Their error here: {written.error:.1f} %"
    )


def _of_test_images(parameters: Params, task: Task, file: Path, direct: bool) -> Written:
    """Score the test images as far as that is not done, and write the file."""
    from pipeline.experiment.paths import DataSet
    from pipeline.experiment.server_sets import ILSVRC_TEST, box_scores, class_scores
    from pipeline.results.predictions import write_predictions

    _check(parameters, task)
    scores = class_scores(ILSVRC_TEST)
    more = [] if task == "classification" else box_scores(ILSVRC_TEST)

    def work() -> None:
        from stages.server_scores import score_missing

        score_missing(parameters, [*scores, *more])

    stages = [score.stage for score in (*scores, *more)]
    through_dvc([*stages, *["threshold"] * bool(more)], direct, work)
    return write_predictions(parameters, task, file, DataSet(ILSVRC_TEST))


def _check(parameters: Params, task: Task) -> None:
    """Raise UsageError or Failure now if no file could be written after the images were scored."""
    from pipeline.errors import UsageError
    from pipeline.experiment.paths import CLASSIFICATION
    from pipeline.experiment.server_sets import ILSVRC_TEST, class_scores
    from pipeline.experiment.targets import check_imported
    from pipeline.results.predictions import server_numbers

    if ILSVRC_TEST not in parameters.test_sets:
        raise UsageError(f"no test images are prepared: vgg-repro prepare {ILSVRC_TEST} --path FOLDER")
    if task == "localisation" and not parameters.localises:
        raise UsageError(
            f"boxes need localisers, which are trained here: profile {parameters.profile} with weights: "
            f"{parameters.weights} has none"
        )
    if parameters.weights == "published":
        for score in class_scores(ILSVRC_TEST):
            check_imported(parameters, score.run)
    if CLASSIFICATION.facts(parameters.profile).exists():
        server_numbers(parameters)


def _text(file: Path, written: Written) -> str:
    from pipeline.experiment.server_sets import TEST_IMAGES

    lacking = TEST_IMAGES - written.images
    return (
        f"{file}: {written.images:,} test images in the order of their names, {written.guesses} guesses each, read "
        f"back. Their labels are known to the server alone"
        + (f". The server needs all {TEST_IMAGES:,}: {lacking:,} are missing" if lacking else "")
    )


def _of_voc(name: ServerSet, folder: Path, test: bool) -> None:
    from pipeline.results.server_files import write_server_files

    written = write_server_files(params(), name, folder, test)
    files = f"{written.folder}: {written.classes} files of {written.examples:,} examples of {written.subset}, read back"
    if written.value is None:
        lacking = f". Of the published test images {written.lacking:,} are missing" if written.lacking else ""
        typer.echo(f"{files}. Their labels are known to the server alone{lacking}")
        return
    typer.echo(
        f"{files}. Their mean AP here: {written.value:.1f} %. VOC's development kit evaluates {written.subset}. "
        "The server evaluates test alone: --test writes its files"
    )
