"""The doctor: each check fails where it should and says what fixes it; the command never ends with a traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
import typer
import yaml
from typer.testing import CliRunner

from cli.doctor import doctor
from pipeline.datasets.sources import SOURCES
from pipeline.doctor import data, findings, gpu, machine, probes, software, tracking
from pipeline.doctor.base import GIB, DoctorContext, Finding
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from pipeline.system import decoders
from pipeline.system.checkout import BrokenCheckout, Problem
from tests.support import ROOT
from tests.support.images import NO_DALI, needs_dali

TORCH = {"version": "2.15.0", "cuda": "13.2", "torchvision": "", "why": "no NVIDIA driver"}
DALI = {"version": "2.4.0", "apart": 0.0}
FIX = " " * 22 + "fix: "


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with a commit, in which all is well, on a machine without a GPU."""
    folder = tmp_path / "a place"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=lambda *_: {"tmp", "cache", "config.local"})
    monkeypatch.chdir(folder)
    for name in ("VGG_REPRO_SHARDS", "CUDA_VISIBLE_DEVICES", "DVC_STAGE", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "--quiet"), git("add", "--all"), git("commit", "--quiet", "--message", "Begin")
    monkeypatch.setattr(gpu, "gpus_here", lambda: 0)
    return folder


@pytest.fixture
def quick(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place, where torch and DALI need no processes, and memory and disk suffice."""
    monkeypatch.setattr("pipeline.doctor.base.probe", lambda *_: TORCH)
    monkeypatch.setattr(software, "probe", lambda *_: DALI)
    memory(monkeypatch, 32 * GIB)
    monkeypatch.setattr(machine, "_needed", lambda _: (0, 0, ""))
    return place


def git(*words: str, check: bool = True) -> None:
    names = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *names, *words], check=check, capture_output=True)


def memory(monkeypatch: pytest.MonkeyPatch, free: float, left: float = float("inf")) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(machine, "left_in_group", lambda: left)


def change(**blocks: dict[str, object]) -> Params:
    """Write changes of the profile's blocks to params.yaml and read it."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    for name, block in blocks.items():
        values["profiles"]["mini"][name] |= block
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load()


def asking(device: str) -> Params:
    """Ask for this device in all steps that know it: prepare does not know auto."""
    steps = ("train", "score") if device == "auto" else ("prepare", "train", "score")
    return change(**{step: {"device": device} for step in steps})


def context(params: Params | None = None, **torch: Any) -> DoctorContext:
    """What the checks look at, and what torch says."""
    made = DoctorContext(params)
    made.torch = {**TORCH, **torch}  # type: ignore[misc]
    return made


def told(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def run() -> Any:
    """The command as typer runs it."""
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, [])


# the command


def test_a_sound_place_ends_with_0_and_an_aligned_list(quick: Path) -> None:
    done = run()
    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.stdout
    assert {line[14:22].strip() for line in lines[:-2] if not line.startswith(" ")} <= {"ok", "warning"}
    assert {line[:14].strip() for line in lines[:-2]} - {""} == {
        "params.yaml", "packages", "torch", "dali", "gpu", "git", "dvc", "cache", "memory", "disk", "images", "shards"
    }  # fmt: skip
    assert lines[-1].startswith("12 findings, failures: 0, warnings: ")


@pytest.mark.parametrize(("free", "mark", "code"), [(GIB, "FAILURE", 1), (3 * GIB, "warning", 0)])
def test_a_failure_ends_with_1_and_a_warning_with_0(
    quick: Path, monkeypatch: pytest.MonkeyPatch, free: int, mark: str, code: int
) -> None:
    memory(monkeypatch, free)
    done = run()
    assert done.exit_code == code
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"memory        {mark:8}"))
    assert lines[at + 1].startswith(FIX)
    assert f"failures: {code}" in lines[-1]


