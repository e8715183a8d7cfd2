"""Stage fingerprint: what prepare depends on besides its parameters, so that a changed source is noticed."""

from __future__ import annotations

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.paths import FINGERPRINT
from pipeline.sources import seen_from_outside


def main(params: Params) -> None:
    """Write what the source looks like now."""
    write_json(FINGERPRINT, seen_from_outside(params))
