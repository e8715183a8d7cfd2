"""Stage fingerprint: what prepare depends on besides its parameters, so that a changed source is noticed."""

from __future__ import annotations

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.paths import FINGERPRINT
from pipeline.sources import fingerprint


def main(params: Params) -> None:
    """Write the source's fingerprint, where it lies, and the largest S of the grid."""
    source, place = fingerprint(params.chosen), params.chosen.data.path
    write_json(FINGERPRINT, {"source": source, "path": place, "largest_scale": params.largest_scale})
