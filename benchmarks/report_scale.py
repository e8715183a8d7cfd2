"""Tables, claims, report and explanation at the paper's size: 1,000 classes, 50,000 images, all runs. Time and memory.

Made-up results of profile `paper` are written to an empty folder: posteriors (200 MB for each test scale, 9 GB in all),
errors, summaries, histories and a manifest with 1.28 million training images. Each command then runs once. Memory is
that of the process at its peak. DVC is not asked: the report is of a profile that is not active. Prints Markdown for
RESULTS.md. Some six minutes, and 11 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.measuring import PROGRAM, measured  # noqa: E402
from pipeline.datasets.facts import Facts  # noqa: E402
from pipeline.experiment.modes import scales_of, single_scale  # noqa: E402
from pipeline.experiment.paper_facts import EPOCHS, ITERATIONS  # noqa: E402
from pipeline.experiment.params import Params  # noqa: E402
from pipeline.experiment.params_file import activate  # noqa: E402
from pipeline.experiment.paths import CLASSIFICATION, errors, history, posteriors, summary  # noqa: E402
from pipeline.experiment.run_names import kind_of  # noqa: E402
from pipeline.experiment.targets import scored  # noqa: E402
from pipeline.experiment.validation import load  # noqa: E402
from pipeline.results.profile_results import collect  # noqa: E402
from pipeline.system.atomic_files import sha256, write_json, write_text  # noqa: E402
from vgg.errors import error, error_of_rate, top_k  # noqa: E402

TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7", "shallow")
MANIFEST = "0" * 64


def main() -> None:
    """Write the results, run each command, and print its time and memory."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--smoke", action="store_true", help="20 classes, 200 images")
    arguments.add_argument("--keep", type=Path, help="folder for the results and the report, which stays")
    given = arguments.parse_args()
    classes, images, train = (20, 200, 1_000) if given.smoke else (1_000, 50_000, 1_281_167)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(given.keep or folder)
        started = time.perf_counter()
        with get_context("spawn").Pool(1) as pool:  # so that this process stays small: a child's peak includes it
            pool.apply(write_results, (use("paper"), classes, images, train))
        size = sum(path.stat().st_size for path in Path("scores").glob("*.npz"))
        print(f"{classes:,} classes, {images:,} images, {size / 1e9:.1f} GB of posteriors, written in "
              f"{time.perf_counter() - started:.0f} s.\n")  # fmt: skip
        print("| command | s | CPU, s | GiB |\n|:--|--:|--:|--:|")
        for name in TABLES:
            print_row("stage", "table", name)
        print_row("stage", "claims")
        collect(use("paper"))
        use("mini")
        print_row("report", "--profile", "paper")
        print_row("report", "--html", "--profile", "paper")
        print_row("report", "--format", "csv", "--profile", "paper")
        print_row("explain", "--profile", "paper", "4", "D-jitter")
        print(f"\nreport.html: {Path('reports/paper/report.html').stat().st_size / 1e6:.2f} MB")


def use(profile: str) -> Params:
    """Write the repository's parameters with this profile active, and return them."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    activate(profile, "trained")
    return load()


def print_row(*words: str) -> None:
    """Run a command and print a row: its seconds, those of its processes, and its memory at the peak."""
    seconds, memory, used = measured([PROGRAM, *words])
    print(f"| `vgg-repro {' '.join(words)}` | {seconds:.1f} | {used:.1f} | {memory / 2**30:.2f} |", flush=True)


def write_results(params: Params, classes: int, images: int, train: int) -> None:
    """Write the images' facts and manifest, and of every run a summary, a history and all scores."""
    random = np.random.default_rng(0)
    labels = np.arange(images) % classes
    write_data(labels, classes, train)
    for run in params.runs:
        write_training(params, run, random, images, classes)
    for run, mode in scored(params):
        if kind_of(run) is None and run in params.runs:  # no localisers
            write_score(params, run, mode, random, labels, classes)


def write_data(labels: NDArray[np.int64], classes: int, train: int) -> None:
    """Write facts and a manifest as those of ILSVRC-2012."""
    names = [f"class {number}, another name of it" for number in range(classes)]
    facts = Facts(
        source="ilsvrc", about="made-up results", comparable=True, classes=names, train=train, val=len(labels),
        rescaled=0, mean_rgb=[123.7, 116.8, 103.9], covariance=np.diag([3000.0] * 3).tolist(), stored={},
        manifest=MANIFEST,
    )  # fmt: skip
    facts.write("paper")
    rows = [("train", f"n{number % classes:08d}_{number}", number % classes) for number in range(train)]
    rows += [("val", f"ILSVRC2012_val_{number + 1:08d}", label) for number, label in enumerate(labels)]
    head = "split,id,class,height,width,bytes,sha256,changed,small,warning,skipped\n"
    lines = (f"{split},{name},{label},375,500,110000,{MANIFEST},,,,\n" for split, name, label in rows)
    write_text(CLASSIFICATION.manifest, head + "".join(lines))


def write_training(params: Params, name: str, random: np.random.Generator, images: int, classes: int) -> None:
    """Write the summary and the history of a run."""
    run = params.runs[name]
    rates = np.linspace(95, 27, EPOCHS) + random.normal(size=EPOCHS)
    lines = [
        f"{ITERATIONS * (epoch + 1) // EPOCHS},{epoch},{6 - epoch / 20:.4g},0.01,{rate:.6g},{rate / 3:.6g}\n"
        for epoch, rate in enumerate(rates)
    ]
    write_text(history(name), "step,epoch,loss,learning_rate,top1,topk\n" + "".join(lines))
    last = error_of_rate(float(rates[-1]), images)
    crop = {"test_scale": single_scale(run), "k": top_k(classes), "top1": last.error, "top1_low": last.low,
            "top1_high": last.high, "topk": last.error / 3, "images": images}  # fmt: skip
    values = {"steps": ITERATIONS, "epochs": EPOCHS, "drops": 3, "loss": 2.3, "stalled_epochs": 0, "centre_crop": crop,
              "weights_sha256": "1" * 64, "seed": 0, "precision": "bfloat16", "data": MANIFEST}  # fmt: skip
    write_json(summary(name), {"profile": "paper", "run": name, **run.model_dump(mode="json"), **values})


def write_score(
    params: Params, name: str, mode: str, random: np.random.Generator, labels: NDArray[np.int64], classes: int
) -> None:
    """Write posteriors by which a quarter of the images is wrong, and their errors."""
    k, rates = top_k(classes), {}
    arrays = {str(scale): made_up(random, labels, classes) for scale in scales_of(params.runs[name], mode)}
    path = posteriors(name, mode)
    path.parent.mkdir(exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays, labels=labels, weights=np.array("1" * 64))
    for scale, values in arrays.items():
        rates[scale] = {"top1": error(values, labels, 1).error, "topk": error(values, labels, k).error}
    values = {"profile": "paper", "run": name, "mode": mode, "k": k, "images": len(labels), "errors": rates,
              "weights_sha256": "1" * 64, "precision": "bfloat16", "data": MANIFEST,
              "posteriors_sha256": sha256(path)}  # fmt: skip
    write_json(errors(name, mode), values)


def made_up(random: np.random.Generator, labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return posteriors (images, classes)."""
    scores = random.standard_normal((len(labels), classes), np.float32)
    scores[np.arange(len(labels)), labels] += random.normal(5.0, 2.5, len(labels)).astype(np.float32)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    return scores


if __name__ == "__main__":
    main()
