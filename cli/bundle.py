"""vgg-repro bundle: a profile's results as one file, to archive and to share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import complete_profiles, params

if TYPE_CHECKING:
    from pipeline.experiment.params import Params
    from pipeline.results.bundle_file import Content
    from pipeline.results.profile_results import Results


def bundle(
    file: Annotated[Path, typer.Argument(help="The file to write, such as mini.zip.")],
    profile: Annotated[
        str | None, typer.Option(help="Profile to pack; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    with_posteriors: Annotated[
        bool, typer.Option("--with-posteriors", help="Also pack the class posteriors (8 GB at the paper's size).")
    ] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Also pack the images that the report shows.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Pack results into one file, from which `vgg-repro report --from` renders the same pages anywhere.

    It is a zip of numbers, an RO-Crate, for archives such as Zenodo.

    Example: vgg-repro bundle mini.zip
    """
    from pipeline.errors import UsageError
    from pipeline.experiment.targets import check_profile
    from pipeline.orchestration.dvc_graph import outdated
    from pipeline.results.bundle_file import is_posteriors, write_bundle
    from pipeline.results.lock_file import keep_records
    from pipeline.results.profile_results import collect
    from pipeline.results.provenance import keep_provenance
    from pipeline.results.run_crate import run_crate
    from pipeline.system.progress import gigabytes
    from reports.page_parts import what_was_run
    from reports.pages import shown_results

    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file: vgg-repro bundle {file / 'results.zip'}")
    if file.exists() and not force:
        raise UsageError(f"{file} exists; choose another name, or replace it with --force")
    parameters = params()
    name = check_profile(parameters, profile or parameters.profile)
    active = name == parameters.profile
    if active:
        collect(parameters)
    found = shown_results(name, outdated(parameters) if active else {}, parameters)
    if active:
        keep_provenance(name, found.known_provenance)
        keep_records(name)
    files = _files(found, parameters, with_posteriors, with_images)
    arrays = [content.stat().st_size for path, content in files.items() if is_posteriors(path)]  # type: ignore[union-attr]
    if arrays:
        typer.echo(f"packing {gigabytes(sum(arrays))} of posteriors ...", err=True)
    head = {"profile": name, "outdated": found.outdated}
    packed = write_bundle(file, files, head, lambda listed: run_crate(found, what_was_run(found), listed))
    typer.echo(f"{file} written: {len(packed) + 1} files, {gigabytes(file.stat().st_size)}")
    typer.echo(f"Render its report anywhere: vgg-repro report --from {file} --out FOLDER")


def _files(found: Results, parameters: Params, with_posteriors: bool, with_images: bool) -> dict[str, Content]:
    """Return the files to pack by name. Raise Failure if what an option asks for is not there."""
    from pipeline.errors import Failure
    from pipeline.experiment.paths import results
    from pipeline.results.bundle import README, image_files, posterior_files, result_files
    from reports.bundle_page import bundle_page, kept_files, rendered_files
    from reports.flat_files import FLAT, csv_text
    from reports.markdown import markdown

    folder = results(found.profile)
    files = result_files(found, rendered_files(), kept_files(found, folder))
    files |= {README: markdown(bundle_page(found)).encode(), (folder / FLAT).as_posix(): csv_text(found).encode()}
    if with_images:
        files |= image_files(found, rendered_files())
    if with_posteriors:
        arrays = posterior_files(parameters, found.profile)
        if not arrays:
            raise Failure(f"there are no posteriors of profile {found.profile} here; pack without --with-posteriors")
        files |= arrays
    return files
