"""The GPU benchmarks: all their code runs, on a CPU with tiny nets, and the check of numbers finds what is wrong."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import ROOT, forks
from tests.support.clones import patience
from tests.support.commands import MarkedCommand, until

BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_every_benchmark_finds_what_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(script), run_name="imported")


@pytest.mark.exhaustive
def test_the_loading_benchmark_runs(tmp_path: Path) -> None:
    few = ["--images", "128", "--steps", "1", "--rounds", "1"]
    code, output = forks.call(tmp_path, [str(BENCHMARKS / "loading.py"), *few], os.environ)
    assert code == 0, output
    assert re.search(r"\| our stream, by DALI \| \d+ \|", output)


@pytest.mark.exhaustive
def test_a_smoke_run_of_the_scaling_benchmark_goes_through_all_of_it() -> None:
    code, output = forks.call(Path.cwd(), [str(BENCHMARKS / "scaling.py"), "--smoke"], os.environ)
    assert code == 0, output
    for pattern in (r"\| 1 \| .* \| 1.00 \| 100% \|", r"\| 2 \| ", r"speed-up of 2: [\d.]+ "):
        assert re.search(pattern, output, re.MULTILINE), f"no {pattern} in\n{output}"


@pytest.mark.exhaustive
def test_a_smoke_run_of_the_reports_benchmark_goes_through_all_commands() -> None:
    code, output = forks.call(Path.cwd(), [str(BENCHMARKS / "report_scale.py"), "--smoke"], os.environ)
    assert code == 0, output
    assert len(re.findall(r"^\| `vgg-repro [^`]+` (\| [\d.]+ ){3}\|$", output, re.MULTILINE)) == 13, output
    assert "report.html: 0." in output


def checked(folder: Path, *words: str) -> tuple[int, str, dict[str, Any]]:
    """Run the GPU check on a CPU; return its exit code, what it printed, and its JSON."""
    command = [str(BENCHMARKS / "gpu_check.py"), "--smoke", "--out", str(folder), "--slower", str(patience(9)), *words]
    code, output = forks.call(Path.cwd(), command, os.environ)
    return code, output, json.loads((folder / "gpu_check.json").read_text())


def test_the_gpu_check_runs_its_parts_that_need_torch_alone(tmp_path: Path) -> None:
    code, output, found = checked(tmp_path, "--only", "1,2,3,6")
    assert code == 0, output
    assert [part["ended"] for part in found["parts"]] == ["complete"] * 4
    numerics, training, scoring, kernels = found["parts"]
    assert len(numerics["checks"]) > 30 and all(check["passed"] for check in numerics["checks"])
    assert {"images_per_second_A", "images_per_second_D", "images_per_second_E", "share"} <= set(training["figures"])
    assert "images_per_second dense at Q = 96, float32" in scoring["figures"]
    names = [row[0] for block in kernels["blocks"] if isinstance(block, list) for row in block[1:]]
    assert sum("conv" in name for name in names) > 3
    page = (tmp_path / "gpu_check.md").read_text()
    assert page.count("\n## ") == 4 and "| small D | crops | " in page
    for number in (1, 2, 3, 6):
        assert (tmp_path / f"part-{number}.log").stat().st_size > 0


def test_a_part_that_takes_too_long_is_stopped_and_keeps_what_it_found(tmp_path: Path) -> None:
    code, _, found = checked(tmp_path, "--only", "1", "--slower", "0.04")
    assert code == 1
    (part,) = found["parts"]
    assert (
        part["ended"] == "stopped after 2 s"
        and "**1 Numerics against float64: stopped" in (tmp_path / "gpu_check.md").read_text()
    )


def test_what_there_is_no_time_for_is_said_and_a_later_run_adds_to_the_page(tmp_path: Path) -> None:
    code, output, found = checked(tmp_path, "--only", "6,7", "--within", "0.001")
    assert code == 1
    assert [part["ended"] for part in found["parts"]] == ["not reached"] * 2
    assert "**7 The tests for GPUs: not reached**" in (tmp_path / "gpu_check.md").read_text()
    code, output, found = checked(tmp_path, "--only", "6")
    assert code == 0, output
    assert [part["ended"] for part in found["parts"]] == ["complete", "not reached"]
    page = (tmp_path / "gpu_check.md").read_text()
    assert "1 of 2 parts complete" in page and "**7 The tests for GPUs: not reached**" in page
    assert "gpu_check.py --smoke" in page and "| aim |" not in page, "speeds of a smoke run mean nothing"


def test_a_check_that_is_ended_says_which_parts_it_did_not_end(tmp_path: Path) -> None:
    words = [str(BENCHMARKS / "gpu_check.py"), "--smoke", "--only", "1,6", "--out", "out"]
    command = MarkedCommand(tmp_path, sys.executable, *words)
    until("the first part to begin", lambda: (tmp_path / "out/part-1.log").exists())
    command.child.terminate()
    command.child.wait()
    page = (tmp_path / "out/gpu_check.md").read_text()
    assert "**1 Numerics against float64: stopped**" in page and "**6 Where the time goes: not reached**" in page
    command.leaves_nothing()


SMI = """#!/bin/sh
case "$1" in
--query-gpu=driver*) echo "580.159.04, 700.00 W" ;;
--query-gpu=clocks*) echo "1980 MHz, 1980 MHz, 34, 121.51 W" ;;
--query-compute-apps*) echo "4711, 812 MiB" ;;
esac
"""


def test_a_gpus_clock_and_other_processes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu.machine import state

    gpu = torch.device("cuda", 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert state(gpu) == "Before it: clock 1980 MHz of 1980 MHz, 34 °C, 121.51 W; 1 other process on the GPU."
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert state(gpu) == "" == state(torch.device("cpu"))


@pytest.mark.parametrize("words", [("--out", "a file"), ("--slower", "0"), ("--within", "-1"), ("--slower", "x")])
def test_wrong_words_end_with_2_and_a_line(words: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    code, output = forks.call(tmp_path, [str(BENCHMARKS / "gpu_check.py"), "--smoke", *words], os.environ)
    assert code == 2 and words[0] in output.splitlines()[-1] and "Traceback" not in output


@pytest.mark.parametrize("words", ["0", "9", "two", ""])
def test_a_part_that_does_not_exist_is_named(words: str, tmp_path: Path) -> None:
    command = [str(BENCHMARKS / "gpu_check.py"), "--only", words, "--out", str(tmp_path)]
    code, output = forks.call(Path.cwd(), command, os.environ)
    assert code == 2 and "--only takes numbers from 1 to 8" in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_check_says_so_once_and_writes_nothing(tmp_path: Path) -> None:
    command = [str(BENCHMARKS / "gpu_check.py"), "--out", str(tmp_path / "out")]
    code, output = forks.call(Path.cwd(), command, os.environ)
    assert code == 2 and output.startswith("torch finds no GPU here") and output.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of part 1."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu.numerics

    return gpu.numerics


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        ("nothing", set()),
        ("keys", {"loss", "update", "update, worst layer"}),
        ("labels", {"loss", "update", "update, worst layer"}),
        ("rate", {"update", "update, worst layer"}),
    ],
)
def test_the_check_of_numbers_finds_what_is_wrong(
    what: str, broken: set[str], numerics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    torch.manual_seed(seed)
    size = numerics.SMOKE
    right = numerics.gradients

    def wrong(model: torch.nn.Module, batch: Any, normalise: Any, how: Any) -> torch.Tensor:
        """Right in float64 alone."""
        if next(model.parameters()).dtype != torch.float64 and what != "nothing":
            if what == "rate":
                how = replace(how, images=2 * how.images)
                return 2 * right(model, batch, normalise, how)
            batch = batch._replace(**{what: getattr(batch, what).roll(1, 0)})
        return right(model, batch, normalise, how)

    monkeypatch.setattr(numerics, "gradients", wrong)
    findings = numerics.Findings(tmp_path / "part-1.json", "")
    numerics.check_precisions(numerics.cases(size)[:1], size, findings)
    problems = [check["what"] for check in findings.values["checks"] if not check["passed"]]
    assert {name.partition(" in ")[0].partition(", ")[2] for name in problems if "float32" in name} == broken, problems


def test_a_net_that_is_not_compiled_after_all_is_a_failure(
    numerics: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(numerics, "compiled", lambda model, *_: model)
    with pytest.raises(RuntimeError, match=r"torch\.compile failed"):
        numerics.way(numerics.cases(numerics.SMOKE)[0], "float32", numerics.SMOKE, compiles=True)


@pytest.mark.exhaustive
def test_a_small_run_of_the_svms_benchmark_measures_both_sets(tmp_path: Path) -> None:
    code, output = forks.call(tmp_path, [str(BENCHMARKS / "svm_memory.py"), "--scale", "0.05"], os.environ)
    assert code == 0, output
    for pattern in (r"\| VOC-2007 \| 251 \+ 247 x 410 \|", r"\| Caltech-256 \| 771 \+ 3,084 x 1,229 \|"):
        assert re.search(pattern, output), f"no {pattern} in\n{output}"
