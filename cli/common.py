"""Code that the commands share: parameters, options with completion, and the handover to DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.system.progress import QUIET

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.results.bundle_file import Bundle
    from reports.page import Block

BUSY = "DVC is at work in this folder ({}): wait until it is done"
CACHE = Path(".dvc/cache/files")  # DVC's usual cache, once there is anything in it


def params(extra: bool = True) -> Params:
    """Return the parameters of params.yaml after checking them; without `extra`, those rows may be outdated."""
    from pipeline.datasets.sources import check_source
    from pipeline.experiment.validation import load

    loaded = load(extra=extra)
    check_source(loaded)
    return loaded


FromBundle = Annotated[Path | None, typer.Option("--from", help="Show the results in this bundle, anywhere.")]


@contextmanager
def in_bundle(file: Path | None) -> Iterator[Bundle | None]:
    """Work in the unpacked bundle `file`, or here if there is none. Raise Failure as `opened_bundle` does.

    Relative paths mean files of the bundle meanwhile.
    """
    from pipeline.results.bundle_file import opened_bundle

    if file is None:
        yield None
        return
    with opened_bundle(file) as bundle, chdir(bundle.root):
        yield bundle


def params_in(bundle: Bundle | None) -> Params:
    """Return the parameters of the bundle, or of the clone if there is none. An error says whose they are."""
    from pipeline.errors import UsageError

    try:
        return params()
    except UsageError as reason:
        if bundle is None:
            raise
        raise UsageError(f"in the bundle: {reason}\nAnother version of vgg-repro may have made it") from None


def profile_in(bundle: Bundle | None, asked: str | None, parameters: Params) -> str:
    """Return the profile to show: that of the bundle, or `asked`, or else the active one.

    Raise UsageError if the bundle has another one than `asked`.
    """
    from pipeline.errors import UsageError

    if bundle and asked not in (None, bundle.profile):
        raise UsageError(f"the bundle has the results of profile {bundle.profile}, not of {asked}; omit --profile")
    return bundle.profile if bundle else asked or parameters.profile


def complete_runs(incomplete: str) -> list[str]:
    """Return the runs whose names begin with `incomplete`."""
    from pipeline.system.yaml_text import parse_yaml

    try:
        values = parse_yaml(Path("params.yaml").read_text())
        runs = [*values["runs"], *values["extra"]["runs"], *values["localisers"]]
    except (OSError, KeyError, TypeError, ValueError):
        return []
    return [name for name in runs if name.startswith(incomplete)]


def complete_profiles(incomplete: str) -> list[str]:
    """Return the profiles whose names begin with `incomplete`."""
    return [profile for profile in params().profiles if profile.startswith(incomplete)]


def complete_targets(incomplete: str) -> list[str]:
    """Return the tables, runs and stages whose names begin with `incomplete`."""
    from pipeline.errors import Failure
    from pipeline.experiment.targets import stages
    from pipeline.experiment.validation import load

    try:
        parameters = load()
    except Failure:
        return []
    return [name for name in (*stages(parameters), *parameters.all_trained) if name.startswith(incomplete)]


Runs = Annotated[list[str], typer.Argument(help="Runs of params.yaml, such as D-384.", autocompletion=complete_runs)]
Run = Annotated[str, typer.Argument(help="A run of params.yaml, such as D-384.", autocompletion=complete_runs)]
Direct = Annotated[bool, typer.Option("--direct", help="Do the work directly, without DVC and its cache.")]


def through_dvc(stages: Sequence[str], direct: bool, work: Callable[[], None]) -> None:
    """Do `work` if `direct` is set or under torchrun; else have DVC bring `stages`, and all they need, up to date."""
    from pipeline.cluster.settings import chosen

    parameters, here = params(), direct or under_torchrun()
    if here or not chosen():
        check_devices(parameters)
    if here:
        work()
        if Path(".dvc").exists() and os.environ.get("RANK", "0") == "0":
            typer.echo(f"DVC does not know of this result yet. To record it: dvc commit {' '.join(stages)}")
    else:
        repro(*stages)


def check_before_change() -> None:
    """Raise Failure if git and DVC cannot work in this folder, or if a DVC is at work that reads what is changed."""
    from pipeline.errors import Failure
    from pipeline.orchestration.dvc_graph import at_work
    from pipeline.system.checkout import check

    check()
    if worker := at_work():
        raise Failure(f"{BUSY.format(worker)}. params.yaml is unchanged")


def check_devices(parameters: Params) -> None:
    """Raise Failure if full-size nets would be trained or scored on the CPU only because the GPU cannot be used.

    The stages check this too, but only after the images are prepared.
    """
    from pipeline.system.devices import check_choice

    profile = parameters.active
    for settings in (profile.train, profile.score):
        if settings and profile.net.full_size:
            check_choice(settings.device, full_size=True)


def show(blocks: Iterable[Block], piped: Callable[[Iterable[Any]], str]) -> None:
    """Print blocks: drawn on a terminal, and as the writer `piped` has them into a pipe or a file."""
    from reports.terminal import draw

    if sys.stdout.isatty():
        draw(blocks)
    else:
        typer.echo(piped(blocks), nl=False)


def under_torchrun() -> bool:
    """Return whether torch's launcher has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def repro(*words: str, quiet: bool = False) -> None:
    """Run `dvc repro` with `words`. Raise typer.Exit with 1 if it fails, and with 130 if it was interrupted."""
    from pipeline.errors import Failure, Interrupted
    from pipeline.orchestration.dvc_graph import at_work, lost_from_cache
    from pipeline.system.checkout import check
    from pipeline.system.process_lifetime import OWN_DVC, end_with_parent, handled

    check()
    if not CACHE.exists() and (lost := lost_from_cache(params())):
        raise Failure(lost)
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    if quiet:
        environment[QUIET] = "1"
    command = [sys.executable, "-m", OWN_DVC, "repro", *["--quiet"] * quiet, *words]
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
    if code and (worker := at_work()):
        typer.echo(f"vgg-repro: {BUSY.format(worker)}", err=True)
    elif code and quiet:
        typer.echo(f"DVC failed; to see why: dvc repro {' '.join(words)}", err=True)
    if code:
        raise typer.Exit(1)
