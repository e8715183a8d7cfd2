"""Several processes on one net, by gloo on CPUs: they do as one does, die by name, and go on in other numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.distributed.launcher import api

from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from stages import distributed, prepare, score, train
from stages import random as random_weights
from stages.distributed import launch, processes, team
from stages.trainer import Trainer
from tests.support import ROOT, forks
from tests.support.clones import patience, wait_for
from tests.support.commands import hang_up_as_usual
from tests.support.training import tiny
from vgg.fit import State

WEIGHTS = Path("weights/trained/A-256.pt")
PROGRAM = [sys.executable, "-c", "from cli.main import main; main()", "train", "A-256", "--direct"]
IMAGES = 107  # a split: ten steps an epoch; for validation neither they nor their batches divide by the processes
STOP = 7  # steps, of 20
pytestmark = pytest.mark.slow  # each process takes some seconds to import torch


class Result(NamedTuple):
    """What a finished run leaves."""

    weights: dict[str, Tensor]
    rows: list[list[float]]  # step, epoch, loss, learning rate, top-1 and top-k error
    processes: int


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a launcher in this very process fork from a server that has imported torch; a program's launcher spawns."""
    forks.serve()
    usual, how = api.LaunchConfig, {"start_method": "forkserver"}
    monkeypatch.setattr(api, "LaunchConfig", lambda *words, **more: usual(*words, **more | how))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data and random weights of A."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(chosen())
        random_weights.main(chosen(), "A")
    return folder


@pytest.fixture(scope="module")
def alone(place: Path) -> Result:
    """20 steps in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return trained(chosen())


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is the current folder."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def chosen(processes: int | str = "auto", epochs: int = 2) -> Params:
    """The tiny parameters; a batch of 10 is 4, 3 and 3 images for three processes."""
    tiny(Path.cwd(), precision="float32", processes=processes)
    values = yaml.safe_load(Path("params.yaml").read_text())
    mini = values["profiles"]["mini"]
    mini["data"]["limit"] = IMAGES
    mini["recipes"]["scratch"] |= {"epochs": epochs, "first_drop": 0 if epochs == 2 else epochs}
    mini["score"] |= {"processes": processes, "precision": "float32", "batch": 7}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return load()


def trained(params: Params) -> Result:
    """Train to the end."""
    train.main(params, "A-256")
    return result()


def result() -> Result:
    """What the last run has left."""
    weights: dict[str, Tensor] = torch.load(WEIGHTS, weights_only=True)["weights"]
    lines = Path("weights/trained/A-256.csv").read_text().splitlines()[1:]
    record = json.loads(Path("provenance/train@A-256.json").read_text())
    return Result(weights, [list(map(float, line.split(","))) for line in lines], record["processes"])


def compare(found: Result, wanted: Result) -> None:
    """Layers agree to 1e-5 of their size, and what 20 steps have changed to 1e-3, for sums come in another order."""
    begun = layers(torch.load("weights/trained/random-A.pt", weights_only=True)["weights"])
    got = layers(found.weights)
    for name, value in layers(wanted.weights).items():
        apart = (got[name] - value).norm()
        assert apart <= 1e-5 * value.norm() and apart <= 1e-3 * (value - begun[name]).norm(), name
    np.testing.assert_allclose(found.rows, wanted.rows, rtol=1e-5)


def layers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each layer's weights and biases, which begin at zero, in one row."""
    names = dict.fromkeys(name.partition(".")[0] for name in weights)
    return {name: torch.cat([weights[f"{name}.{kind}"].flatten() for kind in ("weight", "bias")]) for name in names}


def test_processes_train_as_one_does(alone: Result) -> None:
    """With dropout, whose masks are the images', and with validation errors of all images, each counted once."""
    found = trained(chosen(3))
    assert (alone.processes, found.processes) == (1, 3)
    compare(found, alone)


@pytest.mark.exhaustive
def test_a_net_with_lrn_is_trained_together_too() -> None:
    """Its sums over channels are by a matrix, which is no weight that processes would send each other."""
    random_weights.main(chosen(), "A-LRN")
    found = []
    for count in (1, 2):
        train.main(chosen(count), "A-LRN-256")
        found.append(torch.load("weights/trained/A-LRN-256.pt", weights_only=True)["weights"])
    one, two = found
    for name, value in one.items():
        assert (two[name] - value).norm() <= 1e-5 * value.norm(), name


