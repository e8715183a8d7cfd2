"""The parts of the GPU check that use the whole project: their code runs to its end on a CPU, with tiny nets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.clones import patience

pytestmark = pytest.mark.slow
CHECK = ROOT / "benchmarks" / "gpu_check.py"


def smoke(folder: Path, part: int) -> dict[str, Any]:
    """Return what a part finds in a smoke run; DVC, which many GPU machines lack, cannot be imported."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['dvc'] = None\n")
    words = ["--smoke", "--only", str(part), "--out", "found", "--slower", str(patience(9))]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, str(CHECK), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads((folder / "found" / f"part-{part}.json").read_text())
    assert found["ended"] == "complete", done.stdout
    assert [check for check in found["checks"] if not check["passed"]] == [], done.stdout
    assert done.returncode == 0, done.stdout
    return found


def rows(found: dict[str, Any], head: str) -> list[list[str]]:
    """Return the rows of the tables whose first head is `head`."""
    return [row for block in found["blocks"] if block[0][0] == head for row in block[1:]]


def test_a_tiny_reproduction_runs_without_dvc(tmp_path: Path) -> None:
    found = smoke(tmp_path, 4)
    commands = {
        row[0]: row[2] for head in ("command", "stopped by SIGTERM after a checkpoint") for row in rows(found, head)
    }
    assert commands["`train A-256`"] == commands["`train B-256`"] == commands["`table 3`"] == "0"
    assert commands["`train A-LRN-256, stopped`"] == "130" and commands["`train A-LRN-256, resumed`"] == "0"
    assert {row[0] for row in rows(found, "A, the same pixels")} == {"dense", "crops", "centre"}
    equal = [aim["value"] for aim in found["aims"] if aim["what"].startswith("float32")]
    assert equal == [0.0] * 3, "the CPU equals itself"
    kinds = {(row[0], row[1]) for row in rows(found, "decoded")}
    assert {("whole", "CMYK"), ("by region", "4:2:0"), ("whole", "PNG")} <= kinds
    assert [row[2:] for row in rows(found, "4:2:0 decoded")] == [["0 of 4", "0 of 4"]] * 2
    (truncated,) = rows(found, "a truncated JPEG")
    assert "Failed to decode" in truncated[1]
    assert found["figures"]["top-1 error: dense-A-256 at 256"] <= 100
    assert not list(tmp_path.glob("weights")), "all is done in a temporary folder"


def test_loading_is_timed(tmp_path: Path) -> None:
    found = smoke(tmp_path, 5)
    for name, value in found["figures"].items():
        assert value > 0 or "waiting" in name, name
    assert len(rows(found, "the stream alone, decoded by")) == 1
    assert len(rows(found, "whole images for scoring, decoded by")) == 2
    assert any("an estimate" in block for block in found["blocks"])


def test_loading_is_compared_with_part_2s_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu.findings import Findings
    from gpu.loading import needed

    assert needed(Findings(tmp_path / "part-5.json", ""))[0]["D"] == 3600
    rates = {"images_per_second_A": 5000.0, "images_per_second_D": 3000.0}
    (tmp_path / "part-2.json").write_text(json.dumps({"figures": rates}))
    assert needed(Findings(tmp_path / "part-5.json", "")) == ({"A": 5000.0, "D": 3000.0}, "measured by part 2")


def test_the_tests_for_gpus_are_counted(tmp_path: Path) -> None:
    figures = smoke(tmp_path, 7)["figures"]
    assert figures["tests that need a GPU: failed"] == figures["tests that need no GPU: failed"] == 0
    assert figures["tests that need no GPU: passed"] > 30
    assert figures["tests that need a GPU: passed"] + figures["tests that need a GPU: skipped"] > 10


def test_a_comparison_of_pixels_that_a_crash_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu.pixels import told

    with pytest.raises(ChildProcessError, match="ended with -6"):
        list(told(crash))


def crash(sent: Any) -> None:
    """End as a process does that a library aborts."""
    os.abort()