def test_the_real_command_asks_real_torch_and_dali(place: Path) -> None:
    asking("cpu")
    code = "import typer; from cli.doctor import doctor; typer.run(doctor)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    decodes = "not installed: simplejpeg" if NO_DALI else "decodes on the CPU as Pillow does"
    assert decodes in done.stdout
    assert "torchvision matches" in done.stdout
    assert f"\ndvc           ok      97 stages, in {place}" in done.stdout
    assert " still to be written" in done.stdout and "not counted" not in done.stdout
    assert done.returncode == ("FAILURE" in done.stdout)


def remove(name: str) -> Callable[[], object]:
    return lambda: shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def write(name: str, old: str, new: str) -> Callable[[], object]:
    return lambda: Path(name).write_text(Path(name).read_text().replace(old, new, 1))


BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "invalid params": (write("params.yaml", "momentum:", "momentun:"), "momentun"),
    "no params": (remove("params.yaml"), "there is no params.yaml here"),
    "no git": (remove(".git"), "not a git repository"),
    "no .dvc": (remove(".dvc"), "not inside of a DVC repository"),
    "no dvc.yaml": (remove("dvc.yaml"), "there is no dvc.yaml with stages"),
    "dvc.yaml of no graph": (write("dvc.yaml", "\nstages:", "\nstags:"), "dvc           FAILURE"),
    "configuration of DVC": (lambda: Path(".dvc/config").write_text("[core\n"), "dvc           FAILURE"),
    "a conflict": (write("dvc.lock", "stages:\n", "<<<<<<< HEAD\nstages:\n"), "git checkout HEAD -- dvc.lock"),
    "all gone": (lambda: [remove(path.name)() for path in Path().iterdir()], "dvc           FAILURE"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_surroundings_are_explained(quick: Path, what: str) -> None:
    spoil, message = BROKEN[what]
    spoil()
    done = run()
    assert done.exit_code == 1
    assert message in done.stdout, done.stdout
    assert "Traceback" not in done.output and "the check itself failed" not in done.stdout, done.stdout
    assert isinstance(done.exception, SystemExit)
    lines = done.stdout.splitlines()
    failures = [number for number, line in enumerate(lines) if line[14:22] == "FAILURE "]
    for number, end in pairwise([*failures, len(lines)]):
        assert any(line.startswith(FIX) for line in lines[number:end]), lines[number]


def test_in_another_folder_the_way_to_the_root_is_said(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (quick / "below").mkdir()
    monkeypatch.chdir(quick / "below")
    assert next(findings()).fix == f"cd '{quick}'"


def test_a_check_that_ends_unexpectedly_is_a_failure(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: 1 // 0)
    by_check = {finding.what: finding for finding in findings()}
    assert by_check["memory"].state == "failure"
    assert "ZeroDivisionError" in by_check["memory"].says and "test_doctor.py" in by_check["memory"].says
    assert by_check["disk"].state == "ok", "the others are made all the same"


# what is installed


@pytest.mark.parametrize(("found", "says"), [("", "torch is missing"), ("1.0", "torch is 1.0, not >=")])
def test_a_package_that_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch, found: str, says: str) -> None:
    true = software.installed
    assert only(software.packages(context())).state == "ok"
    monkeypatch.setattr(software, "installed", lambda name: found if name == "torch" else true(name))
    finding = only(software.packages(context()))
    assert finding.state == "failure" and says in finding.says and finding.fix.startswith("pip install")


@pytest.mark.parametrize(
    ("answer", "state"), [({"died": "no libtorch"}, "failure"), ({"torchvision": "nms does not exist"}, "warning")]
)
def test_torch_that_does_not_start_or_does_not_fit_torchvision(answer: dict[str, str], state: str) -> None:
    finding = only(software.torch(context(**answer)))
    assert finding.state == state and "--force-reinstall" in finding.fix
    assert next(iter(answer.values())) in finding.says


def test_torchvision_that_is_missing_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    true = software.installed
    monkeypatch.setattr(software, "installed", lambda name: "" if name == "torchvision" else true(name))
    finding = only(software.packages(context()))
    assert finding.state == "warning" and "torchvision is missing: without it there is no source" in finding.says
    monkeypatch.setattr(software, "installed", lambda name: "" if name in ("torchvision", "dvc") else true(name))
    assert only(software.packages(context())).state == "failure"


@pytest.mark.parametrize(
    ("answer", "state"), [({"died": "SIGSEGV"}, "failure"), ({**DALI, "apart": 30.0}, "failure"), (DALI, "ok")]
)
def test_dali_that_dies_or_decodes_wrongly(monkeypatch: pytest.MonkeyPatch, answer: Any, state: str) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(software, "decoder_in_use", lambda _: "dali")
    monkeypatch.setattr(software, "probe", lambda *words: asked.append(words) or answer)
    assert only(software.dali(context())).state == state
    assert [finding.state for finding in software.dali(context(why=""))] == [state] * 2, "on a GPU that torch has, too"
    assert asked == [("dali", "cpu"), ("dali", "cpu"), ("dali", "gpu")]


def test_two_packages_of_dali_in_one_folder_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed_dali", lambda: ["nvidia-dali-cuda130", "nvidia-dali-cuda120"])
    finding = only(software.dali(context()))
    assert finding.state == "failure" and "write the same files" in finding.says
    assert finding.fix.startswith("pip uninstall --yes nvidia-dali-cuda130 nvidia-dali-cuda120 && pip install ")


def test_the_packages_of_the_installed_extra_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra, wrong in (("", ""), ("cuda12", "torch is 2.15.0, not <2.11,>=2.10")):
        monkeypatch.setattr(software, "EXTRA", extra)
        monkeypatch.setattr(software, "installed", lambda name: "2.15.0" if name == "torch" else "99")
        assert (wrong in only(software.packages(context())).says) and (extra == "cuda12" or wrong == "")


def test_without_dali_it_says_what_decodes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "has_dali", lambda: False)
    monkeypatch.setattr(software, "has_dali", lambda: False)
    finding = only(software.dali(context()))
    assert (finding.state, finding.says) == (
        "ok", "not installed: simplejpeg and Pillow decode the images, on the CPU"
    )  # fmt: skip
    finding = only(software.dali(context(why="")))
    assert finding.state == "warning" and finding.says.endswith("on the CPU, which a GPU may wait for")
    asked = load().model_copy(update={"decoder": "dali"})
    finding = only(software.dali(context(asked)))
    assert finding.state == "failure" and "requires DALI" in finding.says and finding.fix
    monkeypatch.setattr(software, "has_dali", lambda: True)
    other = load().model_copy(update={"decoder": "pillow"})
    assert only(software.dali(context(other))).says.startswith("not used: ")


def test_processes_answer_or_die(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(code: int, out: str, err: str = "") -> None:
        done = subprocess.CompletedProcess("", code, out, err)
        monkeypatch.setattr(probes.subprocess, "run", lambda *_, **__: done)

    ends(0, 'noise\n{"a": 1}\n')
    assert probes.probe("torch") == {"a": 1}
    for code, out, err, why in (
        (-signal.SIGABRT, "", "", "it was killed by SIGABRT"),
        (1, "", "Traceback\nOSError: no such library\n", "OSError: no such library"),
        (0, "no JSON", "", "it printed nothing"),
    ):
        ends(code, out, err)
        assert probes.probe("torch") == {"died": why}

    monkeypatch.setattr(probes.subprocess, "run", lambda *_, **__: told(subprocess.TimeoutExpired("", 180)))
    assert probes.probe("torch") == {"died": "no answer within 180 s"}


@needs_dali
def test_dalis_pixels_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes.dali_answer(gpu=False)["apart"] < 1
    true = probes._decoded
    for spoil in (lambda pixels: pixels[..., ::-1], lambda pixels: pixels[:-1], lambda pixels: 0 * pixels):
        monkeypatch.setattr(probes, "_decoded", lambda encoded, gpu, spoil=spoil: spoil(true(encoded, gpu)))
        assert probes.dali_answer(gpu=False)["apart"] > software.LEVELS


# the GPU


def nvml(patch: pytest.MonkeyPatch, cuda: int = 13000, **says: Any) -> None:
    """Have NVML tell of one GPU; what is an error in `says`, it raises."""
    memory = SimpleNamespace(total=80 * GIB, free=says.get("free", 79 * GIB))
    answers = {
        "nvmlSystemGetCudaDriverVersion": cuda, "nvmlSystemGetDriverVersion": "580.65.06",
        "nvmlDeviceGetName": "NVIDIA Test", "nvmlDeviceGetMemoryInfo": says.get("memory", memory),
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=pid) for pid in says.get("pids", [])],
        "nvmlDeviceGetCurrentClocksEventReasons": says.get("reasons", pynvml.nvmlClocksEventReasonGpuIdle),
    }  # fmt: skip
    for name, answer in answers.items():
        patch.setattr(pynvml, name, lambda *_, answer=answer: told(answer))
    patch.setattr(gpu, "gpus_here", lambda: 1)
    patch.setattr(gpu, "handles", lambda: [told(says.get("handle", "handle"))])


