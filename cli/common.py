"""Code that the commands share: parameters, options with completion, and the handover to DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.experiment.params import Params

QUIET = "VGG_REPRO_QUIET"  # set if the command that starts DVC shows the table itself


def params() -> Params:
    """Return the parameters of params.yaml after checking them."""
    from pipeline.datasets.sources import check_source
    from pipeline.experiment.validation import load

    loaded = load()
    check_source(loaded)
    return loaded


def complete_runs(incomplete: str) -> list[str]:
    """Return the runs whose names begin with `incomplete`."""
    import yaml

    try:
        runs = yaml.safe_load(Path("params.yaml").read_text())["runs"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return []
    return [name for name in runs if name.startswith(incomplete)]


Run = Annotated[str, typer.Argument(help="A run of params.yaml, such as D-384.", autocompletion=complete_runs)]
Direct = Annotated[bool, typer.Option("--direct", help="Do the work here and now, without DVC and its cache.")]


def through_dvc(stage: str, direct: bool, work: Callable[[], None]) -> None:
    """Do `work` if `direct` is set or under torchrun; else have DVC bring `stage`, and all it needs, up to date."""
    if direct or under_torchrun():
        work()
    else:
        repro(stage)


def under_torchrun() -> bool:
    """Return whether torch's launcher has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def repro(*words: str, quiet: bool = False) -> None:
    """Run `dvc repro` with `words`. Raise typer.Exit with 1 if it fails, and with 130 if it was interrupted."""
    from pipeline.errors import Interrupted
    from pipeline.system.process_lifetime import end_with_parent, handled

    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    if quiet:
        environment[QUIET] = "1"
    command = [sys.executable, "-m", "dvc", "repro", *words]
    child = subprocess.Popen(command, env=environment, preexec_fn=lambda: end_with_parent(signal.SIGTERM))
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        """Record the signal. Ctrl-C has reached the stage too, which saves its work; SIGTERM is passed on."""
        received.append(number)
        if number == signal.SIGTERM:
            child.terminate()

    with handled(ask, signal.SIGINT, signal.SIGTERM):
        code = child.wait()
    if received:
        raise typer.Exit(Interrupted.code)
    if code:
        raise typer.Exit(1)
