"""What the commands share: parameters, options with completion, and the handover to DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.params import Params

QUIET = "VGG_REPRO_QUIET"  # set for a stage whose caller shows the result itself


def params() -> Params:
    """params.yaml, checked."""
    from pipeline.params import load

    return load()


def complete_runs(incomplete: str) -> list[str]:
    """The runs whose name begins with `incomplete`."""
    import yaml

    try:
        runs = yaml.safe_load(Path("params.yaml").read_text())["runs"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return []
    return [name for name in runs if name.startswith(incomplete)]


Run = Annotated[str, typer.Argument(help="A run of params.yaml, such as D-384.", autocompletion=complete_runs)]
Direct = Annotated[bool, typer.Option("--direct", help="Do the work here and now, without DVC and its cache.")]


def through_dvc(stage: str, direct: bool, work: Callable[[], None]) -> None:
    """Do `work` if this is DVC's stage or `direct`; else have DVC bring `stage`, and all it needs, up to date."""
    if in_stage():
        from pipeline.orphan import end_with_dvc

        end_with_dvc()
    if direct or in_stage():
        work()
    else:
        repro(stage)


def in_stage() -> bool:
    """Whether DVC runs this process as a stage's command."""
    return "DVC_STAGE" in os.environ


def repro(*words: str, quiet: bool = False) -> None:
    """Run `dvc repro` with `words`; exit with DVC's own code if it fails."""
    here = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}"}
    if quiet:
        environment[QUIET] = "1"
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro", *words], env=environment) as child:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the stage's, which keeps what it has done
        code = child.wait()
        signal.signal(signal.SIGINT, before)
    if code:
        raise typer.Exit(1)
