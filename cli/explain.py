"""vgg-repro explain: the chain behind one number of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import FromBundle, complete_profiles, in_bundle, params_in, profile_in, show
from cli.table import complete_tables

if TYPE_CHECKING:
    from pipeline.experiment.params import Params


def complete_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the words of a table's labels that begin with `incomplete`."""
    from pipeline.errors import Failure
    from pipeline.experiment.paper_tables import rows
    from pipeline.experiment.targets import check_table
    from pipeline.experiment.validation import load
    from pipeline.results.row_choice import RowName, every_word

    try:
        labels = [RowName(row.label, row.runs) for row in rows(check_table(ctx.params["table"]), load())]
    except (Failure, KeyError):
        return []
    return [word for word in every_word(labels) if word.lower().startswith(incomplete.lower())]


def explain(
    table: Annotated[str, typer.Argument(help="A table: 4, table4 or shallow.", autocompletion=complete_tables)],
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Words of the row: net, S, Q, method, run, seed.", autocompletion=complete_words),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile to explain; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    bundle: FromBundle = None,
) -> None:
    """Show the chain behind one number of a table: images, runs, scores, commit, and what has changed since.

    Example: vgg-repro explain table4 D 256-512
    """
    from pipeline.experiment.paper_tables import NO_DATA
    from pipeline.experiment.targets import check_profile, check_table
    from pipeline.orchestration.dvc_graph import outdated
    from reports.explain_page import counted_page
    from reports.markdown import markdown

    name = check_table(table.lower())
    with in_bundle(bundle) as opened:
        parameters = params_in(opened)
        shown = check_profile(parameters, profile_in(opened, profile, parameters))
        active = shown == parameters.profile
        option = f" --from {bundle}" if bundle else "" if active else f" --profile {shown}"
        older = None if not active else opened.outdated if opened else outdated(parameters)
        page = counted_page(name) if name in NO_DATA else _page(parameters, shown, name, words or [], option, older)
        show(page, markdown)


def _page(
    parameters: Params, profile: str, name: str, words: list[str], option: str, older: Mapping[str, str] | None
) -> Any:
    """Return the page of the row that the words choose. Raise UsageError if they choose none or several."""
    from pipeline.experiment.paper_tables import OTHER_SETS
    from pipeline.results.explanation import Files
    from pipeline.results.explanation import explain as explained
    from pipeline.results.row_choice import choose, chosen, is_ours, row_names
    from pipeline.results.set_explanation import explain_set
    from reports.explain_page import explain_page
    from reports.phrases import table_label

    values, seeds = _computed(parameters, profile, name)
    command = f"vgg-repro explain{option} {name}"
    rows = row_names(values, seeds)
    if name in OTHER_SETS and choose(words, ours := [row for row in rows if is_ours(row)], None):
        rows = ours  # the paper's tables have other authors' numbers of the same data sets
    row = chosen(words, rows, values.get("seed"), table_label(name), command)
    if name in OTHER_SETS:
        explanation = explain_set(parameters, Files(profile), values, row, older)
    else:
        explanation = explained(parameters, Files(profile), values, seeds, row, older)
    kept = "" if all(explanation.made.values()) else _provenance_page(profile)
    return explain_page(explanation, kept)


def _computed(parameters: Params, profile: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a table's values and those over the seeds of its images. Raise Failure if there is no such table."""
    from pipeline.errors import Failure
    from pipeline.experiment.paper_tables import number_of
    from pipeline.results.tables import read_table

    values, seeds = read_table(profile, name), read_table(profile, "seeds")
    if not values:
        prepare = "" if profile == parameters.profile else f"vgg-repro prepare --profile {profile}, then "
        raise Failure(f"profile {profile} has no {name} yet; compute it: {prepare}vgg-repro table {number_of(name)}")
    if not values["rows"]:
        raise Failure(f"{name} of profile {profile} has no rows; why: vgg-repro table {number_of(name)}")
    return values, seeds if seeds and seeds["manifest"] == values.get("manifest") else {}


def _provenance_page(profile: str) -> str:
    """Return the path of the committed page of the provenance of exactly these results; empty if there is none."""
    from pipeline.experiment.paths import results
    from pipeline.results.profile_results import Results
    from reports.provenance_page import PROVENANCE, is_kept

    path = results(profile) / f"{PROVENANCE}.md"
    return str(path) if is_kept(Results(profile), path) else ""