@pytest.mark.parametrize(("asked", "state"), [("auto", "ok"), ("cpu", "ok"), ("gpu", "failure")])
def test_no_gpu_at_all(place: Path, asked: str, state: str) -> None:
    finding = only(gpu.gpu(context(asking(asked))))
    assert finding.state == state
    assert ("set device: cpu in prepare and device: auto in train and score" in finding.fix) == (state == "failure")


@pytest.mark.parametrize(("asked", "state"), [("auto", "warning"), ("cpu", "ok"), ("gpu", "failure")])
def test_a_driver_that_is_too_old_or_does_not_answer(
    place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, state: str
) -> None:
    nvml(monkeypatch, cuda=12040)
    finding = only(gpu.gpu(context(asking(asked))))
    assert finding.state == state and "CUDA up to 12.4) is too old" in finding.says
    if asked == "auto":
        full = only(gpu.gpu(context(change(net={"width_ratio": 1}))))
        assert full.state == "failure", "full-size nets would not begin"
        change(net={"width_ratio": "1/8"})
    assert "CUDA 13 (driver 580 or newer)" in finding.says and finding.fix == "make CUDA=12 install"
    assert [one.what for one in gpu.gpu(context(asking(asked), cuda="12.8"))][:2] == ["driver", "gpu"], "new enough"
    nvml(monkeypatch, cuda=11080)
    finding = only(gpu.gpu(context(asking(asked), cuda="12.8")))
    assert "CUDA 12 (driver 525 or newer)" in finding.says and finding.fix == "ask for NVIDIA's driver 525 or newer"
    nvml(monkeypatch, handle=pynvml.NVMLError_LibRmVersionMismatch())
    finding = only(gpu.gpu(context(load())))
    assert finding.state == state and "does not answer" in finding.says and finding.fix.startswith("reboot")
    nvml(monkeypatch, handle=pynvml.NVMLError_LibraryNotFound())
    assert "utility" in only(gpu.gpu(context(load(), why=""))).fix, "a container was given CUDA alone"


