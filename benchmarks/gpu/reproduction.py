"""A tiny reproduction through the project's own stages, scores of the GPU against the CPU's, and the decoders' pixels.

The stages are run as `vgg-repro ... --direct`, without DVC, in a temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from gpu.findings import Findings, Rows
from gpu.machine import CPU, Size, use
from gpu.pixels import check_pixels

ROOT = Path(__file__).resolve().parents[2]
EAGER = {"TORCH_COMPILE_DISABLE": "1"}  # for runs in which compiling would take longer than training
POINTS = 4.0  # that two trainings may differ by besides the chance of 1,020 images
FLOAT32, DECISIONS = 1e-4, 0.5  # aims: relative difference; per cent of images
CROPPED = 128  # images that the CPU scores by crops, 50 each


class Ended(NamedTuple):
    """How a command ended."""

    words: str
    code: int
    seconds: float
    said: str


def run(size: Size, findings: Findings) -> None:
    """Prepare, train, stop, resume, score and tabulate, and meanwhile compare pixels and posteriors."""
    if size.smoke:
        findings.say("A smoke run: the nets have learnt nothing.")
    findings.say(
        "Profile mini by `vgg-repro ... --direct`. Commands run side by side; A-LRN and B without torch.compile, which "
        "takes longer than their training."
    )
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(8) as threads:
        folder = Path(name)
        write_params(folder, size, "cpu")
        table = findings.table("command", "seconds", "exit code", "last line")
        take(threads.submit(call, folder, "prepare"), table, findings)
        draw_weights(folder)
        first = threads.submit(call, folder, "train A-256")
        other = threads.submit(prepared_elsewhere, folder / "other", size)
        stopped = threads.submit(stopped_and_resumed, folder)
        check_pixels(size, findings)
        table = findings.table("command", "seconds", "exit code", "last line")
        take(first, table, findings)
        following = [threads.submit(call, folder, words) for words in ("score dense A-256", "score centre A-256")]
        warm = threads.submit(call, folder, "train B-256", **EAGER)
        for done in following:
            take(done, table, findings)
        check_errors(folder, ["dense-A-256", "centre-A-256"], size, findings)
        note_speed(folder, findings)
        check_posteriors(folder, size, findings)
        show(other.result(), table, findings)
        check_stop(stopped.result(), findings)
        take(warm, table, findings)
        following = [threads.submit(call, folder, f"score {mode} B-256") for mode in ("dense", "centre", "crops")]
        for done in following:
            take(done, table, findings)
        check_errors(folder, ["dense-B-256", "centre-B-256", "crops-B-256"], size, findings)
        take(threads.submit(call, folder, "table 3"), table, findings)


def write_params(folder: Path, size: Size, device: str) -> None:
    """Write the repository's params.yaml with profile mini, smaller for a smoke run; `device` is that of prepare."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    mini = values["profiles"]["mini"]
    values |= {"profile": "mini", "profiles": {"mini": mini}}
    mini["prepare"]["device"] = device
    if size.smoke:
        mini["data"]["limit"] = 64
        mini["prepare"]["processes"] = 2
        mini["train"]["batch"] = 8
        mini["net"] |= {"size_ratio": "2/7", "width_ratio": "1/16", "fc": 16}
        for recipe in mini["recipes"].values():
            recipe |= {"epochs": 2, "first_drop": 0}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


# Commands


def begin(folder: Path, words: str, log: Any, **environment: str) -> subprocess.Popen[bytes]:
    """Start a command of the project in `folder`."""
    command = [sys.executable, "-c", "from cli.main import main; main()", *words.split(), "--direct"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {key: value for key, value in os.environ.items() if key not in ("DVC_STAGE", "VGG_REPRO_SHARDS")}
    there = {**kept, "PYTHONPATH": path, **environment}
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=there)


