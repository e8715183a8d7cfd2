"""A whole tiny reproduction through DVC in a clone, with a handful of images: what runs, and nothing twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml
from clones import at_work, begin, call, executed, tiny_clone, wait_for

NETS = ("D", "E")
CHAIN = {
    *("fingerprint", "prepare", "random@A", "train@A-256", "table5"),
    *(f"train@{net}-{scale}" for net in NETS for scale in ("256", "384", "jitter")),
    *(f"{mode}@{net}-jitter" for net in NETS for mode in ("dense", "crops")),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny clone."""
    return tiny_clone(tmp_path_factory.mktemp("repro") / "clone")


def test_table5_runs_its_ancestors_once_and_then_nothing(clone: Path) -> None:
    first = call(clone, "dvc", "repro", "table5")
    assert executed(first) == CHAIN
    assert "Table 5" in first
    table = json.loads((clone / "reports/mini/table5.json").read_text())
    assert [row["ours"] is not None for row in table["rows"]] == [True] * 6
    assert executed(call(clone, "dvc", "repro", "table5")) == {"fingerprint"}


def test_a_command_and_its_stage_are_one_thing(clone: Path) -> None:
    call(clone, "dvc", "repro", "table5")
    assert executed(call(clone, "vgg-repro", "prepare")) == {"fingerprint"}
    assert executed(call(clone, "vgg-repro", "train", "D-jitter")) == {"fingerprint"}
    again = call(clone, "vgg-repro", "table", "5")
    assert executed(again) == {"fingerprint"}
    assert "| D " in again


def test_changing_one_run_reruns_that_run_and_what_follows(clone: Path) -> None:
    call(clone, "dvc", "repro", "table5")
    before = (clone / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["runs"]["E-384"]["layers"] = "fc"
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ran = executed(call(clone, "dvc", "repro", "table5"))
    assert ran == {"fingerprint", "train@E-384", "train@E-jitter", "dense@E-jitter", "crops@E-jitter", "table5"}
    (clone / "params.yaml").write_text(before)
    restored = call(clone, "dvc", "repro", "table5")
    assert "is cached - skipping run" in restored
    assert executed(restored) <= {"fingerprint"}


def test_lost_shards_are_made_again_by_prepare(clone: Path) -> None:
    call(clone, "dvc", "repro", "prepare")
    call(clone, "rm", "-rf", "data/shards")
    assert "vgg-repro prepare" in failure(clone, "vgg-repro", "train", "A-256", "--direct")
    call(clone, "vgg-repro", "prepare")
    assert list((clone / "data/shards").glob("*/train-00000.bin"))


def failure(folder: Path, *words: str) -> str:
    """What a failing command says."""
    with pytest.raises(AssertionError) as caught:
        call(folder, *words)
    return str(caught.value)


def test_the_tables_not_built_yet_say_so(clone: Path) -> None:
    assert "Table 8 (localisation, appendix A) is not there yet" in call(clone, "dvc", "repro", "table8")


def test_independent_stages_run_side_by_side_and_leave_nothing_to_do(clone: Path) -> None:
    ran = executed(call(clone, "vgg-repro", "run", "table3", "--jobs", "2"))
    assert {"train@B-256", "train@C-256", "train@C-jitter", "dense@C-jitter", "table3"} <= ran
    assert executed(call(clone, "dvc", "repro", "table3")) == {"fingerprint"}


def test_what_torchrun_has_trained_dvc_takes_for_its_stages_own(clone: Path) -> None:
    call(clone, "dvc", "repro", "random@A-LRN")
    trained = call(clone, "torchrun", "--nproc-per-node", "2", "--no-python", "vgg-repro", "train", "A-LRN-256")
    assert trained.count("A-LRN-256: 5 steps") == 1
    call(clone, "dvc", "commit", "--force", "train@A-LRN-256")
    assert executed(call(clone, "dvc", "repro", "train@A-LRN-256")) == {"fingerprint"}


def test_a_command_asked_to_end_takes_dvc_and_the_stage_with_it(clone: Path) -> None:
    """SIGTERM to the command alone, while it trains: soon nobody is left, and the same command goes on."""
    call(clone, "dvc", "repro", "random@shallow")
    params = (clone / "params.yaml").read_text()
    values = yaml.safe_load(params)
    values["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 40
    (clone / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    child = begin(clone, "vgg-repro", "train", "shallow-256")
    wait_for(lambda: list(clone.glob("checkpoints/shallow-256-*/last.pt")), 600)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 130
    wait_for(lambda: not at_work(clone), 60)
    assert "resumed at step" in call(clone, "vgg-repro", "train", "shallow-256")
    (clone / "params.yaml").write_text(params)