@pytest.mark.parametrize(
    ("says", "state", "words"),
    [
        ({}, "ok", "0: NVIDIA Test, 79.0 GiB of 80.0 GiB free"),
        ({"free": 30 * GIB}, "warning", "another process uses it"),
        ({"pids": [7, 12]}, "warning", "another process uses it (process 7, 12)"),
        ({"reasons": pynvml.nvmlClocksEventReasonSwThermalSlowdown}, "warning", "it is too hot"),
        ({"reasons": pynvml.nvmlClocksEventReasonSwPowerCap}, "ok", "free"),
        ({"memory": pynvml.NVMLError_NotSupported()}, "ok", "NVIDIA Test"),
    ],
)
def test_what_the_driver_says_of_a_gpu(
    place: Path, monkeypatch: pytest.MonkeyPatch, says: dict[str, Any], state: str, words: str
) -> None:
    nvml(monkeypatch, **says)
    driver, finding = gpu.gpu(context(asking("gpu"), why=""))
    assert (driver.state, driver.says) == ("ok", "580.65.06, CUDA up to 13.0")
    assert finding.state == state and words in finding.says


def test_a_gpu_that_torch_does_not_compute_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch)
    old = "no kernel image is available for execution on the device"
    monkeypatch.setattr(gpu, "EXTRA", "cuda13")
    for why, fix in (("unknown error", "reboot"), ("Torch not compiled with CUDA", "pip"), (old, "make CUDA=12")):
        finding = [*gpu.gpu(context(asking("auto"), why=why))][-1]
        assert finding.state == "failure" and why in finding.says and finding.fix.startswith(fix)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for asked, state in (("auto", "warning"), ("gpu", "failure")):
        finding = [*gpu.gpu(context(asking(asked), why="none"))][-1]
        assert (finding.state, finding.fix) == (state, "unset CUDA_VISIBLE_DEVICES")
    assert len([*gpu.gpu(context(asking("cpu"), why="none"))]) == 2, "nobody wants torch to"


