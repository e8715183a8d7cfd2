"""The GPU benchmarks: all their code runs, on a CPU with tiny nets, and the check of numbers finds what is wrong."""

from __future__ import annotations

import os
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import ROOT, forks

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
    assert re.search(r"\| our stream \| \d+ \|", output)


@pytest.mark.parametrize(
    ("words", "patterns"),
    [
        (
            "gpu_training.py --nets D",
            [
                r"% \| \d+ \| `aten::.*conv",
                r"\| D, bfloat16, compiled \| [\d,.]+ \|",
                r"\| JPEGs, .* %",
                r"ratio: [\d.]+$",
            ],
        ),
        (
            "gpu_scoring.py",
            [r"\| dense at Q = 96 \| float32 \|", r"\| 150 crops ", r"worst dense row: \d+% in bfloat16"],
        ),
        (
            "gpu_numerics.py --seed 1",
            [r"\| small D \| crops ", "the same to the bit", "crops decoded .* mean 0.000", "broken: 0"],
        ),
        pytest.param(
            "scaling.py",
            [r"\| 1 \| .* \| 1.00 \| 100% \|", r"\| 2 \| ", r"speed-up of 2: [\d.]+ "],
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_a_smoke_run_goes_through_the_whole_script(words: str, patterns: list[str]) -> None:
    script, *more = words.split()
    code, output = forks.call(Path.cwd(), [str(BENCHMARKS / script), *more, "--smoke"], os.environ)
    assert code == 0, output
    assert "Smoke run: " in output
    for pattern in patterns:
        assert re.search(pattern, output, re.MULTILINE), f"no {pattern} in\n{output}"


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which is a script's."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_numerics

    return gpu_numerics


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
    what: str, broken: set[str], numerics: Any, monkeypatch: pytest.MonkeyPatch, seed: int
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
    problems = numerics.check_precisions(numerics.cases(size)[:1], size)
    assert {line.partition(" in ")[0].partition(", ")[2] for line in problems if "float32" in line} == broken, problems
