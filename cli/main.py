"""The program `vgg-repro`: its commands, and one readable message for each failure."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import (
    bundle,
    claims,
    clean,
    compare,
    data,
    doctor,
    explain,
    features,
    plan,
    predictions,
    prepare,
    report,
    run,
    score,
    stage,
    status,
    table,
    train,
    weights,
)
from pipeline.errors import Failure
from pipeline.system.error_log import unexpected

MAKE, LOOK, CARE = "Make", "Look", "Care"  # groups of commands


class Groups(TyperGroup):
    """The program's commands, in groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each group under its name."""
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx) if not self.commands[name].hidden]
        for group in (MAKE, LOOK, CARE):
            with formatter.section(group):
                formatter.write_dl([
                    (name, command.get_short_help_str(60))
                    for name, command in shown
                    if getattr(command, "rich_help_panel", None) == group
                ])  # fmt: skip


app = typer.Typer(
    name="vgg-repro",
    cls=Groups,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Reproduce Simonyan & Zisserman (2015), Very Deep Convolutional Networks, table by table.",
    epilog="First: vgg-repro run (everything, in minutes), then vgg-repro report.",
)


SILENT = ("doctor", "stage", "help")  # the first says it all; DVC, which runs the second, works; the third is help


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"vgg-repro {version('vgg-repro')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options that come before every command; main reads --debug itself."""
    if context.invoked_subcommand not in SILENT and not {"-h", "--help"} & set(sys.argv):
        context.call_on_close(_remark)


def _remark() -> None:
    """Say as the last thing what keeps git and DVC from working in this folder, unless the command failed for it."""
    from pipeline.system.checkout import BrokenCheckout, problem

    if not isinstance(sys.exception(), BrokenCheckout) and (found := problem()) is not None:
        print(f"vgg-repro: {found}", file=sys.stderr)


COMMANDS = (
    (MAKE, "prepare", prepare.prepare, "Prepare the images"),
    (MAKE, "train", train.train, "Train networks"),
    (MAKE, "score", score.score, "Evaluate networks"),
    (MAKE, "table", table.table, "Compute tables and show them"),
    (MAKE, "features", features.features, "Describe the images of any folder by a network"),
    (MAKE, "run", run.run, "Run everything, several stages at a time"),
    (LOOK, "status", status.status, "Show what is trained, scored and in tables"),
    (LOOK, "claims", claims.claims, "Show which of the paper's claims hold"),
    (LOOK, "explain", explain.explain, "Show what one number is made from"),
    (LOOK, "plan", plan.plan, "Show what would run, and its cost"),
    (LOOK, "data", data.data, "Show the prepared images"),
    (LOOK, "report", report.report, "Write the report"),
    (LOOK, "predictions", predictions.predictions, "Write files for ILSVRC's or VOC's server"),
    (LOOK, "compare", compare.compare, "Compare two reproductions"),
    (LOOK, "bundle", bundle.bundle, "Pack results into one file"),
    (CARE, "doctor", doctor.doctor, "Check this machine"),
    (CARE, "clean", clean.clean, "List or remove unused files"),
)
for group, name, command, words in COMMANDS:
    app.command(name, rich_help_panel=group, short_help=words)(command)
app.add_typer(weights.app, name="weights", rich_help_panel=CARE, short_help="Import, check and export weights")
app.add_typer(stage.app, name="stage", hidden=True)


@app.command("help", hidden=True)
def help_(context: typer.Context) -> None:
    """Show the help of the program."""
    assert context.parent is not None
    typer.echo(context.parent.get_help())


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
