"""Training as a stage: resumed after a kill or Ctrl-C it ends in the same bytes; what goes wrong is named."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.datasets.facts import read_facts, read_statistics
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.paths import checkpoints, provenance_record
from pipeline.experiment.validation import load
from pipeline.orchestration.heartbeat import asked, identity
from pipeline.orchestration.status import stalled_runs
from pipeline.system.atomic_files import sha256
from pipeline.system.locks import alone
from stages import prepare, random, train, trainer
from stages.common import load_tensors, save_tensors
from tests.support.clones import held, patience, wait_for
from tests.support.commands import hang_up_as_usual
from tests.support.images import USUAL, needs_dali
from tests.support.training import in_copy_of, tiny
from vgg.fit import State

PROGRAM = [sys.executable, "-c", "from cli.main import main; main()", "train", "A-256", "--direct"]
WEIGHTS = Path("weights/trained/A-256.pt")


@pytest.fixture
def params(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the prepared folder, which is the current one."""
    return in_copy_of(prepared, tmp_path, monkeypatch)


def undisturbed(params: Params) -> str:
    """The hash of the finished weights of a run that nobody disturbs."""
    train.main(params, "A-256")
    digest = sha256(WEIGHTS)
    WEIGHTS.unlink()
    return digest


def test_a_run_is_deterministic_and_leaves_no_checkpoint(params: Params) -> None:
    first = undisturbed(params)
    assert undisturbed(params) == first
    assert not list(Path("checkpoints").glob("*/*.pt"))
    summary = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert (summary["steps"], summary["epochs"], summary["drops"]) == (18, 3, 1)
    rows = WEIGHTS.with_suffix(".csv").read_text().splitlines()
    assert rows[0] == "step,epoch,loss,learning_rate,top1,topk"
    assert [row.split(",")[0] for row in rows[1:]] == ["6", "12", "18"]


def test_interrupted_at_any_step_it_ends_in_the_same_bytes(
    params: Params, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    expected = undisturbed(params)
    step = int(rng.integers(1, 18))
    real = trainer.Trainer._after_step

    def interrupt(self: trainer.Trainer, state: State, loss: float, stop: bool) -> None:
        if state.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, state, loss, stop)

    monkeypatch.setattr(trainer.Trainer, "_after_step", interrupt)
    with pytest.raises(Interrupted, match=f"step {step + 1};"):
        train.main(params, "A-256")
    monkeypatch.setattr(trainer.Trainer, "_after_step", real)
    train.main(params, "A-256")
    assert sha256(WEIGHTS) == expected, f"interrupted at step {step}"


