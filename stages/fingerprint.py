"""Stage fingerprint: what prepare depends on besides its parameters, so that a changed source is noticed."""

from __future__ import annotations

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.paths import FINGERPRINT
from pipeline.sources import fingerprint


def main(params: Params) -> None:
    """Write the source's fingerprint and the largest S of the grid."""
    write_json(FINGERPRINT, {"source": fingerprint(params.chosen), "largest_scale": params.largest_scale})