def call(folder: Path, words: str, **environment: str) -> Ended:
    """Run a command to its end."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        code = begin(folder, words, log, **environment).wait()
        return Ended(words, code, time.monotonic() - started, text(log))


def text(log: Any) -> str:
    """Return all that was written to a file."""
    log.seek(0)
    return log.read().decode(errors="replace")


def take(command: Future[Ended], table: Rows, findings: Findings) -> None:
    """Wait for a command and record it; one that fails is a failed check, with all that it said in the log."""
    show(command.result(), table, findings)


def show(ended: Ended, table: Rows, findings: Findings, wanted: int = 0) -> None:
    """Record how a command ended."""
    lines = ended.said.strip().splitlines() or [""]
    if ended.code != wanted:
        print(ended.said, flush=True)
    last = next((line for line in reversed(lines) if ": " in line), lines[-1])
    table.row(f"`{ended.words}`", f"{ended.seconds:.1f}", str(ended.code), last[:160].replace("|", "/"))
    findings.figure(f"seconds: {ended.words}", ended.seconds)
    findings.check(f"`{ended.words}` ends with {wanted}", ended.code == wanted, "" if ended.code == wanted else last)


def draw_weights(folder: Path) -> None:
    """Draw the random weights of both runs, in this process, which has imported torch."""
    from pipeline.experiment.validation import load
    from stages import random

    with contextlib.chdir(folder):
        params = load()
        for net in ("A", "A-LRN"):
            random.main(params, net)


def stopped_and_resumed(folder: Path) -> list[Ended]:
    """Stop a run by SIGTERM after its first checkpoint, then finish it by the same command."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        command = begin(folder, "train A-LRN-256", log, **EAGER)
        while command.poll() is None and not [*folder.glob("checkpoints/A-LRN-256-*/last.pt")]:
            time.sleep(0.02)
        command.send_signal(signal.SIGTERM)
        stopped = Ended("train A-LRN-256, stopped", command.wait(), time.monotonic() - started, text(log))
    resumed = call(folder, "train A-LRN-256", **EAGER)
    return [stopped, resumed._replace(words="train A-LRN-256, resumed")]


def check_stop(both: list[Ended], findings: Findings) -> None:
    """Check that the stopped run said so, and that the next went on from there."""
    table = findings.table("stopped by SIGTERM after a checkpoint", "seconds", "exit code", "last line")
    for one, wanted in zip(both, (130, 0), strict=True):
        show(one, table, findings, wanted)
    findings.check("the second command goes on where the first stopped", "resumed at step" in both[1].said)


def prepared_elsewhere(folder: Path, size: Size) -> Ended:
    """Prepare the same images, decoded on the GPU, beside the training of A."""
    device = size.device.type.replace("cuda", "gpu")
    write_params(folder, size, device)
    return call(folder, "prepare")._replace(words=f"prepare, device: {device}, beside training")


# Errors


def check_errors(folder: Path, names: list[str], size: Size, findings: Findings) -> None:
    """Show the errors beside the committed ones; A's dense error at Q = 256 must be near."""
    table = findings.table("top-1 error, per cent", "Q", "here", "committed, on a CPU")
    for name in names:
        path = folder / "scores" / f"{name}.json"
        if not path.exists():
            continue
        here, committed = json.loads(path.read_text()), ROOT / "reports/mini/scores" / path.name
        known = json.loads(committed.read_text())["errors"] if committed.exists() else {}
        for scale, errors in here["errors"].items():
            usual = known.get(scale, {}).get("top1")
            table.row(name, scale, f"{errors['top1']:.1f}", "" if usual is None else f"{usual:.1f}")
            findings.figure(f"top-1 error: {name} at {scale}", errors["top1"])
        if name == "dense-A-256" and not size.smoke:
            check_near(here["errors"]["256"]["top1"], known["256"]["top1"], here["images"], findings)


