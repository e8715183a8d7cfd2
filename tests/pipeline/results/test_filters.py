"""The first layer's filters: copied from the weights that Table 3 was computed from, and from no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import Failure
from pipeline.experiment.paths import filters, weights
from pipeline.experiment.validation import load
from pipeline.results.filters import FIRST
from pipeline.results.profile_results import Results, collect
from pipeline.system.atomic_files import sha256
from tests.support import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed results of profile mini, in the current folder, without filters."""
    shutil.copytree(ROOT / "reports/mini", tmp_path / "reports/mini", ignore=shutil.ignore_patterns("*.png", "fi*.npz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports/mini"


def write_weights(folder: Path, run: str, value: float, scored: bool) -> None:
    """Write weights of a run, whose first layer has this value everywhere; Table 3 is computed from them or not."""
    path = weights(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"net": "D", "weights": {FIRST: torch.full((8, 3, 3, 3), value)}}, path)
    table = folder / "table3.json"
    values = json.loads(table.read_text())
    values["weights"][run] = sha256(path) if scored else "others"
    table.write_text(json.dumps(values))


def test_the_filters_are_those_of_the_weights_that_were_scored(folder: Path) -> None:
    params = load(ROOT / "params.yaml")
    collect(params)
    assert Results("mini").filters is None
    write_weights(folder, "D-256", 0.25, scored=True)
    write_weights(folder, "D-jitter", 0.75, scored=False)
    collect(params)
    known = Results("mini").filters
    assert known and known.run == "D-256" and known.values.tolist() == np.full((8, 3, 3, 3), 0.25).tolist()
    write_weights(folder, "D-jitter", 0.5, scored=True)
    collect(params)
    known = Results("mini").filters
    assert known and known.run == "D-jitter" and known.values.shape == (8, 3, 3, 3)


def test_a_copy_stays_where_the_weights_are_not_and_is_not_shown_with_other_results(folder: Path) -> None:
    params = load(ROOT / "params.yaml")
    write_weights(folder, "D-jitter", 0.5, scored=True)
    collect(params)
    before = filters("mini").read_bytes()
    weights("D-jitter").unlink()
    collect(params)
    assert filters("mini").read_bytes() == before and Results("mini").filters
    write_weights(folder, "D-jitter", 0.75, scored=True)
    assert Results("mini").filters is None


def test_a_broken_file_is_named(folder: Path) -> None:
    filters("mini").write_bytes(b"PK")
    with pytest.raises(Failure, match=r"filters.npz cannot be read .* delete it, then: vgg-repro report"):
        _ = Results("mini").filters
