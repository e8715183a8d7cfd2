"""The sources of images. A new source is one class with the members of `base.Source`, and one row in SOURCES."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.sources.base import Source
from pipeline.datasets.sources.characters import Characters
from pipeline.datasets.sources.digits import Digits
from pipeline.datasets.sources.downloads import Imagenette
from pipeline.datasets.sources.folder import ImageFolder
from pipeline.datasets.sources.ilsvrc import Ilsvrc
from pipeline.datasets.sources.ilsvrc.unlabelled import IlsvrcTest
from pipeline.errors import UsageError
from pipeline.experiment.params import Params, Profile
from pipeline.experiment.paths import PARAMS
from pipeline.experiment.validation import nearest
from pipeline.system.decoders import differing

SOURCES: dict[str, type[Source]] = {
    "characters": Characters,
    "digits": Digits,
    "imagefolder": ImageFolder,
    "imagenette": Imagenette,
    "ilsvrc2012": Ilsvrc,
}
UNLABELLED: dict[str, type[Source]] = {"ilsvrc-test": IlsvrcTest}  # for predictions alone: no profile can have them


def source_class(name: str) -> type[Source]:
    """Return the source's class. Raise UsageError, naming the nearest source and all others, if there is none."""
    if name not in SOURCES:
        raise UsageError(f"data.source: unknown source {name}. {nearest(name, list(SOURCES))}")
    return SOURCES[name]


def open_source(profile: Profile) -> Source:
    """Return the source, the reader or the unlabelled images that `profile` names.

    Raise UsageError if there is none, or if it lacks a parameter.
    """
    from pipeline.datasets.readers import READERS  # readers are sources, so they import this package

    name = profile.data.source
    return (READERS.get(name) or UNLABELLED.get(name) or source_class(name)).of(profile)


def check_source(params: Params) -> None:
    """Raise UsageError, with its place in params.yaml, if the active source does not exist or lacks a parameter."""
    try:
        source_class(params.active.data.source).of(params.active)
    except UsageError as reason:
        raise UsageError(f"{PARAMS}: profiles.{params.profile}.{reason}") from None


def fingerprint(profile: Profile) -> dict[str, Any]:
    """Return the fingerprint of the source of `profile`. See `Source.fingerprint`."""
    return open_source(profile).fingerprint()


def missing(profile: Profile) -> str:
    """Return what the source of `profile` lacks and how to get it. See `Source.missing`."""
    return open_source(profile).missing()


def seen_from_outside(params: Params) -> dict[str, Any]:
    """Return what the shards depend on besides DVC's parameters: the source's fingerprint, the largest S, the decoder.

    Raise Failure if the source or the decoder is missing.
    """
    place = params.active.data.path
    seen = {"source": fingerprint(params.active), "path": place, "largest_scale": params.largest_scale}
    seen |= differing(params.decoder)
    return seen if len(params.active.splits) > 1 else {**seen, "splits": [*params.active.splits]}
