"""vgg-repro clean: what earlier runs have left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import params


def _complete(incomplete: str) -> list[str]:
    from pipeline.orchestration.leftovers import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def clean(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="What to remove: a listed kind or path; by default nothing.", autocompletion=_complete),
    ] = None,
) -> None:
    """List files that nothing uses now, with their sizes. Remove those that are named.

    Example: vgg-repro clean checkpoints partial
    """
    from pipeline.errors import UsageError
    from pipeline.orchestration.leftovers import KINDS, leftovers, remove
    from pipeline.system.progress import gigabytes

    named = set(what or [])
    found = leftovers(params())
    unknown = named - set(KINDS) - {str(leftover.path) for leftover in found}
    if unknown:
        raise UsageError(f"nothing is left behind at {', '.join(sorted(unknown))}. Kinds are {', '.join(KINDS)}")
    for kind, meaning in KINDS.items():
        of_kind = [leftover for leftover in found if leftover.kind == kind]
        if of_kind:
            typer.echo(f"{kind}: {meaning}")
        for leftover in of_kind:
            chosen = bool(named & {leftover.kind, str(leftover.path)})
            if chosen:
                remove(leftover)
            typer.echo(f"  {'removed ' if chosen else ''}{leftover.path} ({gigabytes(leftover.size)})")
    if not found:
        typer.echo("There is nothing to clean up.")
    elif not named:
        typer.echo("Nothing was removed. To remove a kind or a path: vgg-repro clean NAME")