def check_near(here: float, usual: float, images: int, findings: Findings) -> None:
    """Check that two errors of the same images differ by no more than chance and two trainings' spread explain."""
    share = usual / 100
    limit = 1.96 * 100 * math.sqrt(2 * share * (1 - share) / images) + POINTS
    what = f"A's dense error at Q = 256 is within {limit:.1f} points (95 % of chance, and {POINTS:g}) of the CPU's"
    findings.check(what, abs(here - usual) <= limit, f"{here:.1f} and {usual:.1f} %")


def note_speed(folder: Path, findings: Findings) -> None:
    """Record how fast A was trained, beside the other commands that ran at the same time."""
    path = folder / "provenance" / "train@A-256.json"
    if path.exists():
        values = json.loads(path.read_text())
        rate, waited = values["images_per_second"], values["waited"]
        findings.say(f"A was trained on {values['device']} at {rate:,.0f} images/s, waiting {waited:.0f} % for images.")
        findings.figure("mini, A: images per second", rate)
        findings.figure("mini, A: per cent waiting", waited)


# Posteriors


def check_posteriors(folder: Path, size: Size, findings: Findings) -> None:
    """Compare A's posteriors of the validation images: float32 on GPU and CPU, and bfloat16 and float32 on the GPU."""
    from pipeline.datasets.facts import read_statistics
    from pipeline.experiment.validation import load
    from pipeline.system.decoders import decoder_in_use
    from stages.common import open_shards, scorer_of
    from vgg.images import Rescaled, rescaled_batches

    use("float32")
    with contextlib.chdir(folder):
        params, statistics = load(), read_statistics()
        images = open_shards(params, "val", statistics)
        scorers = [scorer_of(params, "A-256", statistics, where) for where in (size.device, CPU)]
        scale, decoder = params.active.net.pixels(256), decoder_in_use(params.decoder)
        batches = [Rescaled(pixels.clone(), ids)
                   for pixels, ids in rescaled_batches(images, scale, 64, 4, decoder=decoder)]  # fmt: skip
    there, here = (replace(scorer, bfloat16=False) for scorer in scorers)
    table = findings.table("A, the same pixels", "float32: largest relative difference, GPU and CPU",
                           "images", "bfloat16: other top-1 class than float32, GPU", "images")  # fmt: skip
    for mode in ("dense", "crops", "centre"):
        torch.backends.cudnn.benchmark = mode != "dense"  # as stages/common.py
        some = few(batches) if mode == "crops" else batches
        usual, found = (posteriors(scorer, some, len(images), mode) for scorer in (here, there))
        if mode == "crops":
            found = posteriors(there, batches, len(images), mode)
        coarse = posteriors(replace(there, bfloat16=True), batches, len(images), mode)
        scored = ~np.isnan(usual).any(1)
        off = float((norms(found[scored] - usual[scored]) / norms(usual[scored])).max())
        other = 100 * float((coarse.argmax(1) != found.argmax(1)).mean())
        table.row(mode, f"{off:.1e}", f"{scored.sum()}", f"{other:.2f} %", f"{len(images)}")
        findings.aim(f"float32 posteriors, GPU and CPU, {mode}: largest relative difference", off, FLOAT32, False)
        findings.aim(f"bfloat16 decides otherwise than float32, {mode}", other, DECISIONS, False, " %")


def few(batches: list[Any]) -> list[Any]:
    """Return the first batches, of CROPPED images or a little more."""
    ends = np.cumsum([len(batch.ids) for batch in batches])
    return batches[: int(np.searchsorted(ends, CROPPED)) + 1]


def posteriors(scorer: Any, batches: list[Any], images: int, mode: str) -> NDArray[np.float32]:
    """Return the posteriors (images, K); NaN for images in no batch."""
    from vgg.score import VIEWS

    values: NDArray[np.float32] = scorer.posteriors(batches, images, VIEWS[mode])
    return values


def norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the norm of each row."""
    return np.linalg.norm(rows.astype(np.float64), axis=1)