@pytest.mark.exhaustive  # as with several machines, the next test
def test_under_torchrun_the_same_command_is_one_of_its_processes(alone: Result) -> None:
    chosen()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    subprocess.run([*torchrun, *PROGRAM[:-1]], check=True, timeout=patience(120))  # without --direct
    found = result()
    assert found.processes == 2
    compare(found, alone)


def test_several_machines_train_one_net(alone: Result, tmp_path: Path) -> None:
    """Two launchers, each in a clone of its own; the second has images, but neither checkpoint nor initial weights."""
    chosen()
    other = tmp_path / "other"
    shutil.copytree("data", other / "data")
    shutil.copy("params.yaml", other)
    WEIGHTS.unlink(missing_ok=True)
    meeting = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    machines = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(rank), "--no-python", *PROGRAM[:-1]], cwd=folder, env=environment
        )
        for rank, folder in enumerate((Path.cwd(), other))
    ]
    assert [machine.wait(patience(300)) for machine in machines] == [0, 0]
    assert not (other / "weights").exists(), "the first process alone writes"
    compare(result(), alone)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def stopped(params: Params) -> None:
    """One process of a run that somebody stops."""
    real = Trainer._after_step

    def ask(self: Trainer, state: State, loss: float, stop: bool) -> None:
        asked = self.ranks.rank == self.ranks.size - 1  # whoever it is, all stop
        self.stop = state.step == STOP - 1 and asked
        real(self, state, loss, stop)

    Trainer._after_step = ask  # type: ignore[method-assign]
    try:
        train.main(params, "A-256")
    finally:
        Trainer._after_step = real  # type: ignore[method-assign]


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.exhaustive)])
def test_a_run_goes_on_in_another_number_of_processes(before: int, after: int, alone: Result) -> None:
    with pytest.raises(Interrupted, match=f"A-256 stopped at step {STOP};"):
        launch(before, "train A-256", stopped, chosen(before))
    compare(trained(chosen(after)), alone)


def test_processes_count_each_validation_image_once(alone: Result) -> None:
    found = []
    for count in (1, 2):
        score.main(chosen(count), "A-256", "dense")
        with np.load("scores/dense-A-256.npz") as file:
            found.append({name: file[name] for name in file.files})
        assert json.loads(Path("provenance/dense@A-256.json").read_text())["processes"] == count
    one, two = found
    assert len(one["labels"]) == IMAGES and one.keys() == two.keys()
    for name, values in one.items():
        assert np.array_equal(values, two[name]), name  # each batch is computed as one process does it


def failing(message: str) -> None:
    """Fails in the second process, while the first waits for it."""
    with team(torch.device("cpu")) as ranks:
        if not ranks.first:
            raise Failure(message)
        ranks.summed(torch.zeros(1))


def test_a_failure_in_one_process_is_told_with_its_place() -> None:
    with pytest.raises(Failure, match=r"work: process 2 of 2: the disk is full, and mended by") as raised:
        launch(2, "work", failing, "the disk is full, and mended by making room")
    assert "Connection" not in str(raised.value)


def breaking() -> None:
    """Something goes wrong in the second process that nobody expects, while the first waits for it."""
    with team(torch.device("cpu")) as ranks:
        if not ranks.first:
            distributed.LINGER = 0  # it has lost nobody
            raise KeyError("a key")
        ranks.summed(torch.zeros(1))


def test_an_unexpected_error_in_one_process_is_kept_with_its_traceback() -> None:
    shutil.rmtree("logs", ignore_errors=True)
    with pytest.raises(Failure, match=r"process 2 of 2: unexpected KeyError: 'a key' \(traceback: logs/") as raised:
        launch(2, "work", breaking)
    (log,) = Path("logs").iterdir()
    assert str(log) in str(raised.value) and "in breaking" in log.read_text()


def test_auto_is_one_process_a_gpu_and_one_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes("auto", "cpu") == 1 and processes(3, "cpu") == 3
    monkeypatch.setattr("stages.distributed.gpu_count", lambda choice: 8 * (choice != "cpu"))
    assert processes("auto", "auto") == 8 and processes("auto", "cpu") == 1 and processes(2, "auto") == 2
    assert processes(9, "auto") == 8, "NCCL has no two processes on a GPU"


