"""The doctor: each check fails where it should and says what mends it; the command never ends with a traceback."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
import yaml
from ilsvrc import TRAIN, VAL, make
from pictures import ROOT
from typer.testing import CliRunner

import pipeline.sources
from cli.doctor import doctor
from pipeline import health
from pipeline.health import cache, data, disk, gpu, machine, probes, software, tracking
from pipeline.health.base import GIB, Check, Finding, Here
from pipeline.health.child import Child, DiedError
from pipeline.params import Params, load
from vgg.nets import NETS, VGG

INFINITE = resource.RLIM_INFINITY
GPU = {"name": "NVIDIA Test", "capability": [9, 0], "memory": 80 * GIB, "free": 79 * GIB}


class Answer:
    """A process that has answered, or died."""

    def __init__(self, said: dict[str, Any] | str) -> None:
        self.said = said

    def result(self) -> dict[str, Any]:
        if isinstance(self.said, str):
            raise DiedError(self.said)
        return self.said

    def end(self) -> None:
        pass


def torch_says(**changes: Any) -> Any:
    """What a sound torch on a CPU answers, with changes."""
    sound = {"version": "2.15.0", "cuda": "13.2", "torchvision": "", "parameters": dict.fromkeys(NETS, 1000)}
    return Answer({**sound, "gpus": [], "architectures": ["sm_90"], "why": "none", **changes})


def dali_says(apart: float = 0.0) -> Any:
    return Answer({"version": "2.4.0", "apart": apart})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with a commit, in which all is well."""
    folder = tmp_path / "a place"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "constraints.txt", ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copyfile(ROOT / ".dvc" / name, folder / ".dvc" / name)
    monkeypatch.chdir(folder)
    for name in ("VGG_REPRO_SHARDS", "CUDA_VISIBLE_DEVICES", "DVC_STAGE", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Begin"]):
        names = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *names, *words], check=True, capture_output=True)
    return folder


@pytest.fixture
def quick(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place, where torch and DALI need no processes and the machine has no GPU."""
    monkeypatch.setattr(health, "probe", lambda kind, *_: torch_says() if kind == "torch" else dali_says())
    monkeypatch.setattr(gpu, "driver", lambda: None)
    monkeypatch.setattr(machine, "available", lambda: 32 * GIB)
    monkeypatch.setattr(machine, "left_in_group", lambda: None)
    monkeypatch.setattr(machine, "SHARED", place.parent)
    return place


def change(**blocks: dict[str, object]) -> Params:
    """Write changes of the profile's blocks to params.yaml and read it."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    for name, block in blocks.items():
        values["profiles"]["mini"][name] |= block
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load()


def device(kind: str) -> Params:
    """Ask for this device in all steps."""
    return change(**{step: {"device": kind} for step in ("prepare", "train", "score")})


def here(params: Params | None = None, torch: Any = None, dali: Any = None) -> Here:
    return Here(params, torch or torch_says(), dali or dali_says())


def look(check: Check, at: Here) -> list[Finding]:
    return list(health._safely(check, at))


def only(check: Check, at: Here) -> Finding:
    (finding,) = look(check, at)
    return finding


def run(*words: str) -> Any:
    """The command as typer runs it."""
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(words))


# the command


def test_a_sound_place_ends_with_0_and_an_aligned_list(quick: Path) -> None:
    done = run()
    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.stdout
    assert "FAILURE" not in done.stdout
    marks = {line[14:22].strip() for line in lines[:-2] if not line.startswith(" ")}
    assert marks <= {"ok", "warning"}
    whats = {line[:14].strip() for line in lines[:-2]} - {""}
    assert whats >= {"params.yaml", "python", "packages", "images", "shards", "git", "dvc", "graph", "cache", "memory"}
    assert whats >= {"shared memory", "torch", "torchvision", "gpu", "dali", "precision", "disk"}
    assert lines[-1].endswith(" all well") or "warning" in lines[-1]


def test_a_failure_ends_with_1_and_is_counted_and_mended(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: GIB)
    done = run()
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("memory        FAILURE "))
    assert lines[at + 1].startswith(" " * 22 + "mend: ")
    assert "1 failure" in lines[-1]


def test_warnings_alone_end_with_0(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: 3 * GIB)
    done = run()
    assert done.exit_code == 0
    assert "memory        warning" in done.stdout
    assert "warning" in done.stdout.splitlines()[-1]


def test_the_real_command_asks_real_torch_and_dali(place: Path) -> None:
    device("cpu")
    code = "import typer; from cli.doctor import doctor; typer.run(doctor)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert "decodes on the CPU as Pillow does" in done.stdout
    assert "\ntorchvision   ok" in done.stdout
    assert "\ngraph         ok      50 stages" in done.stdout
    failures = [line for line in done.stdout.splitlines() if line[14:21] == "FAILURE"]
    assert done.returncode == bool(failures)


# broken surroundings: a message, exit code 1, no traceback, a mend a failure


class Sick(NamedTuple):
    """The place, and what it takes to spoil it."""

    place: Path
    rng: np.random.Generator
    patch: pytest.MonkeyPatch


