"""Where images come from: a source yields items and has a cheap fingerprint."""

from __future__ import annotations

from typing import Any

from pipeline.params import Profile
from pipeline.sources.base import Source


def open_source(profile: Profile) -> Source:
    """The source that `profile` names."""
    from pipeline.sources.digits import Digits

    return Digits(profile.data, float(profile.net.size_ratio))


def fingerprint(profile: Profile) -> dict[str, Any]:
    """What the source looks like from outside, cheap to find out: two equal ones mean equal images."""
    from pipeline.sources import digits

    return digits.fingerprint(profile.data, profile.net.size_ratio)
