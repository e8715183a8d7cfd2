"""vgg-repro stage: the commands that dvc.yaml calls. Each does one stage's work and ends when its DVC ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.common import params
from pipeline.system.progress import QUIET

if TYPE_CHECKING:
    from pipeline.cluster.settings import Kind
    from pipeline.experiment.params import Params
    from pipeline.experiment.stage_inputs import StageInputs
    from pipeline.orchestration.stage_facts import StageFacts
    from reports.page import Page

DVCS_STAGE = "DVC_STAGE"  # the variable in which DVC names the stage that it runs
app = typer.Typer(no_args_is_help=True, help="Run one DVC stage's work (called by dvc.yaml).", rich_markup_mode=None)


@app.callback()
def stage(context: typer.Context) -> None:
    """Run one DVC stage's work (called by dvc.yaml). Fail at its end if its inputs have changed meanwhile."""
    from pipeline.system.process_lifetime import end_with_dvc

    end_with_dvc()
    _inputs.cache_clear()
    _inputs()  # as they are before the stage reads them
    context.call_on_close(_check)


def _check() -> None:
    """Raise Failure if the stage has ended well and its inputs have changed, so that DVC does not record its result."""
    if sys.exception() is None and (inputs := _inputs()):
        inputs.check()


@cache
def _inputs() -> StageInputs | None:
    """Return the inputs of the stage as they were at its start; None if no DVC runs it."""
    from pipeline.experiment.stage_inputs import inputs_now

    name = os.environ.get(DVCS_STAGE)
    return inputs_now(name) if name else None


@app.command("fingerprint")
def fingerprint() -> None:
    """Write the current fingerprint of the image source."""
    from stages.fingerprint import main

    main(params())


@app.command("prepare")
def prepare() -> None:
    """Make the shards, the manifest and the facts."""
    from pipeline.orchestration.stage_facts import prepare_facts

    def work(parameters: Params) -> None:
        from stages.prepare import main

        main(parameters)

    _here_or_in_job("prepare", ("prepare",), prepare_facts, work)


@app.command("random")
def random(net: str) -> None:
    """Draw a network's random weights."""
    from stages.random import main

    main(params(), net)


@app.command("train")
def train(run: str) -> None:
    """Train a run from its initial weights, or from its checkpoint."""
    from pipeline.orchestration.stage_facts import train_facts

    def work(parameters: Params) -> None:
        from stages.train import main

        main(parameters, run)

    _here_or_in_job("train", ("train", run), lambda parameters: train_facts(parameters, run), work)


@app.command("import")
def import_(run: str) -> None:
    """Import a published network as the weights of a run."""
    from stages.imported import main

    main(params(), run)


@app.command("score")
def score(mode: str, run: str) -> None:
    """Score a run in one mode."""

    def work(parameters: Params) -> None:
        from stages.score import main

        main(parameters, run, mode)

    _score(run, mode, ("score", mode, run), work)


@app.command("truth")
def truth() -> None:
    """Count the boxes of the images."""
    from stages.truth import main

    main(params())


@app.command("boxes")
def boxes(localiser: str) -> None:
    """Predict the true class's box of each image at its central crop."""
    from pipeline.experiment.modes import CENTRE_BOXES

    def work(parameters: Params) -> None:
        from stages.centre_boxes import main

        main(parameters, localiser)

    _score(localiser, CENTRE_BOXES, ("boxes", localiser), work)


@app.command("windows")
def windows(localiser: str) -> None:
    """Apply a localiser densely, and keep the boxes of all windows and their class scores."""
    from pipeline.experiment.modes import WINDOWS

    def work(parameters: Params) -> None:
        from stages.windows import main

        main(parameters, localiser)

    _score(localiser, WINDOWS, ("windows", localiser), work)


@app.command("threshold")
def threshold() -> None:
    """Choose on training images how close boxes are merged."""
    from stages.threshold import main

    main(params())


@app.command("sets")
def sets() -> None:
    """List the other data sets of Tables 11 and 12, and remove the scores of others."""
    from stages.other_sets import main

    main(params())


@app.command("source")
def source(name: str) -> None:
    """Write the current fingerprint of another data set."""
    from pipeline.experiment.paths import DataSet
    from stages.fingerprint import main

    main(params().for_set(name), DataSet(name))


@app.command("dataset")
def dataset(name: str) -> None:
    """Make the shards, the manifest and the examples of another data set."""
    from stages.other_set import main

    main(params(), name)


@app.command("test-set")
def test_set(name: str) -> None:
    """Make the shards and the manifest of a data set without labels."""
    from stages.server_set import main

    main(params(), name)


@app.command("test-score")
def test_score(name: str, mode: str, run: str) -> None:
    """Score a run, or apply a localiser densely, on a data set without labels."""
    from pipeline.experiment.paths import DataSet
    from pipeline.experiment.server_sets import ServerScore
    from pipeline.orchestration.stage_facts import score_facts

    def work(parameters: Params) -> None:
        from stages.server_scores import main

        main(parameters, ServerScore(name, run, mode))

    words = ("test-score", name, mode, run)
    _here_or_in_job("score", words, lambda parameters: score_facts(parameters, run, mode, DataSet(name)), work)