# the machine


@pytest.mark.parametrize(
    ("free", "left", "state"), [(8, 9, "ok"), (3.9, 9, "warning"), (1.9, 9, "failure"), (64, 3, "warning")]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, free: float, left: float, state: str) -> None:
    memory(monkeypatch, free * GIB, left * GIB)
    finding = only(machine.memory(context()))
    assert finding.state == state and ("cgroup" in finding.says) == (left < free)


@pytest.mark.parametrize(("free", "state"), [(9.9, "failure"), (11.1, "warning"), (20, "ok")])
def test_room_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    monkeypatch.setattr(machine, "_needed", lambda _: (4 * GIB, 5 * GIB, ""))
    monkeypatch.setattr(psutil, "disk_usage", lambda _: SimpleNamespace(free=free * GIB))
    finding = only(machine.disk(context(load())))
    assert finding.state == state and "10.0 GiB still to be written" in finding.says
    assert ("VGG_REPRO_SHARDS=" in finding.fix) == (state != "ok")


def test_what_is_needed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.orchestration.dvc_graph.forecasts", lambda *_: [])
    costs = [SimpleNamespace(disk=disk) for disk in (30, 10)]
    monkeypatch.setattr(
        "pipeline.orchestration.cost_plan.plan", lambda *_: SimpleNamespace(training=costs, scoring=costs[1:])
    )
    assert machine._needed(load()) == (GIB, 30 + 10 + 10 + 4 * 30, "")
    monkeypatch.setattr("pipeline.datasets.prepare.is_whole", lambda _: True)
    assert machine._needed(load())[0] == 0
    monkeypatch.setattr("pipeline.orchestration.cost_plan.plan", lambda *_: told(Failure("nobody has counted these")))
    assert "nobody has counted these" in machine._needed(load())[2]


def test_the_disks_do_not_repeat_what_the_checkout_lacks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = BrokenCheckout(Problem("a merge has left a conflict", "git diff"))
    monkeypatch.setattr("pipeline.orchestration.dvc_graph.forecasts", lambda *_: told(broken))
    assert "conflict" not in machine._needed(load())[2]


