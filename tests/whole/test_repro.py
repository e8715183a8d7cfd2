"""A whole tiny reproduction through DVC in a clone, with a handful of images: what runs, and nothing twice."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from tests.support.clones import TABLES, Reproduction, at_work, begin, call, executed, patience, wait_for

NETS = ("D", "E")
CHAIN = {
    *("fingerprint", "prepare", "random@A", "train@A-256", "table5"),
    *(f"train@{net}-{scale}" for net in NETS for scale in ("256", "384", "jitter")),
    *(f"{mode}@{net}-jitter" for net in NETS for mode in ("dense", "crops")),
}
pytestmark = pytest.mark.slow


def test_table5_runs_its_ancestors_and_no_others(finished: Path) -> None:
    assert executed(call(finished, "dvc", "repro", "--force", "--dry", "table5")) == CHAIN


def test_all_tables_run_everything_once_and_then_nothing(reproduction: Reproduction, finished: Path) -> None:
    ran = re.findall(r"Running stage '([^']+)'", reproduction.said)
    params = yaml.safe_load((finished / "params.yaml").read_text())
    assert sorted(ran) == sorted([
        *("fingerprint", "prepare", "random@A", "random@A-LRN", "random@shallow", *TABLES),
        *(f"train@{run}" for run in params["runs"]),
        *(f"dense@{run}" for run in params["runs"] if run != "shallow-256"),
        *(f"{mode}@{run}" for mode in ("crops", "centre") for run in params[mode]),
    ])  # fmt: skip
    assert "Table 5" in reproduction.said
    table = json.loads((finished / "reports/mini/table5.json").read_text())
    assert [row["ours"] is not None for row in table["rows"]] == [True] * 6
    assert executed(call(finished, "dvc", "repro", *TABLES)) == {"fingerprint"}


def test_illustrations_follow_what_they_show_and_nothing_else(finished: Path) -> None:
    assert executed(call(finished, "dvc", "repro", "illustrations")) == {"fingerprint", "illustrations"}
    assert executed(call(finished, "dvc", "repro", "illustrations")) == {"fingerprint"}
    before = (finished / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["runs"]["E-jitter"]["layers"] = "fc"
    params["profiles"]["mini"]["score"]["threads"] = 2
    (finished / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert executed(call(finished, "dvc", "repro", "illustrations")) == {"fingerprint"}
    params["profiles"]["mini"]["train"]["seed"] += 1
    (finished / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert {"train@D-jitter", "illustrations"} < executed(call(finished, "dvc", "repro", "illustrations"))


def test_a_command_and_its_stage_are_one_thing(finished: Path) -> None:
    assert executed(call(finished, "vgg-repro", "prepare")) == {"fingerprint"}
    assert executed(call(finished, "vgg-repro", "train", "D-jitter")) == {"fingerprint"}
    again = call(finished, "vgg-repro", "table", "5")
    assert not executed(again) and again.count("\n") < 20, "it shows the table and nothing else"
    assert "| D " in again


def test_changing_one_run_reruns_that_run_and_what_follows(finished: Path) -> None:
    before = (finished / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["runs"]["E-384"]["layers"] = "fc"
    (finished / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ran = executed(call(finished, "dvc", "repro", "table5"))
    assert ran == {"fingerprint", "train@E-384", "train@E-jitter", "dense@E-jitter", "crops@E-jitter", "table5"}
    (finished / "params.yaml").write_text(before)
    restored = call(finished, "dvc", "repro", "table5")
    assert "is cached - skipping run" in restored
    assert executed(restored) <= {"fingerprint", "table5"}, "a table takes seconds, and writes the metrics as well"


def test_lost_shards_are_made_again_by_prepare(finished: Path) -> None:
    call(finished, "rm", "-rf", "data/shards")
    assert "vgg-repro prepare" in failure(finished, "vgg-repro", "train", "A-256", "--direct")
    call(finished, "vgg-repro", "prepare")
    assert list((finished / "data/shards").glob("*/train-00000.bin"))


def test_shards_recorded_by_another_version_are_found_by_prepare(finished: Path) -> None:
    record = finished / "data/classification/shards.txt"
    before = record.read_text()
    record.unlink()  # it may be a link into DVC's cache
    record.write_text(f"{before.split()[0]} 0123456789abcdef\n")
    call(finished, "dvc", "commit", "--force", "prepare")
    assert "vgg-repro prepare" in failure(finished, "vgg-repro", "score", "dense", "A-256", "--direct")
    call(finished, "vgg-repro", "prepare")
    assert record.read_text() == before


def failure(folder: Path, *words: str) -> str:
    """What a failing command says."""
    with pytest.raises(AssertionError) as caught:
        call(folder, *words)
    return str(caught.value)


def test_what_was_trained_without_dvc_it_takes_for_its_stages_own(finished: Path) -> None:
    """As torchrun trains, too."""
    values = yaml.safe_load((finished / "params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 2
    (finished / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert "A-LRN-256: 10 steps" in call(finished, "vgg-repro", "train", "A-LRN-256", "--direct")
    assert executed(call(finished, "dvc", "repro", "--dry", "train@A-LRN-256")) == {"fingerprint", "train@A-LRN-256"}
    call(finished, "dvc", "commit", "--force", "train@A-LRN-256")
    assert executed(call(finished, "dvc", "repro", "train@A-LRN-256")) == {"fingerprint"}


def test_a_command_asked_to_end_takes_dvc_and_the_stage_with_it(finished: Path) -> None:
    """SIGTERM to the command alone, while it trains: soon nobody is left, and the same command goes on."""
    values = yaml.safe_load((finished / "params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 40
    (finished / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    child = begin(finished, "vgg-repro", "train", "shallow-256")
    wait_for(lambda: list(finished.glob("checkpoints/shallow-256-*/last.pt")), 600)
    child.send_signal(signal.SIGTERM)
    assert child.wait(patience(60)) == 130
    wait_for(lambda: not at_work(finished), 60)
    assert "resumed at step" in call(finished, "vgg-repro", "train", "shallow-256")