@app.command("features")
def features(name: str, run: str) -> None:
    """Describe the images of another data set by a network's activations."""
    from pipeline.orchestration.stage_facts import features_facts

    def work(parameters: Params) -> None:
        from stages.features import main

        main(parameters, name, run)

    words = ("features", name, run)
    _here_or_in_job("score", words, lambda parameters: features_facts(parameters, name, run), work)


@app.command("svm")
def svm(name: str, system: str) -> None:
    """Train and test the SVMs of another data set."""
    from stages.svm import main

    main(params(), name, system)


@app.command("descriptors")
def descriptors(name: str) -> None:
    """Choose examples of another data set, and map its descriptors, for the page of other data sets."""
    from stages.descriptors import main

    main(params(), name)


@app.command("aggregation")
def aggregation(name: str) -> None:
    """Train and test the SVMs of another data set on the other aggregation of its descriptors."""
    from stages.aggregation import main

    main(params(), name)


@app.command("resampled")
def resampled() -> None:
    """Measure other data sets on resampled images and splits."""
    from stages.resampled import main

    main(params())


@app.command("illustrations")
def illustrations() -> None:
    """Compute what one network sees in one image, and show training crops."""
    from stages.illustrations import main

    main(params())


@app.command("localisation")
def localisation() -> None:
    """Choose images with boxes, and a merging, for the page of localisation."""
    from stages.localisation import main

    main(params())


@app.command("claims")
def claims() -> None:
    """Test the paper's claims on the tables."""
    from stages.claims import main

    main(params())


@app.command("extra")
def extra() -> None:
    """List the scores of the runs that the active profile adds to the grid, and remove those of others."""
    from stages.extra import main

    main(params())


@app.command("seeds")
def seeds() -> None:
    """Compute the mean and the standard deviation of the tables' rows over the seeds, and show them."""
    from reports.seeds_page import seeds_section
    from stages.seeds import main

    _show(seeds_section(main(params()), {}))


@app.command("table")
def table(name: str) -> None:
    """Compute a table, and show it unless the command that started DVC does so."""
    from reports.table_pages import table_section
    from stages.table import main

    _show(table_section(main(params(), name), {}))


def _score(run: str, mode: str, words: Sequence[str], work: Callable[[Params], None]) -> None:
    from pipeline.orchestration.stage_facts import score_facts

    _here_or_in_job("score", words, lambda parameters: score_facts(parameters, run, mode), work)


def _here_or_in_job(
    kind: Kind, words: Sequence[str], facts: Callable[[Params], StageFacts], work: Callable[[Params], None]
) -> None:
    """Do a stage's work here, or have a job do it if a cluster is chosen whose settings name this kind of stage.

    The job runs the same command: `vgg-repro stage` and `words`. What needs torch is imported by `work` alone, so that
    waiting takes little memory.
    """
    from pipeline.cluster.job_folder import this_job
    from pipeline.cluster.settings import chosen, settings

    parameters = params()
    inputs = _inputs()
    if this_job():
        from pipeline.cluster.inside import do_in_job

        known = facts(parameters)
        do_in_job(known.key, known.mark, known.lock, known.splits, lambda: work(parameters))
    elif chosen() and (request := (loaded := settings()).request(kind)):
        from pipeline.cluster.head import StageWork, run_as_job

        known = facts(parameters)
        command = (str(Path(sys.executable).parent / "vgg-repro"), "stage", *words)
        parts = inputs.parameters if inputs else {}
        asked = StageWork(known.stage, kind, command, known.key, known.outputs, parts)
        run_as_job(asked, request, loaded.poll, lambda: inputs.check(kept=True) if inputs else None)
    elif inputs:
        _here(inputs, parameters, facts, work)
    else:
        work(parameters)


def _here(
    inputs: StageInputs, parameters: Params, facts: Callable[[Params], StageFacts], work: Callable[[Params], None]
) -> None:
    """Do a stage's work on this machine for DVC, or take over the result that it was not allowed to record.

    Keep the result for that if only parameters have changed meanwhile.
    """
    from pipeline.cluster.job_folder import Asked, job_folder

    folder = job_folder(inputs.stage)
    if folder.keeps_any() and folder.has_kept(facts(parameters).key):
        folder.put_back()
        print("this has been done before, and only not been recorded: the results are taken over", flush=True)
        folder.wait_for_results()
        return
    work(parameters)
    if inputs.only_parameters_have_changed():
        known = facts(parameters)
        folder.begin(Asked(known.key, list(map(str, known.outputs))))
        folder.keep()
        inputs.check(kept=True)


def _show(page: Page) -> None:
    """Print a stage's result, unless the command that started DVC prints it."""
    from reports.markdown import markdown

    if QUIET not in os.environ:
        typer.echo(f"\n{markdown(page)}")
