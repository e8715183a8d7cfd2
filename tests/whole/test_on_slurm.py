"""The real program with its long stages as jobs of a real Slurm: the same bytes as here, whatever happens between."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.system.atomic_files import sha256
from pipeline.system.locks import holder
from tests.support.clones import call, copied, patience, tiny_clone
from tests.support.commands import MarkedCommand, until
from tests.support.slurm import Slurm

pytestmark = pytest.mark.cluster
PATIENCE = patience(900)  # seconds for what takes a minute on an idle machine
JOB = Path("checkpoints/jobs/train@A-256")
WEIGHTS, SCORES = Path("weights/trained/A-256.pt"), Path("scores/dense-A-256.npz")
SETTINGS = "defaults: {{partition: long, time: 10, notice: 30, cpus: 1, nodes: {nodes}}}\ntrain:\nscore:\npoll: 2\n"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with images and random weights, in which A-256 trains for some seconds."""
    folder = tiny_clone(tmp_path_factory.mktemp("ready") / "clone")
    _train(folder, processes=1, epochs=40)
    (folder / "slurm.yaml").write_text(SETTINGS.format(nodes=1))
    call(folder, "dvc", "repro", "random@A")
    return folder


@pytest.fixture(scope="module")
def local(ready: Path) -> dict[Path, str]:
    """The hashes of what this machine makes without a cluster."""
    folder = copied(ready, ready.parent / "local")
    call(folder, "dvc", "repro", "dense@A-256")
    return {path: sha256(folder / path) for path in (WEIGHTS, SCORES)}


class SlurmClone:
    """A copy of that clone, and the commands in it, each as a process of its own."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        self.folder, self.slurm, self.commands = folder, slurm, list[MarkedCommand]()

    def begin(self, *words: str, **variables: str) -> MarkedCommand:
        """Start a command."""
        self.commands.append(MarkedCommand(self.folder, *words, **self.slurm.variables, **variables))
        return self.commands[-1]

    def finish(self, command: MarkedCommand) -> str:
        """Wait for a command's good end, which takes a minute on an idle machine; return what it has said."""
        assert command.ends(PATIENCE), command.said
        return command.finish()

    @property
    def number(self) -> str:
        """Return the number of the job that trains, once it has one."""
        until("the job", (self.folder / JOB / "number").exists, PATIENCE)
        return (self.folder / JOB / "number").read_text()

    def has_saved(self) -> None:
        """Wait until the job has written a checkpoint."""
        until("a checkpoint", lambda: [*self.folder.glob("checkpoints/A-256-*/last.pt")], PATIENCE)


@pytest.fixture
def clone(ready: Path, slurm: Slurm, tmp_path: Path) -> Iterator[SlurmClone]:
    """A clone in which A-256 can be trained."""
    made = SlurmClone(copied(ready, tmp_path / "clone"), slurm)
    yield made
    for command in made.commands:
        command.clear()
    slurm.clear()


def test_dvc_repro_with_a_preempted_job_makes_the_same_bytes(clone: SlurmClone, local: dict[Path, str]) -> None:
    repro = clone.begin("dvc", "repro", "dense@A-256", VGG_REPRO_CLUSTER="slurm")
    clone.has_saved()
    status = call(clone.folder, "vgg-repro", "status", **clone.slurm.variables)
    assert f"job {clone.number} running on " in status
    clone.slurm.preempt(clone.slurm.field(clone.number, "NodeList"))
    until("the job to wait", lambda: clone.slurm.state(clone.number) == "PENDING", PATIENCE)
    clone.slurm.hurry(clone.number)
    said = clone.finish(repro)
    assert "A-256: resumed at step" in said and "A-256 dense: top-1 error" in said
    assert {path: sha256(clone.folder / path) for path in local} == local
    assert not (clone.folder / JOB / "kept").exists()


def test_run_is_killed_and_joined_and_interrupted_and_resumed(clone: SlurmClone, local: dict[Path, str]) -> None:
    run = ("vgg-repro", "run", "A-256", "--slurm")
    killed = clone.begin(*run)
    clone.has_saved()
    number = clone.number
    clone.slurm.call("scontrol", "suspend", number)  # so that it does not finish meanwhile
    assert killed.kill(group=False)
    until("the rest of the head to end", lambda: holder(clone.folder / JOB / "lock") is None, PATIENCE)
    assert clone.slurm.state(number) == "SUSPENDED"
    joined = clone.begin(*run)
    until("the job to be joined", lambda: f"job {number} does this already" in joined.said, PATIENCE)
    clone.slurm.call("scontrol", "resume", number)
    joined.child.send_signal(signal.SIGINT)
    assert joined.ends(PATIENCE) and joined.child.returncode == 130, joined.said
    assert "A-256 stopped at step" in joined.said, joined.said
    assert clone.slurm.state(number) != "RUNNING"
    assert "A-256: resumed at step" in clone.finish(clone.begin(*run))
    assert clone.number != number and sha256(clone.folder / WEIGHTS) == local[WEIGHTS]


def test_two_nodes_train_as_two_processes_here(clone: SlurmClone) -> None:
    (clone.folder / "slurm.yaml").write_text(SETTINGS.format(nodes=2))
    _train(clone.folder, processes=1, epochs=2)
    here = copied(clone.folder, clone.folder.with_name("here"))
    repro = clone.begin("dvc", "repro", "train@A-256", VGG_REPRO_CLUSTER="slurm")
    assert "running on n[1-2]" in clone.finish(repro)
    _train(here, processes=2, epochs=2)
    call(here, "dvc", "repro", "train@A-256")
    assert sha256(clone.folder / WEIGHTS) == sha256(here / WEIGHTS)


def _train(folder: Path, processes: int, epochs: int) -> None:
    """Have A-256 trained for so many epochs, by so many processes on each machine."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["profiles"]["mini"]["train"]["processes"] = processes
    params["profiles"]["mini"]["recipes"]["scratch"] |= {"epochs": epochs, "first_drop": epochs}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
