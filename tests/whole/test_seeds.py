"""Further seeds in a tiny reproduction through DVC: three train thrice, and one seed's results stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.experiment.paths import posteriors, weights
from pipeline.system.atomic_files import sha256
from tests.support.clones import call, executed

pytestmark = pytest.mark.slow
RUNS = ("A-256-seed1", "A-256-seed2")
ADDED = {
    *(f"extra-random@A-seed{seed}" for seed in (1, 2)),
    *(f"extra-{work}@{run}" for work in ("train", "dense") for run in RUNS),
}


def results(folder: Path) -> dict[str, bytes]:
    """Everything that stages of the grid have made, but the metrics, which tables of several profiles share."""
    patterns = ("weights/trained/*", "scores/*", "reports/mini/table*.json", "reports/mini/ranks/table*.npz")
    return {str(path): path.read_bytes() for one in patterns for path in folder.glob(one) if path.is_file()}


def change(folder: Path, *, several: bool) -> None:
    """Write whether profile mini has several seeds, and a profile `other` that never has."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    first = mini["train"]["seed"]
    mini |= {"seeds": [first, 1, 2] if several else [first], "seed_runs": ["A-256"]}
    other = {key: value for key, value in mini.items() if key != "seeds"}
    values["profiles"]["other"] = {**other, "train": {**mini["train"], "seed": 5}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.exhaustive
def test_three_seeds_train_thrice_and_another_profile_has_none_of_it(finished: Path) -> None:
    before = results(finished)
    change(finished, several=True)
    with pytest.raises(AssertionError, match="vgg-repro prepare --profile mini"):
        call(finished, "dvc", "repro", "seeds")
    assert "runs that profile mini adds: 2" in call(finished, "vgg-repro", "prepare", "--profile", "mini")
    assert executed(call(finished, "dvc", "repro", "seeds")) == {"fingerprint", "extra", "seeds"} | ADDED
    now = results(finished)
    assert {path: content for path, content in now.items() if path in before} == before
    check_seeds(finished)
    check_commands(finished)

    seeds = (finished / "reports/mini/seeds.json").read_bytes()
    assert "runs that profile other adds: 0" in call(finished, "vgg-repro", "prepare", "--profile", "other")
    assert {"extra", "train@A-256"} <= executed(call(finished, "dvc", "repro", "extra", "train@A-256"))
    assert [path.name for path in (finished / "scores/seeds").iterdir()] == ["scores.txt"]
    call(finished, "vgg-repro", "prepare", "--profile", "mini")
    again = executed(call(finished, "dvc", "repro", "seeds"))
    assert not any("@" in stage for stage in again), "scores come from the cache"
    assert (finished / "reports/mini/seeds.json").read_bytes() == seeds
    assert results(finished) == now


def check_seeds(folder: Path) -> None:
    """Each seed has weights and scores of its own, of which the row's mean is."""
    runs = ("A-256", *RUNS)
    assert len({sha256(folder / weights(run)) for run in runs}) == 3
    assert len({sha256(folder / posteriors(run, "dense")) for run in runs}) == 3
    (row,) = json.loads((folder / "reports/mini/seeds.json").read_text())["rows"]
    table = json.loads((folder / "reports/mini/table3.json").read_text())
    (first,) = [one["ours"]["top1"]["error"] for one in table["rows"] if one["runs"] == ["A-256"]]
    errors = row["top1"]["by_seed"]
    assert (row["table"], len(errors), errors[str(table["seed"])]) == ("table3", 3, first)
    assert row["top1"]["mean"] == pytest.approx(sum(errors.values()) / 3)


def check_commands(folder: Path) -> None:
    """What knows runs knows these."""
    assert "up to date" in call(folder, "dvc", "status", "seeds")
    assert "extra-dense@A-256-seed1" in call(folder, "dvc", "dag", "seeds")
    for words in (("train", RUNS[0]), ("score", "dense", RUNS[1]), ("weights", "random", "A-seed1")):
        assert executed(call(folder, "vgg-repro", *words)) == {"fingerprint"}
    state = call(folder, "vgg-repro", "status")
    _, row = [line for line in state.splitlines() if line.startswith("| A-256 ")]  # the grid's, and the seeds'
    assert row.count("trained, error") == 2 and row.count(", scored") == 2
    assert "to run." in call(folder, "vgg-repro", "plan", "seeds")
    call(folder, "vgg-repro", "weights", "export", RUNS[0], "a.pth")
    call(folder, "vgg-repro", "report", "--strict")
    page = (folder / "reports/mini/seeds.md").read_text()
    assert "| Table 3 " in page and "3 of 3" in page and "±" in page
    assert "A-256-seed2" in (folder / "reports/mini/training.md").read_text()
    assert "extra-train@A-256-seed1" in (folder / "reports/mini/provenance.md").read_text()
