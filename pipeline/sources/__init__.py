"""Where images come from: a source lists and reads them, and has a cheap fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import Failure
from pipeline.params import Params, Profile
from pipeline.sources.base import Source


def open_source(profile: Profile) -> Source:
    """The source that `profile` names."""
    from pipeline.sources import digits, downloads, folder, ilsvrc

    data = profile.data
    if data.source == "digits":
        assert data.digits is not None  # params.yaml is checked
        return digits.Digits(data.digits, data.limit, float(profile.net.size_ratio))
    if data.source == "imagefolder":
        return folder.ImageFolder(root_of(profile), data.val_share, data.limit, profile.splits)
    if data.source == "ilsvrc2012":
        return ilsvrc.Ilsvrc(root_of(profile), data.limit, profile.splits)
    return downloads.Imagenette(root_of(profile), data.val_share, data.limit)


def fingerprint(profile: Profile) -> dict[str, Any]:
    """What the source looks like from outside, cheap to find out: two equal ones mean equal images.

    Failure if its folder is not there; Imagenette is downloaded first.
    """
    from pipeline.sources import digits, downloads, folder, ilsvrc

    data = profile.data
    if data.source == "digits":
        return digits.fingerprint(data, profile.net.size_ratio)
    chosen = {"source": data.source, "limit": data.limit, "val_share": data.val_share}
    if data.source == "imagefolder":
        return {**chosen, **folder.fingerprint(root_of(profile), profile.splits)}
    if data.source == "ilsvrc2012":
        return {"source": data.source, "limit": data.limit, **ilsvrc.fingerprint(root_of(profile), profile.splits)}
    return {**chosen, **downloads.fingerprint(root_of(profile))}


def seen_from_outside(params: Params) -> dict[str, Any]:
    """What the shards depend on besides parameters: the source as it looks, and the largest S. Failure without it."""
    place = params.chosen.data.path
    seen = {"source": fingerprint(params.chosen), "path": place, "largest_scale": params.largest_scale}
    return seen if len(params.chosen.splits) > 1 else {**seen, "splits": [*params.chosen.splits]}


def missing(profile: Profile) -> str:
    """What is not there of the source, and what to do; nothing if it is there. Nobody downloads anything."""
    from pipeline.sources import downloads, ilsvrc

    root, source = root_of(profile), profile.data.source
    if source == "digits":
        return ""
    if source == "ilsvrc2012":
        try:
            return ilsvrc.missing(root, profile.splits)
        except Failure as reason:
            return str(reason)
    if source == "imagefolder":
        first = profile.splits[0]
        return "" if (root / first).is_dir() else f"{root} has no folder {first}: images lie in {first}/CLASS/"
    lies = (root / downloads.FOLDER).is_dir()
    return "" if lies else f"{source} is not in {root} yet; this downloads it: vgg-repro prepare"


def root_of(profile: Profile) -> Path:
    """The source's folder; but for one's own images it lies under data/ unless params.yaml says where."""
    return Path(profile.data.path or f"data/{profile.data.source}").expanduser()
