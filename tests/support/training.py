"""A training run of some steps, for the tests of the stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from stages import prepare
from stages import random as random_weights
from tests.support import ROOT


def tiny(folder: Path, **changes: object) -> Params:
    """Parameters of a run of 3 epochs of 6 steps, written to `folder`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    mini["data"]["limit"] = 64  # fewer lack a class
    mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/16", "fc": 16, "dropout": 0.5}
    mini["prepare"]["device"] = mini["score"]["device"] = "cpu"  # whose bits are the same each time
    mini["prepare"]["processes"] = 1
    mini["train"] |= {"batch": 10, "tail": 1, "device": "cpu", **changes}
    mini["recipes"]["scratch"] |= {"epochs": 3, "first_drop": 0}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return load(path)


def with_random_weights(folder: Path) -> Params:
    """Write tiny parameters to `folder`, prepare their images there and draw A's random weights; return them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VGG_REPRO_SHARDS", raising=False)
        params = tiny(folder)
        prepare.main(params)
        random_weights.main(params, "A")
    return params


def in_copy_of(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Make a copy of a prepared folder in `place` the current folder; return its parameters."""
    shutil.copytree(folder, place, dirs_exist_ok=True)
    monkeypatch.chdir(place)
    monkeypatch.delenv("VGG_REPRO_SHARDS", raising=False)
    return load()