def begin(count: int, *before: str) -> subprocess.Popen[str]:
    """A training run of 500 epochs in `count` processes, going on by itself; `before` starts it."""
    shutil.rmtree("checkpoints", ignore_errors=True)
    chosen(count, epochs=500)
    return subprocess.Popen([*before, *PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, preexec_fn=hang_up_as_usual)  # fmt: skip


def below(pid: int) -> list[int]:
    """The processes that `pid` has started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(path.parent.name)
            found += [child, *below(child)]
    return found


def first() -> int:
    """The process of rank 0, as it says itself."""
    (said,) = Path("checkpoints").glob("*/progress.json")
    return int(json.loads(said.read_text())["process"])


def step() -> int:
    """How far rank 0 says that it is."""
    (said,) = Path("checkpoints").glob("*/progress.json")
    return int(json.loads(said.read_text())["step"])


def others(pid: int) -> list[int]:
    """The processes that train with rank 0."""
    spawned = [one for one in below(pid) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return [one for one in spawned if one != first()]


def checkpoint() -> list[Path]:
    """The checkpoint, if there is one."""
    return list(Path("checkpoints").glob("A-256*/last.pt"))


def gone(pids: list[int]) -> bool:
    """Whether none of them runs; one that has ended may wait for somebody to notice."""
    return not any(state(pid) not in ("", "Z") for pid in pids)


def state(pid: int) -> str:
    """What /proc says a process does; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_second_run_is_refused_and_a_process_that_dies_ends_the_first_by_name(rng: np.random.Generator) -> None:
    child, victim = begin(2), int(rng.integers(2))
    wait_for(checkpoint, 120)
    with pytest.raises(Failure, match="another process is already training A-256"):
        trained(chosen(1, epochs=500))
    started = below(child.pid)
    os.kill([first(), *others(child.pid)][victim], signal.SIGKILL)
    _, said = child.communicate(timeout=patience(90))
    assert child.returncode == 1
    assert f"train A-256: process {victim + 1} of 2" in said and "killed by SIGKILL" in said, said
    assert len(said.splitlines()) == 1, said
    assert checkpoint()
    wait_for(lambda: gone(started), 10)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.exhaustive)])
def test_interrupted_all_end_with_a_checkpoint(number: signal.Signals) -> None:
    """Ctrl-C and a logout, which reach the whole group at once."""
    child = begin(2)
    wait_for(checkpoint, 600)
    started = below(child.pid)
    os.killpg(child.pid, number)
    _, said = child.communicate(timeout=600)
    assert child.returncode == 130 and "A-256 stopped at step" in said, said
    if number != signal.SIGHUP:  # of which Python's tracker of semaphores dies with words that a logout takes along
        assert len(said.splitlines()) == 1, said
    wait_for(lambda: gone(started), 10)


def test_under_nohup_all_outlive_their_terminal_until_the_first_process_is_asked_to_end() -> None:
    """nohup has SIGHUP ignored, and torch's launcher would handle it all the same; SIGTERM it hands on."""
    child = begin(2, "nohup")
    wait_for(checkpoint, 600)
    started = below(child.pid)
    os.killpg(child.pid, signal.SIGHUP)
    before = step()
    wait_for(lambda: step() > before or child.poll() is not None, 600)
    assert child.poll() is None
    child.terminate()
    _, said = child.communicate(timeout=600)
    assert child.returncode == 130 and "A-256 stopped at step" in said, said
    assert [line for line in said.splitlines() if not line.startswith("nohup: ")] == [said.splitlines()[-1]], said
    wait_for(lambda: gone(started), 10)


def nothing() -> None:
    """No work."""


def test_what_signals_do_in_the_caller_stays_as_it_was() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    launch(1, "work", nothing)
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_launcher_killed_outright_takes_all_with_it() -> None:
    child = begin(2)
    wait_for(checkpoint, 120)
    started = below(child.pid)
    child.kill()
    child.communicate(timeout=patience(90))
    wait_for(lambda: gone(started), 30)
