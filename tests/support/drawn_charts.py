"""Charts of equal rows and images are drawn once in a run of the tests; then their file is copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.results.encoded_images import Pixels
from pipeline.system.atomic_files import whole
from reports.charts import Chart
from tests.support import DRAWN_CHARTS

DRAW = Chart.draw


def draw_once() -> None:
    """Have each distinct chart drawn once, by whichever process is the first to need it."""
    if DRAWN_CHARTS in os.environ:
        Chart.draw = _copied  # type: ignore[method-assign]


def _copied(chart: Chart, images: Mapping[str, Pixels], path: Path) -> None:
    stored = Path(os.environ[DRAWN_CHARTS]) / f"{_identity(chart, images)}{path.suffix}"
    if stored.exists():
        with whole(path) as file:
            file.write(stored.read_bytes())
    else:
        DRAW(chart, images, path)
        stored.parent.mkdir(parents=True, exist_ok=True)
        with whole(stored) as file:
            file.write(path.read_bytes())


def _identity(chart: Chart, images: Mapping[str, Pixels]) -> str:
    """Return a hash of what the chart is drawn from."""
    drawn_from = hashlib.sha256(f"{chart.kind.name} {chart.rows.to_csv()} {chart.rows.dtypes}".encode())
    for name, pixels in sorted(images.items()) if chart.kind.photographs else ():
        drawn_from.update(f"{name} {pixels.shape} {pixels.dtype}".encode() + pixels.tobytes())
    return f"{chart.kind.name}-{drawn_from.hexdigest()}"
