"""A finished tiny reproduction explains its own numbers: where and when they were made, and what has changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support.clones import call

pytestmark = pytest.mark.slow


def test_a_finished_reproduction_explains_its_numbers(finished: Path) -> None:
    text = call(finished, "vgg-repro", "explain", "4", "D", "jitter")
    assert "random-A → A-256 → D-256 → D-384 → D-jitter" in text
    assert "commit `" in text and "table4" in text and "Nothing: dvc.lock" in text
    assert "Not known here" not in text, "everything was made here"
    record = json.loads((finished / "provenance/train@D-jitter.json").read_text())
    assert record["started"][:10] in text

    call(finished, "vgg-repro", "report")
    rows = pd.read_csv(finished / "reports/mini/results.csv")
    assert rows.commit.notna().all() and (rows.table == "training").sum() == 14
    call(finished, "rm", "-rf", "provenance", "weights", "scores")
    again = call(finished, "vgg-repro", "explain", "4", "D", "jitter")
    assert record["started"][:10] in again and "not recorded here" not in again

    params = yaml.safe_load((finished / "params.yaml").read_text())
    params["profiles"]["mini"]["recipes"]["warm"]["learning_rate"] = 0.5
    (finished / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    changed = call(finished, "vgg-repro", "explain", "4", "D", "jitter").partition("## Changed since")[2]
    assert "- `train@D-256`: profiles.mini." in changed and "learning_rate: 0.005, now 0.5" in changed
    assert "`train@A-256`" not in changed
    assert "Nothing: dvc.lock" in call(finished, "vgg-repro", "explain", "3", "A")
