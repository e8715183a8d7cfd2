"""When a net counts as not learning: its loss stays at ln K, that of a blind guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STALLED = 5  # epochs at ln K after which a run counts as stalled


def has_stalled(at_chance: int, epochs: int, finished: bool = True) -> bool:
    """Return True if the last STALLED epochs were at chance or, of a shorter finished run, all of its `epochs`."""
    return at_chance >= (min(STALLED, epochs) if finished else STALLED) > 0


def did_not_learn(summary: Mapping[str, Any]) -> bool:
    """Return True if the summary of a finished run says that its net has stalled."""
    return has_stalled(summary["stalled_epochs"], summary["epochs"])