def test_the_time_of_a_run_is_that_of_all_its_parts(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.Trainer._after_step
    monkeypatch.setattr(trainer.Trainer, "_after_step", lambda self, state, loss, stop: real(self, state, loss, True))
    with pytest.raises(Interrupted):
        train.main(params, "A-256")
    (path,) = Path("checkpoints").glob("*/last.pt")
    checkpoint = load_tensors(path, "")
    assert checkpoint["seconds"] > 0
    save_tensors(path, {**checkpoint, "seconds": 5000.0})
    with pytest.raises(Interrupted):
        train.main(params, "A-256")
    assert load_tensors(path, "")["seconds"] > 5000
    monkeypatch.setattr(trainer.Trainer, "_after_step", real)
    train.main(params, "A-256")
    assert json.loads(provenance_record("train@A-256").read_text())["seconds"] > 5000


def test_validation_decodes_its_images_once_if_their_crops_take_few_bytes(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history is the same as if they were decoded at each of the three epochs."""
    decoded, histories, rescaled = list[int](), list[str](), trainer.rescaled_batches

    def counted(images: Any, *more: Any, **how: Any) -> Any:
        decoded.append(len(images))
        return rescaled(images, *more, **how)

    monkeypatch.setattr(trainer, "rescaled_batches", counted)
    size = read_statistics().val * 3 * params.active.net.crop**2
    for kept, times in ((size, 1), (size - 1, 3)):
        monkeypatch.setattr(trainer, "KEPT", kept)
        undisturbed(params)
        histories.append(WEIGHTS.with_suffix(".csv").read_text())
        assert len(decoded) == times
        decoded.clear()
    assert histories[0] == histories[1]


def test_ctrl_c_says_where_it_stopped_and_ends_with_130(params: Params) -> None:
    endless()
    with subprocess.Popen(PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        wait_for_checkpoint()
        child.send_signal(signal.SIGINT)
        _, message = child.communicate(timeout=patience(60))
    assert child.returncode == 130
    assert "A-256 stopped at step" in message


@needs_dali
def test_a_run_is_not_resumed_with_another_decoder_without_a_word(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.Trainer._after_step
    monkeypatch.setattr(trainer.Trainer, "_after_step", lambda self, state, loss, _: real(self, state, loss, True))
    with pytest.raises(Interrupted, match="step 1;"):
        train.main(params, "A-256")
    monkeypatch.setattr(trainer.Trainer, "_after_step", real)
    other = params.model_copy(update={"decoder": "pillow"})
    words = "prepared with the decoder dali, but decoder: pillow in params.yaml means pillow here"
    with pytest.raises(Failure, match=words):
        train.main(other, "A-256")
    prepare.main(other)
    train.main(other, "A-256")
    printed = capsys.readouterr().out
    assert "belongs to other parameters or data (decoded by dali, not pillow)" in printed and "resumed" not in printed
    record = json.loads(provenance_record("train@A-256").read_text())
    assert record["decoder"] == "pillow" and record["versions"].keys() >= {"simplejpeg", "pillow"}
    with pytest.raises(Failure, match=r"with the decoder pillow, but decoder: auto in params\.yaml means dali"):
        train.main(params, "A-256")


def test_processes_with_different_decoders_do_not_train_together(params: Params) -> None:
    ranks: Any = SimpleNamespace(rank=1, size=2, first=False, broadcast_object=lambda _: "another")
    settings = params, "A-256", read_statistics(), torch.device("cpu"), Path("checkpoints/x"), ranks
    with pytest.raises(Failure, match=f"the first process decodes with another, this one with {USUAL}"):
        trainer.Trainer(*settings).begin()


def endless() -> None:
    """Have it train until it is asked to end."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"] |= {"epochs": 9999, "first_drop": 9999}
    Path("params.yaml").write_text(yaml.safe_dump(values))


def wait_for_checkpoint() -> None:
    """Return as soon as there is a checkpoint."""
    wait_for(lambda: list(Path("checkpoints").glob("*/last.pt")), 600)


@pytest.mark.exhaustive  # as in tests/whole/test_kills.py
def test_killed_outright_it_goes_on_from_its_checkpoint(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    expected = undisturbed(params)
    program = held(Path.cwd(), "names[-1] == 'last.pt' and names.count('last.pt') == 2")
    with subprocess.Popen([program, *PROGRAM[3:]], stdout=subprocess.PIPE) as child:
        wait_for(Path("held").exists, 600)
        child.kill()
    assert not WEIGHTS.exists()
    train.main(params, "A-256")
    assert "resumed at step" in capsys.readouterr().out
    assert sha256(WEIGHTS) == expected


def test_with_its_terminal_gone_it_ends_with_a_checkpoint(params: Params) -> None:
    """As at a logout: nobody reads the terminal any more, and its processes get SIGHUP."""
    endless()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        PROGRAM, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=hang_up_as_usual
    ) as child:
        os.close(theirs)
        wait_for_checkpoint()
        os.close(ours)
        os.killpg(child.pid, signal.SIGHUP)
        assert child.wait(600) == 130
    check_saved_when_it_stopped()


def check_saved_when_it_stopped() -> None:
    """The checkpoint is of the step after which training says that it stopped."""
    import torch

    (progress,), (checkpoint,) = Path("checkpoints").glob("*/progress.json"), Path("checkpoints").glob("*/last.pt")
    assert torch.load(checkpoint, weights_only=True)["state"]["step"] == json.loads(progress.read_text())["step"]


def test_under_nohup_it_outlives_its_terminal(params: Params) -> None:
    """nohup has SIGHUP ignored, and stays so."""
    endless()
    with subprocess.Popen(["nohup", *PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        wait_for_checkpoint()
        child.send_signal(signal.SIGHUP)
        (checkpoint,) = Path("checkpoints").glob("*/last.pt")
        before = checkpoint.stat().st_mtime_ns
        wait_for(lambda: checkpoint.stat().st_mtime_ns > before or child.poll() is not None, 600)
        assert child.poll() is None
        child.terminate()
        child.communicate(timeout=600)
    assert child.returncode == 130


def test_started_by_dvc_it_ends_in_order_with_the_terminal(params: Params) -> None:
    endless()
    environment = {**os.environ, "DVC_STAGE": "train@A-256"}
    with subprocess.Popen(PROGRAM, env=environment, preexec_fn=hang_up_as_usual) as child:
        wait_for_checkpoint()
        child.send_signal(signal.SIGHUP)
        assert child.wait(600) == 130
    check_saved_when_it_stopped()


def test_another_parameter_is_another_checkpoint(params: Params, tmp_path: Path) -> None:
    statistics = read_statistics()
    first = identity(params, "A-256", statistics)
    assert identity(tiny(tmp_path, momentum=0.8), "A-256", statistics) != first
    assert identity(tiny(tmp_path), "A-256", statistics) == first


def test_what_people_read_of_the_images_is_no_part_of_a_runs_identity(params: Params) -> None:
    first, facts = identity(params, "A-256", read_statistics()), read_facts("mini")
    words = {"source": "elsewhere", "about": "other words", "comparable": True, "rescaled": 7, "wnids": ["n1", "n2"]}
    replace(facts, **words, classes=[f"class {name}" for name in facts.classes]).write("mini")
    assert identity(params, "A-256", read_statistics()) == first
    replace(facts, manifest="other images").write("mini")
    assert identity(params, "A-256", read_statistics()) != first


def test_threads_device_and_processes_are_no_part_of_a_runs_identity(params: Params, tmp_path: Path) -> None:
    first = identity(params, "A-256", read_statistics())
    other = tiny(tmp_path, threads=7, device="auto", processes=3)
    assert identity(other, "A-256", read_statistics()) == first
    assert asked(other, "A-256") == asked(params, "A-256")


def test_a_checkpoint_of_other_parameters_is_named_and_stays(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = checkpoints("A-256", identity(tiny(tmp_path, momentum=0.8), "A-256", read_statistics()))
    other = checkpoints("A-LRN-256", "0123456789ab")
    for folder in (old, other):
        folder.mkdir(parents=True)
        (folder / "last.pt").write_bytes(bytes(2_500_000))
    train.main(tiny(tmp_path), "A-256")
    data = "data" if USUAL == "dali" else f"data (decoded by dali, not {USUAL})"
    named = [line for line in capsys.readouterr().out.splitlines() if "checkpoint" in line]
    assert named == [
        f"A-256: the checkpoint in {old} (2.5 MB) belongs to other parameters or {data} and may be deleted, "
        "unless you set those back"
    ]
    assert (old / "last.pt").exists()


def test_two_at_once_the_second_says_who_is_at_work(params: Params) -> None:
    folder = checkpoints("A-256", identity(params, "A-256", read_statistics()))
    with alone(folder / "lock", "training"), pytest.raises(Failure, match="already"):
        train.main(params, "A-256")


def test_a_loss_that_is_not_finite_stops_by_name_with_advice(params: Params, tmp_path: Path) -> None:
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"]["learning_rate"] = 1000000.0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(Failure, match=r"A-256: the loss is .* learning_rate"):
        train.main(load(tmp_path / "params.yaml"), "A-256")


def test_missing_initial_weights_name_the_command_that_makes_them(params: Params) -> None:
    with pytest.raises(Failure, match="vgg-repro train A-256"):
        train.main(params, "D-256")
    Path("weights/trained/random-A.pt").unlink()
    with pytest.raises(Failure, match="vgg-repro weights random A"):
        train.main(params, "A-256")


def test_a_net_that_does_not_learn_is_said_to_stall(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"] |= {"learning_rate": 0.000000001, "epochs": 6}
    values["profiles"]["mini"]["net"]["last_std"] = 0.00001  # so that it guesses blindly
    Path("params.yaml").write_text(yaml.safe_dump(values))
    blind = load(Path("params.yaml"))
    random.main(blind, "A")
    train.main(blind, "A-256")
    assert capsys.readouterr().out.count("the net is not learning") == 2, "when it is noticed, and at the end"
    assert stalled_runs(blind) == ["A-256"]
    train.main(blind, "B-256")
    said = capsys.readouterr().out
    assert "B-256: warning: it starts from A-256, whose net did not learn" in said
    assert json.loads(Path("weights/trained/B-256.json").read_text())["init_stalled"] is True


def test_a_short_run_at_chance_is_said_to_stall_at_its_end(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"] |= {"learning_rate": 0.000000001, "epochs": 2}
    values["profiles"]["mini"]["net"]["last_std"] = 0.00001
    Path("params.yaml").write_text(yaml.safe_dump(values))
    blind = load(Path("params.yaml"))
    random.main(blind, "A")
    train.main(blind, "A-256")
    assert "for 2 epochs: the net is not learning" in capsys.readouterr().out


def test_a_run_that_learns_has_the_summary_of_before(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    train.main(params, "A-256")
    train.main(params, "B-256")
    summary = json.loads(Path("weights/trained/B-256.json").read_text())
    assert "init_stalled" not in summary
    assert "not learn" not in capsys.readouterr().out
    assert stalled_runs(params) == []


def test_fine_tuning_the_fc_layers_leaves_the_convolutions_as_they_are(params: Params) -> None:
    import torch

    train.main(params, "A-256")
    layers = params.runs["A-256"].model_copy(update={"layers": "fc", "init": "A-256"})
    again = params.model_copy(update={"runs": {**params.runs, "A-fc": layers}})
    train.main(again, "A-fc")
    before, after = (torch.load(f"weights/trained/{name}.pt")["weights"] for name in ("A-256", "A-fc"))
    same = {key: torch.equal(before[key], after[key]) for key in before}
    assert {key for key, equal in same.items() if not equal} == {key for key in same if key.startswith("fc")}
