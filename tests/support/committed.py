"""The committed results of profile mini in a folder of their own, and further seeds beside them, made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import ROOT

SEEDS = (11, 12, 13)  # the first is that of the committed tables
RATES = {"11": 32.15686274509804, "12": 30.0, "13": 35.0}  # of A at S = 256, top-1


def committed(folder: Path, *others: str) -> Path:
    """Copy the committed numbers of mini, params.yaml and `others` to `folder`. Return mini's folder."""
    mini = folder / "reports/mini"
    skipped = shutil.ignore_patterns("*.md", "*.png", "provenance.json", "dvc_records.json")
    shutil.copytree(ROOT / "reports/mini", mini, ignore=skipped)
    for name in ("params.yaml", *others):
        shutil.copyfile(ROOT / name, folder / name)
    return mini


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Change a JSON file by a function of its values."""
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def add_seeds(mini: Path) -> None:
    """Make two further seeds of A-256 up: their runs, their scores and the row over the seeds."""
    for seed in SEEDS[1:]:
        run = f"A-256-seed{seed}"
        for kind, name in (("runs", "{}.json"), ("runs", "{}.csv"), ("scores", "dense-{}.json")):
            shutil.copyfile(mini / kind / name.format("A-256"), mini / kind / name.format(run))
        own = {"run": run, "seed": seed, "init": f"random-A-seed{seed}"}
        change(mini / f"runs/{run}.json", lambda values, own=own: values.update(own))  # type: ignore[misc]
    table = json.loads((mini / "table3.json").read_text())
    row = next(row for row in table["rows"] if row["runs"] == ["A-256"])
    spread = {"by_seed": RATES, "mean": 32.4, "std": 2.5}
    stages = ["dense@A-256", *(f"extra-dense@A-256-seed{seed}" for seed in SEEDS[1:])]
    rows = [{"table": "table3", "label": row["label"], "runs": ["A-256"], "top1": spread, "topk": spread,
             "scores": stages, "missing": []}]  # fmt: skip
    scores = dict.fromkeys(stages, table["scores"]["dense@A-256"])
    change(mini / "seeds.json", lambda values: values.update(seeds=list(SEEDS), rows=rows, scores=scores))


def counted() -> str:
    """Return mini's committed verdicts in words."""
    ledger = json.loads((ROOT / "reports/mini/claims.json").read_text())
    counts, sets = ledger["counts"], [f"{one['images']:,} of {title}" for title, one in ledger["sets"].items()]
    rest = ", ".join(f"{counts[word]} {word}" for word in ("contradicted", "undecided", "not run"))
    return f"{counts['supported']} are supported on these 1,020 images (and {', '.join(sets)}), {rest}"
