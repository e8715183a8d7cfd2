"""Profiles that add runs to the grid: further seeds, and other initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.experiment.extra_runs import extra_rows
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from tests.support import ROOT

SEEDS: dict[str, Any] = {"seeds": [0, 1, 2], "seed_runs": ["A-256", "B-256", "D-256", "D-384", "D-jitter"]}
INITIAL: dict[str, Any] = {"initialisation": {"nets": ["A", "D"], "std": 0.01, "input_scale": 1.0}}


def text_with(**keys: Any) -> str:
    """Return the repository's params.yaml with keys of the active profile; the rows of `extra` stay as they are."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    profile = values["profiles"][values["profile"]]
    profile["train"]["seed"] = 0
    profile |= keys
    return yaml.safe_dump(values, sort_keys=False)


def params_with(folder: Path, **keys: Any) -> Params:
    """Return the repository's parameters with keys of the active profile and the rows that these need."""
    path = folder / "with.yaml"
    path.write_text(text_with(**keys))
    params = load(path, extra=False)
    return params.model_copy(update={"extra": extra_rows(params)})