def break_params(it: Sick) -> None:
    text = (it.place / "params.yaml").read_text()
    (it.place / "params.yaml").write_text(text.replace("momentum:", "momentun:"))


def cut_params(it: Sick) -> None:
    encoded = (it.place / "params.yaml").read_bytes()
    (it.place / "params.yaml").write_bytes(encoded[: int(it.rng.integers(0, encoded.index(b"profiles:")))])


def mark_lock(it: Sick) -> None:
    lines = (it.place / "dvc.lock").read_text().splitlines()
    at = int(it.rng.integers(3, len(lines) - 3))
    marked = [*lines[:at], "<<<<<<< HEAD", lines[at], "=======", lines[at + 1], ">>>>>>> other", *lines[at + 2 :]]
    (it.place / "dvc.lock").write_text("\n".join(marked) + "\n")


def fill_disk(it: Sick) -> None:
    full = os.statvfs_result((4096, 4096, 10**6, int(it.rng.integers(0, 10)), 0, 10**6, 10**5, 10**5, 0, 255))
    it.patch.setattr(os, "statvfs", lambda _: full)


def remove(name: str) -> Callable[[Sick], None]:
    return lambda it: shutil.rmtree(it.place / name) if (it.place / name).is_dir() else (it.place / name).unlink()


def write(name: str, text: str) -> Callable[[Sick], object]:
    return lambda it: (it.place / name).write_text(text)


def leave_nothing(it: Sick) -> None:
    shutil.rmtree(it.place)
    it.place.mkdir()
    it.patch.chdir(it.place)


def make_folder(it: Sick) -> None:
    (it.place / "params.yaml").unlink()
    (it.place / "params.yaml").mkdir()


