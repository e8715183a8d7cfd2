"""Stage fingerprint: what the source looks like now, so that a changed source is noticed."""

from __future__ import annotations

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.paths import FINGERPRINT
from pipeline.sources import fingerprint


def main(params: Params) -> None:
    """Write the source's fingerprint."""
    write_json(FINGERPRINT, fingerprint(params.chosen))