def test_a_folder_that_cannot_be_written(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    findings = [finding for finding in machine.disk(context(load())) if "cannot be written" in finding.says]
    assert {finding.state for finding in findings} == {"failure"}
    assert any(finding.fix.startswith("git clone . ") for finding in findings)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(quick.parent))
    findings = [finding for finding in machine.disk(context(load())) if "cannot be written" in finding.says]
    assert any(finding.fix.startswith("export VGG_REPRO_SHARDS=") for finding in findings)


def test_no_fix_needs_root() -> None:
    """On a cluster nobody has it."""
    code = [path.read_text() for path in (ROOT / "pipeline" / "doctor").glob("*.py")]
    assert code and not any(word in text for text in code for word in ("sudo", "apt-get"))


# git, DVC and its cache


def test_a_conflict_in_the_lock_file_and_its_fix(place: Path) -> None:
    lock = place / "dvc.lock"
    text = lock.read_text()
    git("checkout", "-b", "other")
    lock.write_text(text.replace("schema: '2.0'", "schema: '2.1'"))
    git("commit", "--all", "--message", "other")
    git("checkout", "-")
    lock.write_text(text.replace("schema: '2.0'", "schema: '2.0' # ours"))
    git("commit", "--all", "--message", "this")
    git("merge", "other", check=False)
    finding = [*tracking.repository(context())][-1]
    assert (finding.what, finding.state) == ("dvc", "failure")
    subprocess.run(finding.fix, shell=True, check=True, capture_output=True)
    assert [*tracking.repository(context())][-1].state == "ok"


@pytest.mark.parametrize(
    ("configured", "possible", "state", "fix"),
    [
        ("reflink,hardlink,symlink,copy", ["hardlink", "symlink"], "ok", ""),
        ("reflink,hardlink,symlink,copy", [], "warning", "dvc cache dir"),
        ("copy", ["hardlink"], "warning", "dvc config cache.type reflink,hardlink,symlink,copy"),
        ("", ["hardlink"], "warning", "dvc config cache.type reflink,hardlink,symlink,copy"),
        ("", ["reflink"], "ok", ""),
    ],
)
def test_how_the_cache_is_linked(
    place: Path, monkeypatch: pytest.MonkeyPatch, configured: str, possible: list[str], state: str, fix: str
) -> None:
    (place / ".dvc/config").write_text(f'[cache]\n    type = "{configured}"\n' if configured else "")
    monkeypatch.setattr("dvc_objects.fs.generic.test_links", lambda *_: possible)
    finding = only(tracking.cache(context()))
    assert finding.state == state and finding.fix.startswith(fix)


# the images


@pytest.mark.parametrize(
    ("source", "lacks", "state"),
    [("digits", "", "ok"), ("imagefolder", "there is no /photographs", "failure"), ("imagenette", "lacks", "warning")],
)
def test_images(place: Path, monkeypatch: pytest.MonkeyPatch, source: str, lacks: str, state: str) -> None:
    monkeypatch.setattr(SOURCES[source], "missing", lambda _: lacks)
    params = change(data={"source": source, "path": "/photographs" if source == "imagefolder" else None})
    finding = only(data.images(context(params)))
    assert finding.state == state and lacks in finding.says
    assert finding.fix.startswith("vgg-repro prepare") == (state != "ok")


def test_shards(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = context(load())
    assert "not prepared yet" in only(data.shards(made)).says
    (place / "data/classification").mkdir(parents=True)
    (place / "data/classification/shards.txt").write_text("abc 0123456789abcdef\n")
    assert "the prepared data set does not match params.yaml" in only(data.shards(made)).says
    monkeypatch.setattr("pipeline.datasets.dataset_key.is_asked_for", lambda *_: True)
    monkeypatch.setattr("pipeline.datasets.prepare.is_whole", lambda folder: folder == Path("data/shards/abc"))
    assert only(data.shards(made)).says == "complete, in data/shards/abc"
    (place / "data/classification/shards.txt").write_text("")
    finding = only(data.shards(made))
    assert finding.state == "failure" and finding.fix == "rm data/classification/shards.txt && vgg-repro prepare"