BROKEN: dict[str, tuple[Callable[[Sick], object], str]] = {
    "invalid params": (break_params, "momentun"),
    "params cut short": (cut_params, "params.yaml   FAILURE"),
    "params of noise": (lambda it: (it.place / "params.yaml").write_bytes(b"\xff" + it.rng.bytes(200)), "is not YAML"),
    "no params": (remove("params.yaml"), "there is no params.yaml here"),
    "params is a folder": (
        lambda it: (remove("params.yaml")(it), (it.place / "params.yaml").mkdir()),
        "cannot be read",
    ),
    "no git": (remove(".git"), "this is no git repository"),
    "no .dvc": (remove(".dvc"), "there is no .dvc here"),
    "no dvc.yaml": (remove("dvc.yaml"), "there is no dvc.yaml here"),
    "dvc.yaml of no graph": (write("dvc.yaml", "stages: 3\n"), "graph         FAILURE"),
    "dvc.yaml empty": (write("dvc.yaml", ""), "dvc.yaml has no stages"),
    "no YAML in dvc.yaml": (write("dvc.yaml", "a: [\n"), "graph         FAILURE"),
    "configuration of DVC": (write(".dvc/config", "[core\n"), "dvc           FAILURE"),
    "a conflict": (mark_lock, "dvc.lock has the marks of a merge in it"),
    "a full disk": (fill_disk, "disk          FAILURE"),
    "all gone": (leave_nothing, "dvc           FAILURE"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_surroundings_are_explained(
    quick: Path, what: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, message = BROKEN[what]
    spoil(Sick(quick, rng, monkeypatch))
    done = run()
    assert done.exit_code == 1
    assert message in done.stdout
    assert "Traceback" not in done.output
    assert "the check itself ended" not in done.stdout, done.stdout
    assert isinstance(done.exception, SystemExit)
    lines = done.stdout.splitlines()
    failures = [number for number, line in enumerate(lines) if line[14:22] == "FAILURE "]
    for number, end in pairwise([*failures, len(lines)]):
        assert any(line.startswith(" " * 22 + "mend: ") for line in lines[number:end]), lines[number]


def test_without_params_what_needs_them_is_said_to_be_skipped(quick: Path) -> None:
    (quick / "params.yaml").write_text("profile: mini\n")
    skipped = {one.what for one in health.findings() if one.says == "skipped: it needs a valid params.yaml"}
    assert skipped == {"images", "shards", "nets", "graph", "precision"}


def test_in_another_folder_the_way_to_the_root_is_said(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (quick / "below").mkdir()
    monkeypatch.chdir(quick / "below")
    assert next(health.findings()).mend == f"cd '{quick}'"


def test_a_check_that_ends_unexpectedly_is_a_failure(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: 1 // 0)
    found = {one.what: one for one in health.findings()}
    assert found["memory"].state == "failure"
    assert "ZeroDivisionError" in found["memory"].says and "test_doctor.py" in found["memory"].says
    assert found["disk"].state != "failure", "the others are made all the same"


# what is installed


def test_python_that_is_too_old(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(software.python, here()).state == "ok"
    monkeypatch.setattr(software.platform, "python_version", lambda: "3.9.1")
    assert only(software.python, here()).state == "failure"


@pytest.mark.parametrize(("found", "says"), [("", "torch is missing"), ("1.0", "torch is 1.0, not >=")])
def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch, found: str, says: str) -> None:
    true = software.installed
    assert only(software.packages, here()).state == "ok"
    monkeypatch.setattr(software, "installed", lambda name: found if name == "torch" else true(name))
    finding = only(software.packages, here())
    assert finding.state == "failure" and says in finding.says and finding.mend.startswith("pip install")


def test_other_versions_than_were_tested(place: Path, rng: np.random.Generator) -> None:
    tested = dict(line.split("==") for line in Path("constraints.txt").read_text().splitlines() if "==" in line[1:40])
    present = [name for name in tested if software.installed(name)]
    Path("constraints.txt").write_text("".join(f"{name}=={software.installed(name)}\n" for name in present))
    assert only(software.versions, here()).state == "ok"
    name = present[int(rng.integers(len(present)))]
    Path("constraints.txt").write_text(f"{name}==0.0.1\nnot-installed-at-all==3\n")
    finding = only(software.versions, here())
    assert finding.state == "warning" and finding.says.endswith(f": {name} is {software.installed(name)}, not 0.0.1")


def test_a_build_of_the_same_version_is_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("constraints.txt").write_text("torch==2.15.0\n")
    monkeypatch.setattr(software, "installed", lambda _: "2.15.0+cpu")
    assert only(software.versions, here()).state == "ok"


def test_a_program_that_dvc_would_not_find(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(software.program, here()).state == "ok"
    monkeypatch.setenv("PATH", str(place))
    finding = only(software.program, here())
    assert finding.state == "warning" and "would not find" in finding.says and "activate" in finding.mend
    (place / "vgg-repro").write_text("#!/bin/sh\n")
    (place / "vgg-repro").chmod(0o755)
    assert f"would run {place / 'vgg-repro'}" in only(software.program, here()).says


def test_torch_that_does_not_start_and_torchvision_that_does_not_fit() -> None:
    finding = only(software.torch, here(torch=Answer("no libtorch")))
    assert finding.state == "failure" and "no libtorch" in finding.says and "--force-reinstall" in finding.mend
    finding = look(software.torch, here(torch=torch_says(torchvision="nms does not exist")))[1]
    assert finding.state == "failure" and "nms does not exist" in finding.says


# processes


def test_processes_answer_die_and_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(code: str) -> Child:
        return Child([sys.executable, "-c", code])

    assert begun("print('noise'); print('{\"a\": 1}')").result() == {"a": 1}
    for code, why in (
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit('no such library')", "no such library"),
        ("print('no JSON')", "it said nothing"),
    ):
        child = begun(code)
        for _ in range(2):
            with pytest.raises(DiedError, match=why):
                child.result()
    monkeypatch.setattr("pipeline.health.child.PATIENCE", 0.1)
    slow = begun("import time; time.sleep(60)")
    with pytest.raises(DiedError, match="no answer"):
        slow.result()
    assert slow.process.poll() is not None


def test_findings_end_their_processes_when_nobody_asks_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Child] = []

    def sleeping(*_: str) -> Child:
        begun.append(Child([sys.executable, "-c", "import time; time.sleep(60)"]))
        return begun[-1]

    monkeypatch.setattr(health, "probe", sleeping)
    said = health.findings()
    next(said), next(said)
    said.close()
    assert len(begun) == 2 and all(child.process.poll() is not None for child in begun)


def test_torch_counts_the_weights_of_each_net() -> None:
    wanted = {net: sum(p.numel() for p in VGG(net, 10, 96, 0.125, 256).parameters()) for net in NETS}
    assert probes._parameters({"classes": 10, "crop": 96, "width": 0.125, "fc": 256}) == wanted


def test_torchvision_without_its_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes._torchvision() == ""
    monkeypatch.setattr("torchvision.ops.nms", refuse(errno.ENOSYS))
    assert probes._torchvision().startswith("OSError")


def test_dalis_pixels_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes.dali_answers(gpu=False)["apart"] < 1
    true = probes._decoded
    for spoil in (lambda pixels: pixels[..., ::-1], lambda pixels: pixels[:-1], lambda pixels: 0 * pixels):
        monkeypatch.setattr(probes, "_decoded", lambda encoded, gpu, spoil=spoil: spoil(true(encoded, gpu)))
        assert probes.dali_answers(gpu=False)["apart"] > gpu.LEVELS


# the GPU


def faked(monkeypatch: pytest.MonkeyPatch, version: str, cuda: gpu.Version | None, reachable: bool = True) -> None:
    monkeypatch.setattr(gpu, "driver", lambda: gpu.Driver(version, cuda, reachable))


@pytest.mark.parametrize(("asked", "state"), [("auto", "ok"), ("cpu", "ok"), ("gpu", "failure")])
def test_no_gpu_at_all(place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, state: str) -> None:
    monkeypatch.setattr(gpu, "driver", lambda: None)
    finding = only(gpu.gpu, here(device(asked)))
    assert finding.state == state
    assert ("device: auto in profiles.mini.prepare, profiles.mini.train" in finding.mend) == (state == "failure")


@pytest.mark.parametrize(("asked", "state"), [("auto", "warning"), ("cpu", "ok"), ("gpu", "failure")])
def test_a_driver_that_is_too_old(place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, state: str) -> None:
    faked(monkeypatch, "550.54.14", (12, 4))
    finding = only(gpu.gpu, here(device(asked)))
    assert finding.state == state
    if state != "ok":
        assert "torch needs CUDA 13" in finding.says and "DALI needs CUDA 13" in finding.says
        assert "nvidia-driver-580" in finding.mend


def test_dali_alone_may_be_too_new_for_the_driver(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, "550.54.14", (12, 4))
    says = only(gpu.gpu, here(device("gpu"), torch_says(cuda="12.4"))).says
    assert "DALI needs" in says and "torch needs" not in says


@pytest.mark.parametrize(
    ("why", "mend"),
    [
        ("system has unsupported display driver / cuda driver combination (803)", "sudo reboot"),
        ("Torch not compiled with CUDA enabled", "--force-reinstall"),
        ("CUDA unknown error - this may be due to", "nvidia-modprobe"),
        ("something else", "sudo reboot"),
    ],
)
def test_a_gpu_that_torch_does_not_see(place: Path, monkeypatch: pytest.MonkeyPatch, why: str, mend: str) -> None:
    faked(monkeypatch, "580.65.06", (13, 0))
    finding = look(gpu.gpu, here(device("auto"), torch_says(why=why)))[1]
    assert finding.state == "failure" and why in finding.says and mend in finding.mend


@pytest.mark.parametrize(("cuda", "reachable"), [(None, True), ((13, 0), False)])
@pytest.mark.parametrize("container", [False, True])
def test_a_gpu_that_is_not_handed_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, cuda: gpu.Version | None, reachable: bool, container: bool
) -> None:
    faked(monkeypatch, "580.65.06", cuda, reachable)
    monkeypatch.setattr(gpu, "CONTAINER", (place / "params.yaml",) if container else ())
    finding = look(gpu.gpu, here(device("auto")))[1]
    assert finding.state == "failure"
    assert finding.mend.startswith("docker run --gpus all" if container else "sudo nvidia-modprobe")


@pytest.mark.parametrize(("asked", "state"), [("auto", "warning"), ("gpu", "failure")])
def test_a_gpu_that_a_variable_hides(place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, state: str) -> None:
    faked(monkeypatch, "580.65.06", (13, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = look(gpu.gpu, here(device(asked)))[1]
    assert (finding.state, finding.mend) == (state, "unset CUDA_VISIBLE_DEVICES")


def test_gpus_that_are_seen(place: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    faked(monkeypatch, "580.65.06", (13, 0))
    params, codes = device("auto"), ["sm_75", "sm_90", "compute_120"]

    def of(**changes: Any) -> Finding:
        return look(gpu.gpu, here(params, torch_says(gpus=[{**GPU, **changes}], architectures=codes, why="")))[1]

    assert of().state == "ok" and "NVIDIA Test" in of().says
    assert of(capability=[6, 1]).state == "failure"
    assert "device: cpu" in of(capability=[6, 1]).mend
    assert of(free=int(rng.integers(0, 40 * GIB))).state == "warning"
    wrong = torch_says(gpus=[GPU], architectures=codes, why="it multiplies wrongly")
    assert look(gpu.gpu, here(params, wrong))[1].state == "failure"
    died = look(gpu.gpu, here(device("gpu"), Answer("dead")))[1]
    assert died.state == "failure"


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_90"], True), ((8, 9), ["sm_80"], True), ((8, 0), ["sm_86"], False), ((9, 0), ["sm_80"], False),
        ((9, 0), ["compute_80"], True), ((7, 0), ["compute_80"], False), ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120"], True), ((10, 3), ["sm_100a"], False), ((10, 3), ["sm_100f"], True),
        ((6, 1), ["sm_75", "sm_120"], False),
    ],
)  # fmt: skip
def test_code_runs_on_its_own_kind_of_gpu(capability: gpu.Version, architectures: list[str], runs: bool) -> None:
    assert gpu.runs_on(capability, architectures) == runs


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("nobody knows", "of unknown version"),
    ],
)
def test_the_drivers_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, number: str) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(gpu, "KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setattr(gpu, "newest_cuda", lambda: (13, 0))
    found = gpu.driver()
    assert found is not None and found.version == number
    monkeypatch.setattr(gpu, "KERNEL_MODULE", tmp_path / "none")
    monkeypatch.setattr(gpu, "NODES", (tmp_path / "version",))
    assert gpu.driver() == gpu.Driver("of Windows", (13, 0), True)
    monkeypatch.setattr(gpu, "newest_cuda", lambda: None)
    assert gpu.driver() is None


def test_the_newest_cuda_is_asked_of_the_drivers_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(code: int, number: int) -> Any:
        def ask(pointer: Any) -> int:
            pointer._obj.value = number
            return code

        return lambda _: types.SimpleNamespace(cuDriverGetVersion=ask)

    for code, number, wanted in ((0, 13020, (13, 2)), (0, 12040, (12, 4)), (3, 13000, None), (0, 0, None)):
        monkeypatch.setattr(gpu.ctypes, "CDLL", library(code, number))
        assert gpu.newest_cuda() == wanted

    def none(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(gpu.ctypes, "CDLL", none)
    assert gpu.newest_cuda() is None


def test_dali_that_dies_or_decodes_wrongly(place: Path) -> None:
    died = only(gpu.dali, here(dali=Answer("it was ended by SIGSEGV")))
    assert died.state == "failure" and "SIGSEGV" in died.says and died.mend.startswith("pip install")
    assert only(gpu.dali, here(dali=dali_says(30.0))).state == "failure"
    assert only(gpu.dali, here(dali=dali_says(0.5))).state == "ok"


def test_dali_on_a_gpu_is_tried_where_there_is_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def dead(*words: str) -> Any:
        asked.append(words)
        return Answer("no nvJPEG")

    monkeypatch.setattr(gpu, "probe", dead)
    seen = torch_says(gpus=[GPU], why="")
    assert [one.state for one in look(gpu.dali, here(device("auto"), seen))] == ["ok", "failure"]
    assert [one.state for one in look(gpu.dali, here(device("cpu"), seen))] == ["ok"]
    assert asked == [("dali", "gpu")]


def test_bfloat16_without_units_for_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = device("auto")
    monkeypatch.setattr(gpu, "slow_in_bfloat16", lambda precision, where: where == "cpu")
    finding = only(gpu.precision, here(params))
    assert finding.state == "warning"
    assert finding.mend.endswith("write precision: float32 in profiles.mini.train, profiles.mini.score")
    assert only(gpu.precision, here(params, torch_says(gpus=[GPU], why=""))).state == "ok"
    old = torch_says(gpus=[{**GPU, "capability": [7, 5]}], why="")
    assert only(gpu.precision, here(params, old)).state == "warning"
    params = change(train={"precision": "float32"}, score={"precision": "float32"})
    assert only(gpu.precision, here(params)).state == "ok"


# the machine


@pytest.mark.parametrize(
    ("free", "left", "state"),
    [(8.0, None, "ok"), (3.9, None, "warning"), (1.9, None, "failure"), (64.0, 3.0, "warning"), (64.0, 1.0, "failure")],
)
def test_memory(monkeypatch: pytest.MonkeyPatch, free: float, left: float | None, state: str) -> None:
    monkeypatch.setattr(machine, "available", lambda: int(free * GIB))
    monkeypatch.setattr(machine, "left_in_group", lambda: None if left is None else int(left * GIB))
    finding = only(machine.memory, here())
    assert finding.state == state
    assert ("docker" in finding.mend) == (left is not None)


def test_what_the_kernel_says_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   77 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    assert machine.available() == 77 * 1024


@pytest.mark.parametrize(("old", "names"), [
    (False, ("memory.max", "memory.current")), (True, ("memory.limit_in_bytes", "memory.usage_in_bytes")),
])  # fmt: skip
def test_the_limit_of_a_group_or_of_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, old: bool, names: tuple[str, str]
) -> None:
    (tmp_path / "own").write_text("5:cpu:/x\n4:memory:/a/b\n" if old else "0::/a/b\n")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    assert machine.left_in_group() is None
    most, used, back = (int(number) for number in rng.integers(1, 2**40, 3))
    above = tmp_path / ("memory/a" if old else "a")
    (above / "b").mkdir(parents=True)
    for folder, limit in ((above, str(most)), (above / "b", str(2**62) if old else "max")):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"active_file 3\ninactive_file {back}\n")
    assert machine.left_in_group() == most - used + back


@pytest.mark.parametrize(("free", "state"), [(2**30, "ok"), (2**25, "warning"), (2**19, "failure")])
def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(machine, "SHARED", tmp_path)
    monkeypatch.setattr(machine, "free_bytes", lambda _: free)
    finding = only(machine.shared_memory, here())
    assert finding.state == state and ("--shm-size=1g" in finding.mend) == (state != "ok")


def test_shared_memory_that_is_missing_or_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SHARED", tmp_path / "none")
    assert only(machine.shared_memory, here()).state == "failure"
    monkeypatch.setattr(machine, "SHARED", tmp_path)
    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse(errno.EROFS))
    finding = only(machine.shared_memory, here())
    assert finding.state == "failure" and os.strerror(errno.EROFS) in finding.says


def refuse(code: int) -> Callable[..., Any]:
    """A function that fails as the system does."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("kind", "soft", "hard", "mend"),
    [
        (resource.RLIMIT_NOFILE, 1024, 1048576, "ulimit -n 4096"),
        (resource.RLIMIT_NOFILE, 1024, 2000, "sudo prlimit --pid $$ --nofile=4096:4096"),
        (resource.RLIMIT_FSIZE, 2**20, INFINITE, "ulimit -f unlimited"),
        (resource.RLIMIT_FSIZE, 2**20, 2**20, "sudo prlimit --pid $$ --fsize=unlimited:unlimited"),
        (resource.RLIMIT_NPROC, 100, INFINITE, "ulimit -u 512"),
        (resource.RLIMIT_AS, 2**33, INFINITE, "ulimit -v unlimited"),
    ],
)
def test_limits(monkeypatch: pytest.MonkeyPatch, kind: int, soft: int, hard: int, mend: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda one: (soft, hard) if one == kind else (INFINITE, INFINITE))
    finding = only(machine.limits, here())
    assert (finding.state, finding.mend) == ("warning", mend)
    monkeypatch.setattr(resource, "getrlimit", lambda one: (INFINITE, INFINITE))
    assert only(machine.limits, here()).state == "ok"


def ilsvrc(params: Params) -> Params:
    """The same, of the source ilsvrc2012."""
    profile = params.chosen
    chosen = profile.model_copy(update={"data": profile.data.model_copy(update={"source": "ilsvrc2012"})})
    return params.model_copy(update={"profiles": {params.profile: chosen}})


def files_only(kind: int) -> tuple[int, int]:
    """No limits but that of open files, as many shells have it."""
    return (1024, 1048576) if kind == resource.RLIMIT_NOFILE else (INFINITE, INFINITE)


def test_too_few_open_files_for_all_of_ilsvrc(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", files_only)
    assert only(machine.limits, here(load())).state == "warning"
    assert only(machine.limits, here(ilsvrc(load()))).state == "failure"


# the disks


def test_what_is_needed(place: Path, rng: np.random.Generator) -> None:
    params = load()
    parameters = {net: int(rng.integers(1, 10**8)) for net in NETS}
    runs = [run.net for run in params.runs.values()] + ["A", "A-LRN", "shallow"]
    need = disk.needed(params, parameters)
    assert need.shards == GIB
    assert need.results == 4 * sum(parameters[net] for net in runs)
    assert need.checkpoints == 2 * 16 * max(parameters.values())
    Path("weights/trained").mkdir(parents=True)
    Path("weights/trained/D-384.pt").write_bytes(b"")
    assert disk.needed(params, parameters).results == need.results - 4 * parameters["D"]


def test_what_ilsvrc_needs(place: Path) -> None:
    params = ilsvrc(load())
    need = disk.needed(params, {})
    assert 154.6e9 < need.shards < 160e9
    assert need.results == (14 * 3 + 2 * 3 + 2) * 50_000 * 1000 * 4, "posteriors"
    few = params.model_copy(update={"profiles": {"mini": params.chosen.model_copy(
        update={"data": params.chosen.data.model_copy(update={"limit": 1000})}
    )}})  # fmt: skip
    assert disk.needed(few, {}).shards < 2 * GIB
    (place / "data/shards/key").mkdir(parents=True)
    (place / "data/shards.txt").write_text("key asked\n")
    (place / "data/shards/key/facts.json").write_text("{}")
    assert disk.needed(params, {}).shards == 0


def test_room_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load()
    need = sum(disk.needed(params, dict.fromkeys(NETS, 1000)))
    for free, state in ((need - 1, "failure"), (need + 10**6, "warning"), (10 * need, "ok")):
        monkeypatch.setattr(disk, "free_bytes", lambda _, free=free: free)
        finding = look(disk.disk, here(params))[0]
        assert finding.state == state
        assert (finding.mend == "export VGG_REPRO_SHARDS=/A/LARGER/DISK/shards") == (state != "ok")


def test_weights_that_do_not_fit_beside_the_shards(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 10 * GIB)
    large = torch_says(parameters=dict.fromkeys(NETS, 140_000_000))
    assert look(disk.disk, here(load(), large))[0].mend == "dvc cache dir --local /A/LARGER/DISK/cache"


def test_a_disk_of_too_many_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 10**9, 10**9, 10**9, 10**6, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    finding = look(disk.disk, here(load()))[0]
    assert finding.state == "failure" and "inodes" in finding.says


def test_what_cannot_be_linked_is_needed_twice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch_says(parameters=dict.fromkeys(NETS, 140_000_000))
    needs = []
    for twice in (False, True):
        monkeypatch.setattr(disk, "is_stored_twice", lambda twice=twice: twice)
        monkeypatch.setattr(disk, "free_bytes", lambda _: 30 * GIB)
        needs.append(look(disk.disk, here(load(), large))[0].says)
    results = disk.needed(load(), large.said["parameters"]).results
    once, again = (float(says.split(" GiB still")[0].split()[-1]) for says in needs)
    assert again - once == pytest.approx(results / GIB, abs=0.11)


@pytest.mark.parametrize(
    ("code", "mend"), [(errno.EACCES, "sudo chown"), (errno.EROFS, "git clone"), (errno.EDQUOT, "git clone")]
)
def test_a_folder_that_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch, code: int, mend: str) -> None:
    monkeypatch.setattr(disk.tempfile, "NamedTemporaryFile", refuse(code))
    findings = look(disk.disk, here(load()))[1:]
    assert findings and all(one.state == "failure" and one.mend.startswith(mend) for one in findings)
    assert f"'{place}" in findings[-1].mend, "quoted for the shell"


def test_a_disk_without_locks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "lock", refuse(errno.ENOLCK))
    assert look(disk.disk, here(load()))[1].state == "failure"


def test_a_network_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = place.parent / "mounts"
    below = str(place).replace(" ", r"\040")
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:30 / {below} rw shared:2 master:3 - nfs4 server:/home rw\n"
        f"31 22 0:31 / {below}-beside rw - tmpfs none rw\n"
    )
    monkeypatch.setattr(disk, "MOUNTS", mounts)
    assert [disk.file_system(one) for one in (place, place.parent)] == ["nfs4", "ext4"]
    findings = look(disk.disk, here(load()))[1:]
    assert findings and {one.state for one in findings} == {"warning"}
    assert "network disk (nfs4)" in findings[0].says


# git and DVC


def test_git_tells_the_commit_and_a_change(place: Path) -> None:
    finding = only(tracking.git, here())
    assert finding.state == "ok" and "plus" not in finding.says
    change(train={"seed": 5})
    finding = only(tracking.git, here())
    assert finding.state == "ok" and "plus" in finding.says


def test_git_that_is_missing_empty_or_refuses(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place / ".git")
    assert only(tracking.git, here()).mend.startswith("git init")
    subprocess.run(["git", "init", "--quiet"], check=True)
    finding = only(tracking.git, here())
    assert finding.state == "warning" and "no commit" in finding.says
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    finding = only(tracking.git, here())
    assert finding.state == "failure" and f"safe.directory '{place}'" in finding.mend
    monkeypatch.setenv("PATH", str(place))
    assert only(tracking.git, here()).mend == "sudo apt-get install git"


def test_a_conflict_in_the_lock_file(place: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(tracking.conflicts, here()).state == "ok"
    mark_lock(Sick(place, rng, monkeypatch))
    finding = only(tracking.conflicts, here())
    assert finding.state == "failure" and finding.mend == "git checkout HEAD~1 -- dvc.lock"


def test_a_conflict_of_a_merge_that_goes_on(place: Path) -> None:
    def git(*words: str, check: bool = True) -> None:
        names = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *names, *words], check=check, capture_output=True)

    lock = place / "dvc.lock"
    text = lock.read_text()
    git("checkout", "-b", "other")
    lock.write_text(text.replace("schema: '2.0'", "schema: '2.1'"))
    git("commit", "--all", "--message", "other")
    git("checkout", "-")
    lock.write_text(text.replace("schema: '2.0'", "schema: '2.2'"))
    git("commit", "--all", "--message", "this")
    git("merge", "other", check=False)
    finding = only(tracking.conflicts, here())
    assert finding.state == "failure"
    subprocess.run(finding.mend, shell=True, check=True, capture_output=True)
    assert only(tracking.conflicts, here()).state == "ok", "the command mends it"


def test_a_graph_with_a_wrong_word(place: Path) -> None:
    assert only(tracking.graph, here(load())).says == "50 stages"
    (place / "dvc.yaml").write_text((place / "dvc.yaml").read_text().replace("cmd:", "comand:", 1))
    finding = only(tracking.graph, here(load()))
    assert finding.state == "failure" and finding.mend == "git checkout -- dvc.yaml"
    subprocess.run(finding.mend, shell=True, check=True, capture_output=True)
    assert only(tracking.graph, here(load())).state == "ok"


def test_who_is_at_work(place: Path) -> None:
    assert only(tracking.locks, here()).says == "nobody is at work with DVC"
    tmp = place / ".dvc/tmp"
    tmp.mkdir(exist_ok=True)
    (tmp / "lock").write_text(f" {os.getpid()}\n")
    assert only(tracking.locks, here()).says == "nobody is at work with DVC", "a lock that nobody holds"
    with (tmp / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        finding = only(tracking.locks, here())
    assert finding.state == "ok" and f"(process {os.getpid()})" in finding.says
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc repro train@A-256"], stdin=subprocess.PIPE) as dvc:
        info = {"pid": dvc.pid, "cmd": "dvc repro train@A-256"}
        (tmp / "rwlock").write_text(json.dumps({"write": {"weights/trained/A-256.pt": info}, "read": {"x": [info]}}))
        wait_for(dvc.pid)
        finding = only(tracking.locks, here())
        assert (finding.state, finding.says) == ("ok", f"DVC is at work: dvc repro train@A-256 (process {dvc.pid})")
        dvc.communicate(b"\n")
    assert only(tracking.locks, here()).says == "nobody is at work with DVC", "it has ended"


def wait_for(pid: int) -> None:
    """Until a process that was started is the program that it is to be."""
    while "dvc" not in tracking.command(pid):
        pass


def test_locks_that_nobody_opens(place: Path) -> None:
    tmp = place / ".dvc/tmp"
    tmp.mkdir(exist_ok=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (tmp / "rwlock").write_text(json.dumps({"write": {"x": {"pid": stranger.pid, "cmd": "dvc repro"}}}))
        while "sleep" not in tracking.command(stranger.pid):
            pass
        finding = only(tracking.locks, here())
        stranger.kill()
    assert finding.state == "failure" and finding.mend == "rm .dvc/tmp/rwlock"
    for broken in ("{", "[]", '{"write": {"x": 3}}', '{"write": {"x": {"pid": "?"}}}'):
        (tmp / "rwlock").write_text(broken)
        assert only(tracking.locks, here()).state == "failure", broken
    (tmp / "rwlock").unlink()
    for machine_name, state in ((os.uname().nodename, "failure"), ("another", "ok")):
        (tmp / "lock").write_text(f"{tmp}/lock|{machine_name}|{stranger.pid}|12345")
        assert only(tracking.locks, here()).state == state


def test_links_by_trying(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(place.iterdir())
    found = cache.link_types(place, place)
    assert "symlink" in found and set(found) <= {"reflink", "hardlink", "symlink"}
    assert sorted(place.iterdir()) == before, "nothing is left behind"
    monkeypatch.setattr(os, "link", refuse(errno.EXDEV))
    monkeypatch.setattr(cache.fcntl, "ioctl", refuse(errno.EOPNOTSUPP))
    assert cache.link_types(place, place) == ["symlink"]


@pytest.mark.parametrize(
    ("configured", "possible", "state", "mend"),
    [
        ("reflink,hardlink,symlink,copy", ["hardlink", "symlink"], "ok", ""),
        ("reflink,hardlink,symlink,copy", [], "warning", "git clone"),
        ("copy", ["hardlink"], "warning", "dvc config cache.type reflink,hardlink,symlink,copy"),
        ("", ["hardlink"], "warning", "dvc config cache.type reflink,hardlink,symlink,copy"),
        ("", ["reflink"], "ok", ""),
        ("symlink", ["hardlink", "symlink"], "ok", ""),
    ],
)
def test_how_the_cache_is_linked(
    place: Path, monkeypatch: pytest.MonkeyPatch, configured: str, possible: list[str], state: str, mend: str
) -> None:
    (place / ".dvc/config").write_text(f'[cache]\n    type = "{configured}"\n' if configured else "")
    monkeypatch.setattr(cache, "link_types", lambda *_: possible)
    finding = only(cache.cache, here())
    assert finding.state == state and finding.mend.startswith(mend)
    assert cache.is_stored_twice() == (state == "warning")


def test_a_cache_elsewhere_that_a_group_shares(place: Path) -> None:
    (place / ".dvc/config").write_text(f'[cache]\n    dir = "{place.parent}/kept"\n    shared = group\n')
    says = only(cache.cache, here()).says
    assert "kept, outside of this clone, shared by a group" in says
    assert cache.cache_folder() == place.parent / "kept"
    shutil.rmtree(place / ".dvc")
    assert cache.cache_folder() == Path(".dvc/cache")


# the images


@pytest.mark.parametrize(
    ("source", "lacks", "state"),
    [("digits", "", "ok"), ("imagefolder", "there is no /photographs", "failure"), ("cifar10", "to come", "warning")],
)
def test_images(place: Path, monkeypatch: pytest.MonkeyPatch, source: str, lacks: str, state: str) -> None:
    monkeypatch.setattr(pipeline.sources, "missing", lambda _: lacks, raising=False)
    params = change(data={"source": source, "path": "/photographs" if source == "imagefolder" else None})
    finding = only(data.images, here(params))
    assert finding.state == state and lacks in finding.says
    assert finding.mend.startswith("vgg-repro prepare") == (state != "ok")


def test_shards(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load()
    assert "not prepared yet; `vgg-repro prepare`" in only(data.shards, here(params)).says
    (place / "data/shards/abc.partial").mkdir(parents=True)
    assert "begun in data/shards/abc.partial" in only(data.shards, here(params)).says
    (place / "data/shards.txt").write_text("abc 0123456789abcdef\n")
    assert "others than params.yaml asks for" in only(data.shards, here(params)).says
    monkeypatch.setattr("pipeline.prepare.is_asked_for", lambda _: True)
    monkeypatch.setattr("pipeline.prepare.is_whole", lambda folder: folder == Path("data/shards/abc"))
    assert only(data.shards, here(params)).says == "whole, in data/shards/abc"
    (place / "data/shards.txt").write_text("")
    finding = only(data.shards, here(params))
    assert finding.state == "failure" and finding.mend == "rm data/shards.txt && vgg-repro prepare"


def test_check_sums(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to compare" in run("--md5").stdout
    assert "nothing to compare" not in run().stdout
    params, said = ilsvrc(load()), [("good.tar", ""), ("bad.tar", "it is cut short")]
    monkeypatch.setattr(
        "pipeline.sources.ilsvrc.check_sums", lambda root: iter(said) if "ilsvrc" in str(root) else None
    )
    good, bad = look(data.md5, here(params))
    assert (good.state, bad.state) == ("ok", "failure")
    assert bad.says == "bad.tar: it is cut short" and bad.mend.startswith("mv data/ilsvrc2012/bad.tar ")
    said.clear()
    assert "none of the published archives" in only(data.md5, here(params)).says


def test_an_archive_that_is_cut_short_is_found_by_its_headers(tmp_path: Path, rng: np.random.Generator) -> None:
    root = make(rng).archives(tmp_path / "archives")
    assert list(data._archives(root)) == []
    for name in (TRAIN, VAL):
        whole = (root / name).read_bytes()
        (root / name).write_bytes(whole[: int(rng.integers(len(whole.rstrip(b"\0"))))])
        (found,) = data._archives(root)
        assert found.state == "failure" and name in found.says and found.mend.startswith("mv ")
        (root / name).write_bytes(whole)
