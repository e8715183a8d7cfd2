"""Checks of the images: whether the source exists, and whether it is prepared."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.base import DoctorContext, Finding
from pipeline.experiment.paths import CLASSIFICATION

PREPARE = "vgg-repro prepare"


def images(context: DoctorContext) -> Iterator[Finding]:
    """Check whether the profile's source of images exists."""
    from pipeline.datasets.sources import open_source

    if context.params is None:
        return
    data, source = context.params.active.data, open_source(context.params.active)
    lacks = source.missing()
    if not lacks:
        place = f" in {data.path}" if data.path and source.place != "none" else ""
        yield Finding("images", "ok", f"source {data.source}{place} exists")
    elif source.downloads:
        yield Finding("images", "warning", lacks, PREPARE)
    else:
        yield Finding("images", "failure", lacks, f"{PREPARE} --source {data.source} --path /PATH/TO/THE/IMAGES")


def training(context: DoctorContext) -> Iterator[Finding]:
    """Check whether there are enough prepared images for one batch."""
    from pipeline.datasets.facts import read_facts, too_few

    if context.params is None or not CLASSIFICATION.facts(context.params.profile).exists():
        return
    if reason := too_few(context.params, read_facts(context.params.profile)):
        fix = f"edit params.yaml: lower batch in train of profile {context.params.profile}"
        yield Finding("training", "failure", reason, fix)


def shards(context: DoctorContext) -> Iterator[Finding]:
    """Check whether the shards exist, and whether they hold the images that params.yaml asks for."""
    from pipeline.datasets.dataset_key import is_asked_for
    from pipeline.datasets.prepare import is_whole

    if context.params is None:
        return
    try:
        asked, folder = is_asked_for(context.params, CLASSIFICATION), CLASSIFICATION.shards
    except (IndexError, UnicodeDecodeError):
        fix = f"rm {CLASSIFICATION.shards_record} && {PREPARE}"
        yield Finding("shards", "failure", f"{CLASSIFICATION.shards_record} does not name their folder", fix)
        return
    if CLASSIFICATION.shards_record.exists() and not asked:
        says = f"the prepared data set does not match params.yaml; `{PREPARE}` or dvc repro prepares it again"
    elif is_whole(folder):
        says = f"complete, in {folder}"
    else:
        says = f"not prepared yet, or incomplete; `{PREPARE}` or dvc repro prepares the images"
    yield Finding("shards", "ok", says)
