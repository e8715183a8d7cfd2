"""Checks of the images: whether the source is there, whether it is prepared, and its archives' check sums."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pipeline import paths
from pipeline.errors import Failure
from pipeline.health.base import Finding, Here, quoted

DOWNLOADED = ("imagenette",)
PREPARE = "vgg-repro prepare"


def images(here: Here) -> Iterator[Finding]:
    """Whether the profile's source of images is there."""
    from pipeline.sources import missing, root_of

    data = here.profile.data
    name, lacks = data.source, missing(here.profile)
    if not lacks and name == "ilsvrc2012":
        yield from _archives(root_of(here.profile))
    if not lacks:
        place = f" in {data.path}" if data.path and name != "digits" else ""
        yield Finding("images", "ok", f"source {name}{place} is there")
    elif name in DOWNLOADED:
        yield Finding("images", "warning", lacks, PREPARE)
    else:
        yield Finding("images", "failure", lacks, f"{PREPARE} --source {name} --path /WHERE/THE/IMAGES/LIE")


def nets(here: Here) -> Iterator[Finding]:
    """Whether the files of the published nets are there, where those are scored."""
    from pipeline.formats.classmap import is_as_given

    params = here.valid
    if params.weights == "trained":
        yield Finding("nets", "ok", "trained here; no published ones are asked for")
        return
    for run, row in params.imports.items():
        if not Path(row.file).is_file():
            mend = f"vgg-repro weights import {run} /WHERE/THE/FILE/IS"
            yield Finding("nets", "failure", f"{run}'s file is not there: {row.file}", mend)
        elif row.class_map and not is_as_given(row):
            mend = f"vgg-repro weights import {run} {quoted(row.file)} --class-map {quoted(row.class_map)}"
            yield Finding("nets", "failure", f"{run}'s class map is missing or has changed: {row.class_map}", mend)
    if not params.imports:
        mend = "vgg-repro weights import D-jitter /WHERE/VGG_ILSVRC_16_layers.caffemodel"
        yield Finding("nets", "warning", "published nets are to be scored, and none is imported yet", mend)
    elif all(Path(row.file).is_file() for row in params.imports.values()):
        yield Finding("nets", "ok", f"published ones for {', '.join(params.imports)}")


def _archives(root: Path) -> Iterator[Finding]:
    """Whether the archives of images are whole, as far as their outer headers tell."""
    from pipeline.sources.published import ARCHIVES
    from pipeline.sources.tar import members

    for name in ARCHIVES.values():
        try:
            deque(members(root / name) if (root / name).exists() else (), 0)
        except Failure as wrong:
            again = f"mv {quoted(root / name)} {quoted(root / (name + '.wrong'))}    # and fetch it again"
            yield Finding("images", "failure", str(wrong), again)


def shards(here: Here) -> Iterator[Finding]:
    """Whether the shards are there, and of the images that params.yaml asks for."""
    from pipeline.prepare import is_asked_for, is_whole

    params = here.valid
    begun = sorted(paths.shards_root().glob("*.partial"))
    try:
        asked, folder = is_asked_for(params), paths.shards()
    except (IndexError, UnicodeDecodeError):
        mend = f"rm {paths.SHARDS} && {PREPARE}"
        yield Finding("shards", "failure", f"{paths.SHARDS} does not say where they are", mend)
        return
    if paths.SHARDS.exists() and not asked:
        says = f"others than params.yaml asks for by now; `{PREPARE}` prepares those, and so does dvc repro"
    elif is_whole(folder):
        says = f"whole, in {folder}"
    elif begun:
        says = f"begun in {begun[-1]}; `{PREPARE}` goes on from there"
    else:
        says = f"not prepared yet; `{PREPARE}` does that, and so does dvc repro"
    yield Finding("shards", "ok", says)


def md5(here: Here) -> Iterator[Finding]:
    """Each archive of ILSVRC-2012 against the check sum that it was published with."""
    data = here.profile.data
    if data.source != "ilsvrc2012":
        yield Finding("md5", "ok", f"nothing to compare: source {data.source} has no archives with published sums")
        return
    from pipeline.sources import root_of
    from pipeline.sources.ilsvrc import check_sums

    root, archives = root_of(here.profile), 0
    for archives, (name, wrong) in enumerate(check_sums(root), 1):  # noqa: B007
        if wrong:
            again = f"mv {quoted(root / name)} {quoted(root / (name + '.wrong'))}    # and fetch it again from https://image-net.org/download"
            yield Finding("md5", "failure", f"{name}: {wrong}", again)
        else:
            yield Finding("md5", "ok", f"{name} is as published")
    if not archives:
        yield Finding("md5", "ok", f"nothing to compare: {root} has none of the published archives")
