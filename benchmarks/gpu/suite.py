"""The tests for GPUs: those that need one, and those of the GPU's code that a machine without one passes too."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gpu.findings import Findings
from gpu.machine import Size

ROOT = Path(__file__).resolve().parents[2]
SETS = {
    "need a GPU": ["tests/gpu"],
    "need no GPU": ["tests/vgg/test_gpu_nets.py", "tests/stages/test_gpu_stages.py"],
}
HIDDEN: list[dict[str, str]] = [{}, {"CUDA_VISIBLE_DEVICES": ""}]  # the second set makes its GPUs up
COUNTS = ("passed", "failed", "skipped")


class Counted(NamedTuple):
    """What pytest found."""

    code: int
    seconds: float
    counts: dict[str, int]
    failures: dict[str, str]  # the first line of each by the test's name
    reasons: list[str]  # why tests were skipped


def run(size: Size, findings: Findings) -> None:
    """Run both sets of tests at once and record what pytest counts."""
    import pytest  # noqa: F401  # a machine without it leaves this part out

    table = findings.table("tests that", *COUNTS, "seconds")
    with ThreadPoolExecutor(len(SETS)) as threads:
        for name, outcome in zip(SETS, threads.map(tested, SETS.values(), HIDDEN), strict=True):
            table.row(name, *(str(outcome.counts[what]) for what in COUNTS), f"{outcome.seconds:.0f}")
            for what in COUNTS:
                findings.figure(f"tests that {name}: {what}", outcome.counts[what])
            for reason in outcome.reasons:
                findings.say(f"Skipped: {reason}")
            failed = "; ".join(f"{test}: {line}" for test, line in outcome.failures.items())
            right = outcome.code == 0 and not outcome.failures
            findings.check(
                f"tests that {name} pass", right, failed or f"pytest ended with {outcome.code}" * (not right)
            )
            if not size.smoke and name == "need a GPU":
                findings.check("no test that needs a GPU is skipped", outcome.counts["skipped"] == 0)


def tested(paths: list[str], hidden: dict[str, str]) -> Counted:
    """Run pytest on files of tests, with more environment variables."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-p", "no:cacheprovider", f"--junitxml={report}", "--basetemp", f"{folder}/tests", "--durations=8"]
        command = [sys.executable, "-m", "pytest", *options, *paths]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        there = {**os.environ, "PYTHONPATH": path, **hidden}
        code = subprocess.run(command, cwd=ROOT, env=there, check=False).returncode
        cases = [*ElementTree.parse(report).iter("testcase")] if report.exists() else []
    failures, reasons, skipped = dict[str, str](), dict[str, None](), 0
    for case in cases:
        for kind in ("failure", "error"):
            for found in case.findall(kind):
                failures[case.get("name", "")] = (found.get("message") or "").strip().split("\n")[0][:200]
        for found in case.findall("skipped"):
            skipped += 1
            reasons[found.get("message") or ""] = None
    counts = {"passed": len(cases) - len(failures) - skipped, "failed": len(failures), "skipped": skipped}
    return Counted(code, time.monotonic() - started, counts, failures, [*reasons])
