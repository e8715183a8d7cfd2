"""Checks a GPU for this project, and measures what it is worth, in at most five minutes.

    python benchmarks/gpu_check.py --out FOLDER           parts 1 to 7, in order of importance
    python benchmarks/gpu_check.py --only 1,2 --out FOLDER
    python benchmarks/gpu_check.py --smoke                the same code on a CPU with tiny nets; its speeds mean nothing

Each part runs in a process of its own with a time limit. FOLDER gets part-N.json and part-N.log as they grow, and
gpu_check.json and gpu_check.md before and after each part, with what earlier runs found there by other parts. Parts 1,
2, 3 and 6 need torch and torchvision alone; the others also need DALI and what the project imports, part 7 also pytest,
and are left out if that is missing. Exit code 1: a check failed, or a part was left out, stopped or not reached. Exit
code 2: wrong usage, or no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from gpu.findings import NOT_REACHED, Findings, nothing, page, write  # noqa: E402


class Part(NamedTuple):
    """A part of the check."""

    module: str
    title: str
    limit: int  # seconds


ASKED: list[int] = []  # the signals that asked this program to end
COMPILING = 60  # seconds that are waited for the nets to be compiled once part 1 has ended
PARTS = {
    1: Part("numerics", "1 Numerics against float64", 60),
    2: Part("training", "2 Training speed", 110),
    3: Part("scoring", "3 Scoring speed", 60),
    4: Part("reproduction", "4 A tiny reproduction, decoded on the GPU", 60),
    5: Part("loading", "5 Loading images", 50),
    6: Part("kernels", "6 Where the time goes", 30),
    7: Part("suite", "7 The tests for GPUs", 60),
    8: Part("alternatives", "8 What else might be faster", 90),
}


def main() -> None:
    """Run the parts one after the other; leave with 1 if a check failed or a part did not end, with 2 if none can."""
    arguments = parser()
    given = arguments.parse_args()
    try:
        parts = {int(number): PARTS[int(number)] for number in given.only.split(",")}
    except (ValueError, KeyError):
        arguments.error(f"--only takes numbers from 1 to {len(PARTS)}, such as 2,3; not {given.only!r}")
    os.environ.setdefault("TORCHDYNAMO_VERBOSE", "1")
    import torch  # once for all parts, which are forked; CUDA is not started here

    if not given.smoke and not gpu_found():
        why = "was built without CUDA" if torch.version.cuda is None else "finds no GPU here (nvidia-smi may say why)"
        arguments.exit(2, f"torch {why}; --smoke runs the same code on a CPU\n")
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        for number, part in parts.items():
            write(part_file(given.out, number), json.dumps(nothing(part.title), indent=1))
    except OSError as reason:
        arguments.error(f"--out: {reason}")
    signal.signal(signal.SIGTERM, stop)
    try:
        run_all(parts, given.out, given.smoke, given.slower, given.within)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        write_page(given.out)
        print(f"\nwritten: {given.out / 'gpu_check.md'}", flush=True)
    found = [json.loads(part_file(given.out, number).read_text()) for number in parts]
    sys.exit(any(one["ended"] != "complete" or not all(check["passed"] for check in one["checks"]) for one in found))


def stop(number: int, frame: FrameType | None) -> None:
    """End this program on SIGTERM, so that no part outlives it. Python ignores what is raised while it forks."""
    ASKED.append(number)
    sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    limits = "\n".join(f"  {part.title}, {part.limit} s" for part in PARTS.values())
    arguments = argparse.ArgumentParser(
        description=__doc__, epilog=f"parts and their limits:\n{limits}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_argument(
        "--only", default="1,2,3,4,5,6,7", help="parts by number, such as 2,3; 8 is run only if it is named"
    )
    arguments.add_argument("--out", type=Path, default=Path("gpu_check"), help="the folder; ./gpu_check if not given")
    arguments.add_argument("--smoke", action="store_true", help="on a CPU, with tiny nets")
    arguments.add_argument(
        "--within", type=positive, default=300.0, help="seconds for all parts together; 300 if not given"
    )
    arguments.add_argument("--slower", type=positive, default=1.0, help="factor of all time limits; 1 if not given")
    return arguments


def positive(text: str) -> float:
    """Return a number above 0. Raise ValueError, which argparse turns into a message, for anything else."""
    if not float(text) > 0:
        raise ValueError(text)
    return float(text)


def run_all(parts: Mapping[int, Part], out: Path, smoke: bool, slower: float, within: float) -> None:
    """Run the parts for which there is time, and write the page before and after each."""
    deadline = time.monotonic() + within * slower
    compiling = begin_compiling(out / "compiling.log") if {1, 2} <= set(parts) and not smoke else None
    try:
        for number, part in parts.items():
            if compiling and number != 1:
                compiling.join(min(COMPILING, max(deadline - time.monotonic(), 0)))
                end(compiling)
                compiling = None
            left = deadline - time.monotonic()
            if left < 1:
                print(f"\n== {part.title}: {NOT_REACHED} within {within * slower:.0f} s", flush=True)
                continue
            write_page(out)
            run(part, part_file(out, number), smoke, min(part.limit * slower, left))
    finally:
        if compiling:
            end(compiling)


def part_file(out: Path, number: int) -> Path:
    """Return the file with what a part found."""
    return out / f"part-{number}.json"


def write_page(out: Path) -> None:
    """Write what all parts in the folder found, also those of earlier runs."""
    found = [json.loads(path.read_text()) for path in (part_file(out, number) for number in PARTS) if path.exists()]
    write(out / "gpu_check.json", json.dumps({"program": program(), "parts": found}, indent=1))
    write(out / "gpu_check.md", page(program(), found))


@cache
def program() -> str:
    """Return the commit of this repository, if git knows it, and the command."""
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return f"Commit {commit}, `{shlex.join(['gpu_check.py', *sys.argv[1:]])}`."


def gpu_found() -> bool:
    """Return whether torch finds a GPU, by asking in a process of its own: what has started CUDA cannot be forked."""
    process = multiprocessing.get_context("fork").Process(target=look_for_gpu)
    process.start()
    process.join()
    return process.exitcode == 0


def look_for_gpu() -> None:
    """Leave with 1 if torch finds no GPU."""
    import torch

    sys.exit(not torch.cuda.is_available())


def begin_compiling(log: Path) -> BaseProcess:
    """Compile part 2's nets in a process beside part 1, into torch's cache on disk, from which part 2 takes them."""
    process = multiprocessing.get_context("fork").Process(target=compile_nets, args=(log,))
    process.start()
    return process


def compile_nets(log: Path) -> None:
    """Compile each net of part 2 once, in this process."""
    lead_group(log)
    from gpu import machine, training

    size = machine.full()
    machine.set_up(size)
    for net in training.NETS:
        training.Ours(net, size)


def run(part: Part, path: Path, smoke: bool, limit: float) -> None:
    """Run one part in a process of its own, killed with all that it started once it has taken `limit` seconds."""
    print(f"\n== {part.title} (at most {limit:.0f} s)", flush=True)
    findings = Findings(path, part.title)
    path.with_suffix(".log").write_bytes(b"")
    process = multiprocessing.get_context("fork").Process(target=work, args=(part, findings, smoke))
    process.start()
    late = True
    try:
        late = followed(process, path.with_suffix(".log"), limit)
    finally:
        end(process)
    values = json.loads(path.read_text())
    if values["ended"] == "stopped":
        values["ended"] = f"stopped after {limit:.0f} s" if late else f"ended by itself with {process.exitcode}"
        write(path, json.dumps(values, indent=1))
    print(f"-- {values['seconds']:.1f} s, {values['ended']}", flush=True)


def work(part: Part, findings: Findings, smoke: bool) -> None:
    """Run a part in this process."""
    lead_group(findings.path.with_suffix(".log"))
    try:
        from gpu import machine

        size = machine.SMOKE if smoke else machine.full()
        machine.set_up(size)
        findings.machine(machine.describe(size.device), smoke)
        findings.other_work(machine.state(size.device))
        importlib.import_module(f"gpu.{part.module}").run(size, findings)
        findings.end("complete")
    except ImportError as missing:
        findings.end(f"left out: {missing}")
        traceback.print_exc()
    except BaseException as error:
        findings.end(f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        traceback.print_exc()


def lead_group(log: Path) -> None:
    """Make this process the leader of a new group, whose output goes to a file."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)


def end(process: BaseProcess) -> None:
    """Kill a part and all that it started, which may outlive it."""
    assert process.pid
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has ended, or has no group yet
        process.kill()
    process.join()


def followed(process: BaseProcess, log: Path, limit: float) -> bool:
    """Print what the part writes to its log until it ends; return whether it is still running at the limit."""
    end = time.monotonic() + limit
    with log.open(errors="replace") as lines:
        running = True
        while running and time.monotonic() < end:
            process.join(0.5)
            if ASKED:
                sys.exit(1)
            running = process.is_alive()
            print(lines.read(), end="", flush=True)
    return running


if __name__ == "__main__":
    main()
