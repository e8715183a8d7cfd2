"""What changes while a stage runs is not recorded as what its result was made from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.system.atomic_files import sha256
from tests.support.clones import call, executed, held, patience, tiny_clone
from tests.support.commands import BIN, MarkedCommand, until

pytestmark = pytest.mark.slow
WEIGHTS = Path("weights/trained/A-256.pt")
PATIENCE = patience(300)


def test_a_result_is_recorded_under_the_parameters_it_was_made_with(tmp_path: Path) -> None:
    clone = tiny_clone(tmp_path / "clone")
    call(clone, "dvc", "repro", "random@A")
    trained = _changed_meanwhile(clone, "train@A-256", "A-256.json", lambda: _rate(clone, "scratch", 0.02))
    assert trained.child.returncode != 0
    assert "profiles.mini.recipes.scratch.learning_rate: 0.005, now 0.02" in trained.said
    assert "not recorded" in trained.said and not _is_recorded(clone, "train@A-256")
    first = sha256(clone / WEIGHTS)

    _rate(clone, "scratch", 0.005)
    again = call(clone, "dvc", "repro", "train@A-256")
    assert "the results are taken over" in again and "epoch" not in again
    assert sha256(clone / WEIGHTS) == first and _is_recorded(clone, "train@A-256")

    _rate(clone, "scratch", 0.02)
    other = _changed_meanwhile(clone, "train@A-256", "A-256.json", lambda: _rate(clone, "jitter", 0.5))
    assert other.child.returncode == 0, f"another recipe is not this run's: {other.said}"
    assert sha256(clone / WEIGHTS) != first

    _rate(clone, "scratch", 0.005)
    assert executed(call(clone, "dvc", "repro", "train@A-256")) == {"fingerprint"}
    assert sha256(clone / WEIGHTS) == first

    scored = _changed_meanwhile(clone, "dense@A-256", "dense-A-256.json", lambda: _remainder(clone, "ceil"))
    assert scored.child.returncode != 0 and "score.remainder: even, now ceil" in scored.said
    _remainder(clone, "even")
    assert "the results are taken over" in call(clone, "dvc", "repro", "dense@A-256")


def _changed_meanwhile(clone: Path, stage: str, written: str, change: Callable[[], object]) -> MarkedCommand:
    """Return an ended `dvc repro` of a stage that was halted when it wrote its record, until `change` was done."""
    held(clone, f"names[-1] == {written!r}")
    path = os.pathsep.join([str(clone), str(BIN), os.environ["PATH"]])
    repro = MarkedCommand(clone, "dvc", "repro", stage, PATH=path)
    try:
        until("the stage's record", lambda: (clone / "held").exists() or repro.child.poll() is not None, PATIENCE)
        change()
        (clone / "held").unlink()
        assert repro.ends(PATIENCE), repro.said
    finally:
        repro.clear()
    return repro


def _rate(clone: Path, recipe: str, rate: float) -> None:
    _edit(clone, ["recipes", recipe, "learning_rate"], rate)


def _remainder(clone: Path, remainder: str) -> None:
    _edit(clone, ["score", "remainder"], remainder)


def _edit(clone: Path, keys: list[str], value: object) -> None:
    params = yaml.safe_load((clone / "params.yaml").read_text())
    block = params["profiles"]["mini"]
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def _is_recorded(clone: Path, stage: str) -> bool:
    return stage in yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
