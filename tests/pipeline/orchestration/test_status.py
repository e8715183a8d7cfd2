"""The grid at a glance: what a run that trains says of itself, who believes it, and the whole in a clone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.datasets.facts import Facts, read_statistics
from pipeline.errors import Failure
from pipeline.experiment.paths import checkpoints, shards_root, summary, weights
from pipeline.experiment.run_names import starting_from
from pipeline.experiment.targets import stages
from pipeline.orchestration import status as status_module
from pipeline.orchestration.dvc_graph import StageForecast
from pipeline.orchestration.heartbeat import (
    LOCK,
    NAME,
    SILENT,
    Running,
    all_running,
    asked,
    identity,
    old_checkpoints,
    tell,
)
from pipeline.orchestration.status import RunStatus, Status, _claims, _going_on, _run
from pipeline.system.atomic_files import write_json
from pipeline.system.locks import alone, holder
from reports.status_page import _state, status_page
from reports.terminal import terminal
from tests.support import ROOT
from tests.support.clones import begin, call, tiny_clone, wait_for
from tests.support.images import repository_params
from vgg.stalling import STALLED, has_stalled


def text_of(status: Status) -> str:
    """What `vgg-repro status` prints."""
    return terminal(status_page(status, {}))


HOLD = """
import sys
from pathlib import Path
from pipeline.system.locks import alone
with alone(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    sys.stdin.read()
"""


def a_run(rng: np.random.Generator, **changes: object) -> Running:
    """A run in the middle of an epoch, that has said nothing for long."""
    steps, epochs = int(rng.integers(2, 5000)), int(rng.integers(2, 74))
    at = int(rng.integers(steps, steps * epochs - 1))
    loss, error, left = rng.uniform(0, 7), rng.uniform(0, 100), rng.uniform(1, 1e6)
    running = Running("A-256", "", at, steps, epochs, loss, error, left, 1, "a machine", time.time() - 10 * SILENT)
    return replace(running, **changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_told_is_found_again(folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    running = a_run(rng, asked=asked(params, "A-256"))
    tell(checkpoints("A-256", "key"), running)
    assert list(all_running(params)) == [(running, False)]
    now = replace(running, said=time.time())
    tell(checkpoints("A-256", "key"), now)
    assert list(all_running(params)) == [(now, True)], "it has just said so"


def test_a_run_whose_lock_is_held_trains_however_silent_it_is(folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    where = checkpoints("A-256", "key")
    tell(where, a_run(rng, asked=asked(params, "A-256")))
    assert holder(where / LOCK) is None
    command = [sys.executable, "-c", HOLD, str(folder / where / LOCK)]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert str(other.pid) in (holder(where / LOCK) or "")
        ((_, trains),) = all_running(params)
        assert trains
    finally:
        other.kill()
        other.wait()
    ((_, trains),) = all_running(params)
    assert not trains
    assert holder(where / LOCK) is None


@pytest.mark.parametrize("change", ["the row", "the recipe", "the net", "the method"])
def test_a_checkpoint_of_other_parameters_is_nobodys(change: str, folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    running = a_run(rng, asked=asked(params, "A-256"))
    tell(checkpoints("A-256", "key"), running)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    profile = values["profiles"][values["profile"]]
    block, key = {
        "the row": (values["runs"]["A-256"], "scale"),
        "the recipe": (profile["recipes"]["scratch"], "epochs"),
        "the net": (profile["net"], "fc"),
        "the method": (values["method"], "train"),
    }[change]
    block[key] += 1
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    from pipeline.experiment.validation import load

    assert not list(all_running(load(folder / "params.yaml")))


def test_what_is_half_written_or_of_no_run_is_passed_over(folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    good = a_run(rng, run="D-384", asked=asked(params, "D-384"))
    tell(checkpoints("D-384", "key"), good)
    for number, text in enumerate(("", "{", "[]", '{"run": "A-256"}', '"A-256"', "\0\0")):
        path = checkpoints(f"A-256-{number}", "key") / NAME
        path.parent.mkdir(parents=True)
        path.write_text(text)
    write_json(checkpoints("Z", "key") / NAME, {**asdict(good), "run": "Z"})
    assert [running.run for running, _ in all_running(params)] == ["D-384"]


def test_of_two_checkpoints_the_later_counts(folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    times = rng.permutation([10.0, 20.0, 30.0])
    for number, moment in enumerate(times):
        tell(checkpoints("A-256", str(number)), a_run(rng, asked=asked(params, "A-256"), said=float(moment)))
    assert [running.said for running, _ in all_running(params)] == [30.0]


def kept(run: str, key: str, size: int = 1000) -> Path:
    """A checkpoint of so many bytes."""
    folder = checkpoints(run, key)
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes(bytes(size))
    return folder


def test_checkpoints_that_no_run_goes_on_from_are_listed_with_their_size(folder: Path) -> None:
    key, other = "0123456789ab", "b" * 12
    goes_on = kept("A-256", key)
    old = [kept("A-256", other, 3_000_000), kept("a-run-of-old", other, 300_000_000)]
    used = kept("B-256", "a" * 12)
    kept("D-jitter", other)  # which its run may come to again
    (folder / "checkpoints/A-256.log").write_text("no checkpoint")
    with alone(used / LOCK, "training"):
        old_ones = old_checkpoints({"A-256": goes_on, "B-256": checkpoints("B-256", key), "D-jitter": None})
    assert [(one.run, one.folder) for one in old_ones] == [("A-256", old[0]), ("a-run-of-old", old[1])]
    text = text_of(Status("mini", "trained", None, False, "", [], {}, old_ones))
    assert f"- {old[0]} (3.0 MB)\n- {old[1]} (0.3 GB)" in text
    assert "heckpoint" not in text_of(Status("mini", "trained", None, False, "", [], {}))


def test_a_run_goes_on_from_the_checkpoint_of_what_it_needs_once_that_is_up_to_date(folder: Path) -> None:
    """Else nobody knows: after a change of the profile and back the images and the weights are another profile's."""
    params = repository_params(folder)
    weights("random-A").parent.mkdir(parents=True)
    weights("random-A").write_bytes(b"some")
    Facts("digits", "", False, ["0", "1"], 9, 9, 0, [], [], {}, "a manifest's hash").write("mini")
    goes_on = kept("A-256", identity(params, "A-256", read_statistics()))
    kept("A-256", "b" * 12)
    kept("gone", "b" * 12)
    for what in ("done", "cached", "run"):
        stages = (("prepare", "done", ()), ("random@A", what, ()), ("train@A-256", "run", ("prepare", "random@A")))
        forecast = {stage: StageForecast(stage, frozenset(needs), state, "") for stage, state, needs in stages}
        assert _going_on(params, forecast) == {"A-256": goes_on if what == "done" else None}
    assert _going_on(params, {}) == {}, "a profile that trains nothing has no run that goes on"


def test_what_is_listed_as_old_is_not_said_to_go_on(folder: Path, rng: np.random.Generator) -> None:
    params = repository_params(folder)
    tell(checkpoints("A-256", "key"), a_run(rng, asked=asked(params, "A-256")))
    assert list(all_running(params, [checkpoints("A-256", "key")])) == []


def test_a_full_disk_does_not_end_training(folder: Path, rng: np.random.Generator) -> None:
    (folder / "checkpoints").write_text("a file where the folder should be")
    tell(checkpoints("A-256", "key"), a_run(rng))


def test_the_jobs_of_a_run_are_beside_it() -> None:
    runs = [
        RunStatus(name, "ready", "", None, None, {}, ()) for name in ("A-256", "D-384", "A-256-seed12", "B-256-seed12")
    ]
    status = Status("mini", "trained", None, False, "", runs, {})
    jobs = {
        "train@A-256": "job 1 running on n1",
        "dense@D-384": "job 2 pending (Priority)",
        "crops@D-384": "job 3 running on n2",
        "extra-train@A-256-seed12": "job 4 pending (Resources)",
    }
    lines = terminal(status_page(status, jobs)).splitlines()
    assert [line.strip("| ").rpartition(" | ")[2].strip() for line in lines if line.startswith(("| A", "| D"))] == [
        "job 1 running on n1",
        "dense: job 2 pending (Priority); crops: job 3 running on n2",
        "job 4 pending (Resources)",
    ]
    assert "job" not in terminal(status_page(status, {}))


def test_the_claims_are_named_if_they_are_tested() -> None:
    tables = {"table3": "committed", "table4": "run"}
    status = Status("mini", "trained", None, False, "", [], tables, claims="committed")
    said = terminal(status_page(status, {}))
    assert (
        "Tables: as committed, not computed here 3; to do 4. The paper's claims: as committed, not computed here."
        in said
    )
    assert "claims" not in terminal(status_page(replace(status, claims=""), {})), "of published nets alone"
    assert _claims({"claims": StageForecast("claims", frozenset(), "done", "")}, []) == "done"
    assert _claims({"claims": StageForecast("claims", frozenset(), "run", "")}, ["table3"]) == "run"


def test_the_job_of_no_run_is_below_the_table() -> None:
    status = Status("mini", "trained", None, False, "", [RunStatus("A-256", "ready", "", None, None, {}, ())], {})
    lines = terminal(status_page(status, {"prepare": "job 1 running on n1"})).splitlines()
    assert "prepare: job 1 running on n1" in lines
    assert not any(line.startswith("|") and "job" in line for line in lines)


def test_where_a_run_stands_in_words(rng: np.random.Generator) -> None:
    running = a_run(rng, step=12 * 100 + 50, steps=100, epochs=74, top1=45.21, loss=2.5, left=3 * 3600.0)
    status = RunStatus("A-256", "training", "", running, None, {}, ())
    assert _state(status) == "epoch 13 of 74, error 45.2 %, loss 2.500, at most 3 h 00 min left"
    assert _state(replace(status, state="stopped")).startswith("stopped in epoch 13 of 74, error 45.2 %")
    whole = replace(status, state="stopped", running=replace(running, step=74 * 100))
    assert _state(whole).startswith("stopped in epoch 74 of 74, ")
    early = replace(running, top1=None, left=None, loss=None, step=3)
    assert _state(replace(status, running=early)) == "epoch 1 of 74"
    assert _state(RunStatus("D-384", "waits", "D-256", None, 7.25, {}, ())) == "waits for D-256"
    assert _state(RunStatus("D-384", "trained", "", None, 7.25, {}, ())) == "trained, error 7.2 %"


def row(text: str, run: str) -> list[str]:
    """A run's cells."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {run} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_the_whole_way_of_a_run(tmp_path: Path) -> None:
    folder = tiny_clone(tmp_path / "clone")
    assert "nothing is prepared yet" in call(folder, "vgg-repro", "status")
    call(folder, "vgg-repro", "prepare")
    text = call(folder, "vgg-repro", "status")
    assert "40 training and 40 validation images of 51 classes, prepared" in text
    assert row(text, "A-256")[1] == "ready" and row(text, "B-256")[1] == "waits for A-256"

    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 100_000
    params["profiles"]["mini"]["train"]["patience"] = 1_000_000
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    trains = begin(folder, "vgg-repro", "train", "A-256")
    try:
        words = ""

        def has_begun() -> bool:
            nonlocal words
            words = row(call(folder, "vgg-repro", "status"), "A-256")[1]
            assert trains.poll() is None, words
            return words.startswith("epoch")

        wait_for(lambda: any(folder.glob("checkpoints/*/progress.json")) or trains.poll() is not None, 900)
        wait_for(has_begun, 900)  # a shared machine may stand still for minutes
        assert "of 100000" in words and "left" in words and "error" in words
    finally:
        trains.send_signal(signal.SIGTERM)
        trains.wait()
    words = row(call(folder, "vgg-repro", "status"), "A-256")[1]
    assert words.startswith("stopped in epoch") and "of 100000" in words

    params["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert row(call(folder, "vgg-repro", "status"), "A-256")[1] == "ready", "that checkpoint is of another schedule"
    call(folder, "dvc", "repro", "shallow")
    text = call(folder, "vgg-repro", "status")
    error = json.loads((folder / "weights/trained/B-256.json").read_text())["centre_crop"]["top1"]
    name, state, one, three, crops, centre, tables = row(text, "B-256")
    learns = state.removesuffix(", does not learn")  # one epoch may leave it at chance
    assert (name, learns) == ("B-256", f"trained, error {error:.1f} %")
    assert (one, three, crops, tables) == ("–", "–", "", "shallow") and centre.endswith("%")
    assert "done shallow" in text


def test_a_broken_result_is_named_with_the_command_that_makes_it_again(folder: Path) -> None:
    params = repository_params(folder)
    forecast = {name: StageForecast(name, frozenset(), "done", "") for name in ("train@A-256", "dense@A-256")}
    summary("A-256").parent.mkdir(parents=True)
    summary("A-256").write_text("{")
    with pytest.raises(Failure, match=r"A-256.json is not valid JSON .*make it again with: vgg-repro train A-256"):
        _run(params, "A-256", forecast, None, {}, {})


def test_a_run_has_the_errors_of_finished_tables_and_no_best_of_its_test_scales(folder: Path) -> None:
    params = repository_params(folder)
    done = ("train@D-384", "dense@D-384")
    forecast = {name: StageForecast(name, frozenset(), "done", "") for name in done}
    write_json(summary("D-384"), {"centre_crop": {"top1": 5.0}, "stalled_epochs": 0, "epochs": 3})
    row = {"scores": ["dense@D-384"], "ours": {"top1": {"error": 7.5}}}
    shown = {"table4": {"rows": [{"scores": [], "ours": None}, row]}}
    assert _run(params, "D-384", forecast, None, {}, shown).scores == {"dense, one Q": "scored", "dense, three Q": 7.5}
    forecast["dense@D-384"] = StageForecast("dense@D-384", frozenset(), "run", "something")
    assert set(_run(params, "D-384", forecast, None, {}, shown).scores.values()) == {"to do"}


def test_a_stalled_run_and_those_that_start_from_it_are_named(rng: np.random.Generator) -> None:
    learning = a_run(rng, at_chance=STALLED - 1)
    assert "learn" not in _state(RunStatus("A-256", "training", "", learning, None, {}, ()))
    trained = RunStatus("A-256", "trained", "", None, 90.0, {}, (), stalled=True)
    assert _state(trained) == "trained, error 90.0 %, does not learn"
    training = RunStatus("A-256", "training", "", a_run(rng), None, {}, (), stalled=True)
    assert ", does not learn, at most" in _state(training)
    assert _state(replace(training, running=a_run(rng, left=None))).endswith(", does not learn")
    whole = Status("mini", "trained", None, True, "", [trained], {}, (), {"A-256": ("A-384", "D-256"), "B-256": ("x",)})
    text = text_of(whole)
    assert "do not learn: A-256 (A-384, D-256 start from it); B-256 (x starts from it)." in text
    assert "learn" not in text_of(replace(whole, runs=[], from_stalled={}))


def test_those_that_start_from_a_stalled_run_are_found_through_others(folder: Path) -> None:
    starts = {name: run.init for name, run in repository_params(folder).all_runs.items()}
    assert {"B-256", "D-256"} <= set(starting_from(starts, "A-256"))
    assert "D-384" in starting_from(starts, "A-256"), "D-384 starts from D-256"
    assert starting_from(starts, "shallow-256") == ()


def test_localisers_start_from_a_stalled_run_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = repository_params(folder)
    made = {stage: "done" if stage == "train@D-384" else "run" for stage in stages(params)}
    forecast = [StageForecast(stage, frozenset(), what, "") for stage, what in made.items()]
    monkeypatch.setattr(status_module, "forecasts", lambda *_: forecast)
    write_json(summary("D-384"), {"centre_crop": {"top1": 90.0}, "stalled_epochs": 3, "epochs": 3})
    (_, followers), *others = status_module.status(params).from_stalled.items()
    assert params.localises and {"PCR-384", "SCR-384-fc"} <= set(followers) and not others


def test_a_run_at_chance_counts_as_stalled() -> None:
    for at_chance, epochs, finished, stalled in (
        (0, 0, True, False), (0, 4, True, False), (4, 4, True, True), (3, 4, True, False), (STALLED, 74, True, True),
        (STALLED - 1, 74, True, False), (1, 1, False, False), (4, 4, False, False), (STALLED, STALLED, False, True),
    ):  # fmt: skip
        assert has_stalled(at_chance, epochs, finished) == stalled, (at_chance, epochs, finished)


def test_further_seeds_are_a_small_table_of_their_own() -> None:
    """One row per run of the grid and one column per seed, so that 46 runs stay readable."""
    names = ("A-256", "D-normal", "A-256-seed1", "D-384-seed1", "A-256-seed2")
    runs = [RunStatus(name, "trained", "", None, 20.0, {"dense, one Q": "scored"}, ()) for name in names]
    runs[3] = replace(runs[3], state="waits", after="D-256-seed1", scores={"dense, one Q": "to do"})
    text = text_of(Status("mini", "trained", None, True, "", runs, {}))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [row[0] for row in lines if not row[0].startswith(":")] == [
        *("run", "A-256", "D-normal"),
        *("run", "A-256", "D-384"),
    ]
    assert lines[4] == ["run", "seed 1", "seed 2"]
    assert lines[6][1] == "trained, error 20.0 %, scored"
    assert lines[7] == ["D-384", "waits for D-256-seed1", "–"]


def test_whoever_prepares_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = shards_root() / "key.lock"
    with alone(lock, "preparing"):
        process = holder(lock)
    assert holder(lock) is None and process is not None and str(os.getpid()) in process
    text = terminal(status_page(Status("mini", "trained", None, False, process, [], {}), {}))
    assert f"being prepared by {process.rstrip(',')}." in text
