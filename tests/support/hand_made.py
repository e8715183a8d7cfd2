"""Results that are made up, for the tests of charts and pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pipeline.results.filters import Filters
from pipeline.results.illustrations import Illustrations
from pipeline.results.located_images import LocatedImages
from pipeline.results.ranks import Guesses
from pipeline.results.shown_sets import ShownSet


@dataclass
class HandMade:
    """Stands in for Results: what the charts are drawn from."""

    tables: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, Any] = field(default_factory=dict)
    histories: dict[str, pd.DataFrame] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=lambda: {"classes": ["a", "b"]})
    guesses: tuple[str, Guesses] | None = None
    filters: Filters | None = None
    illustrations: Illustrations | None = None
    located: LocatedImages | None = None
    other_sets: dict[str, Any] = field(default_factory=dict)
    shown_sets: dict[str, ShownSet] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)

    @property
    def known_provenance(self) -> dict[str, Any]:
        """Return the records by stage."""
        return self.records
