"""The program `vgg-repro`: its commands, and one readable message for each failure."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from cli import data, doctor, plan, prepare, report, run, score, stage, status, table, train, weights
from pipeline.errors import Failure
from pipeline.system.error_log import unexpected

app = typer.Typer(
    name="vgg-repro",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Reproduce Simonyan & Zisserman (2015), Very Deep Convolutional Networks, table by table.",
    epilog="Begin with: vgg-repro prepare; dvc repro table4; vgg-repro report --out reports/",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"vgg-repro {version('vgg-repro')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options that stand before every command; main reads --debug itself."""


app.command("prepare")(prepare.prepare)
app.command("data")(data.data)
app.add_typer(weights.app, name="weights")
app.command("train")(train.train)
app.command("score")(score.score)
app.command("table")(table.table)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("report")(report.report)
app.add_typer(stage.app, name="stage", hidden=True)


def main() -> None:
    """Run the command line. Exit with 0 when done, 1 for a failure, 2 for wrong usage, 130 when interrupted."""
    try:
        app()
    except Failure as failure:
        _end(failure, str(failure), failure.code)
    except BrokenPipeError:  # for example by `| head`; Python's own flush at exit would fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _end(error, unexpected(error), 1)


def _end(error: Exception, message: str, code: int) -> None:
    if "--debug" in sys.argv:
        raise error
    with suppress(OSError):  # the terminal is closed
        print(f"vgg-repro: {message}", file=sys.stderr)
    sys.exit(code)
