"""Measures memory and time of appendix B's SVMs at full size, on random numbers around a centre for each class.

Caltech-256: 257 classes of 60 training images, nets D and E at three scales stacked, 24,576 numbers. VOC-2007: 5,011
training images of which half choose C, 20 classes, D and E averaged over five scales, 8,192 numbers. C is chosen from
four. The rotation, the choice and the last training are those of the program; only so many classes are trained as
`--classes` says, and all classes and splits are extrapolated. Prints Markdown for RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pipeline.system.progress import Progress  # noqa: E402
from stages.svm_processes import in_processes  # noqa: E402
from vgg.draws import Floats  # noqa: E402
from vgg.measures import BY_CLASS  # noqa: E402
from vgg.splits import Division, held_out_division, random_division  # noqa: E402
from vgg.svm import ClassSvm, Fitting, Job, Labels, chosen  # noqa: E402

COSTS = (0.1, 1.0, 10.0, 100.0)
GB = 1e9
AT_ONCE = 1024
PART = 0.35  # of the class's centre in an example; then some test examples are confused, as in the paper


class MadeUpSet(NamedTuple):
    """A data set as the SVMs see it."""

    rows: np.ndarray  # (examples, numbers)
    labels: Labels
    division: Division
    measure: str
    splits: int


def described(classes: np.ndarray, numbers: int) -> np.ndarray:
    """Return examples of length 1, not negative like activations after a ReLU."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes.max() + 1, numbers), np.float32)
    rows = np.empty((len(classes), numbers), np.float32)
    for first in range(0, len(classes), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        noise = random.standard_normal(rows[part].shape, np.float32)
        rows[part] = np.maximum(PART * centres[classes[part]] + noise, 0)
        rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
    return rows


def caltech256(scale: float, test: int) -> MadeUpSet:
    """Return Caltech-256, `test` images per class to test."""
    train = round(60 * scale)
    classes = np.arange(257).repeat(train + test)
    labels = np.where(classes[:, None] == np.arange(257), 1, -1).astype(np.int8)
    division = random_division(classes, 0, 0, train, test, 0.2)
    return MadeUpSet(described(classes, round(24576 * scale)), labels, division, "recall", 3)


def voc2007(scale: float, _: int) -> MadeUpSet:
    """Return VOC-2007: some examples have two classes, and some labels are 0."""
    count = round(9963 * scale)
    random = np.random.default_rng(1)
    classes = np.arange(count) % 20
    labels = np.where(classes[:, None] == np.arange(20), 1, -1).astype(np.int8)
    labels[np.arange(count), (classes + 1) % 20] = random.choice([-1, 0, 1], count, p=[0.7, 0.05, 0.25])
    train = np.arange(count) < round(5011 * scale)
    half = held_out_division(classes, train, ~train, 0, 0.5)
    return MadeUpSet(described(classes, round(8192 * scale)), labels, half, "ap11", 1)


SETS = {"VOC-2007": voc2007, "Caltech-256": caltech256}


def timed(times: list[float], progress: Progress) -> Fitting:
    """Return the program's training of SVMs, which notes when each call began and ended."""

    def fitting(rows: Floats, labels: Labels, jobs: Sequence[Job], seed: int) -> Iterator[tuple[Job, ClassSvm]]:
        times.append(time.perf_counter())
        yield from in_processes(progress, rows, labels, jobs, seed)
        times.append(time.perf_counter())

    return fitting


def peak(who: int) -> float:
    """Return the largest memory of this process, or of those that it started, in GB."""
    return resource.getrusage(who).ru_maxrss * 1024 / GB


def measured(name: str, made: MadeUpSet, classes: int) -> str:
    """Return a line of the table."""
    rows, times = made.rows, [time.perf_counter()]
    labels = made.labels[:, :classes]
    with Progress(name, None, "SVMs") as progress:
        fitting = timed(times, progress)
        found = chosen(rows, labels, made.division, COSTS, BY_CLASS[made.measure], 0, fitting)
    tuning, last = times[2] - times[1], times[4] - times[3]
    every = made.splits * (times[1] - times[0] + (tuning + last) * made.labels.shape[1] / classes) / 3600
    train, test = len(made.division.train), len(made.division.test)
    return (
        f"| {name} | {train:,} + {test:,} x {rows.shape[1]:,} | {rows.nbytes / GB:.1f} | {times[1] - times[0]:.0f} | "
        f"{tuning / classes / len(COSTS):.1f} | {last / classes:.1f} | {found.fit.iterations.max()} | "
        f"{peak(resource.RUSAGE_SELF):.1f} | {peak(resource.RUSAGE_CHILDREN):.1f} | {every:.1f} |"
    )


def main() -> None:
    """Measure the sets, the smaller first, because a process's peak only grows; print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--classes", type=int, default=2, help="that are trained")
    arguments.add_argument("--test", type=int, default=12, help="images per class of Caltech-256 to test")
    arguments.add_argument("--scale", type=float, default=1.0, help="of the numbers of images and of numbers")
    arguments.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    given = arguments.parse_args()
    lines = [measured(name, SETS[name](given.scale, given.test), given.classes) for name in given.sets]
    print(
        f"{len(os.sched_getaffinity(0))} cores. Seconds of the wall clock; GB is 10^9 bytes.\n\n"
        "| set | training + test images x numbers | numbers, GB | rotation, s | s per SVM, C chosen | the last | "
        "iterations | peak, GB | largest process of SVMs, GB | all classes and splits, hours |\n"
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *lines, sep="\n",
    )  # fmt: skip


if __name__ == "__main__":
    main()
