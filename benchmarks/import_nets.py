"""Imports a full net D, 138 million random weights, from each kind of file: time and memory of the whole command.

Each is `vgg-repro weights import D-jitter FILE` in a clone, DVC and its hashes included; memory is that of the largest
process. Prints Markdown for RESULTS.md. About four minutes, and 3 GB of disk.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.measuring import PROGRAM  # noqa: E402
from tests.support import foreign_files  # noqa: E402

LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
Writer = Callable[[Path, foreign_files.Layers, foreign_files.State], object]
WRITERS: dict[str, Writer] = {
    "caffemodel, layers of 2014": lambda path, net, _: path.write_bytes(foreign_files.caffemodel(net)),
    "caffemodel, layers since 2015": lambda path, net, _: path.write_bytes(foreign_files.caffemodel(net, "new")),
    "MatConvNet": lambda path, net, _: foreign_files.matconvnet(path, net),
    "MatConvNet, compressed": lambda path, net, _: foreign_files.matconvnet(path, net, compress=True),
    "PyTorch": lambda path, _, state: torch.save(state, path),
    "PyTorch, legacy": lambda path, _, state: path.write_bytes(foreign_files.torch_file(state, legacy=True)),
    "safetensors": lambda path, _, state: save_file(state, path),
}


def main() -> None:
    """Measure each kind and print a row of it."""
    net = foreign_files.random_net("D", np.random.default_rng(0), 1.0, classes=1000, width=1.0, fc=4096)
    layers, state = foreign_files.layers(net), {name: value.contiguous() for name, value in net.state_dict().items()}
    print("| file | GB | import, s | largest process, GiB |\n|:--|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        clone, file = Path(folder) / "clone", Path(folder) / "net"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        params = (clone / "params.yaml").read_text()
        params = params.replace("\nprofile: mini", "\nprofile: published").replace(
            "\nweights: trained", "\nweights: published"
        )
        (clone / "params.yaml").write_text(params)
        for kind, write in WRITERS.items():
            write(file, layers, state)
            seconds, peak = measured([PROGRAM, "weights", "import", "D-jitter", str(file)], clone)
            print(f"| {kind} | {file.stat().st_size / 1e9:.2f} | {seconds:.1f} | {peak:.2f} |", flush=True)


def measured(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds that a command takes, and the GiB of the largest of it and its children.

    A small process starts it: the kernel counts what a process was forked from as the process's own.
    """
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", LAUNCH, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started, int(done.stdout.splitlines()[-1]) / 2**20


if __name__ == "__main__":
    main()
