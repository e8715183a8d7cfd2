"""The loader alone against what the nets take, and net D trained on it: JPEGs from shards, decoded by CPU or GPU."""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.findings import Findings, Rows
from gpu.machine import CLASSES, Size, synchronise
from gpu.pixels import decoder_load
from pipeline.system.decoders import decoder_in_use, has_dali
from vgg.images import rescaled_batches
from vgg.stream import StreamConfig, training_stream

if TYPE_CHECKING:
    from pipeline.datasets.shards import Shards

SIDES, QUALITY, GRAIN = (375, 500), 95, 9.0  # of the photographs; together about 110 kB
IMAGES, PER_SHARD = 2048, 512
MAKING = 8.0  # seconds that the photographs may take; if they take longer, some are used several times
EXPECTED = {"A": 6400.0, "D": 3600.0}  # images/s of training on an H100, by an estimate from its rates
WAITING = 3.0  # aim, per cent of the time
LATEST = 44.0  # seconds after which no further way is begun


def run(size: Size, findings: Findings) -> None:
    """Write shards, time the loader alone, train D on it, and time the decoding of whole images."""
    from gpu.training import Ours

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, making(size) as photographs:
        ours = Ours("D", size)  # is compiled while the photographs are made
        shards = written(Path(name), photographs(), findings)
        time_loader(shards, size, findings)
        train_on(ours, shards, size, started, findings)
        del ours
        gc.collect()
        time_whole(shards, size, started, findings)


# Shards


@contextmanager
def making(size: Size) -> Iterator[Any]:
    """Have processes make photographs; yield a function that waits for them."""
    count, cores = max(size.photographs, 2 * size.batch) if size.smoke else IMAGES, len(os.sched_getaffinity(0))
    shares, end = [len(range(core, count, cores)) for core in range(cores)], time.monotonic() + MAKING
    import tests.support.images  # noqa: F401  # once for all processes, which are forked

    with multiprocessing.get_context("fork").Pool(cores) as pool:
        made = pool.starmap_async(photographs, [(core, share, end) for core, share in enumerate(shares)])

        def wait() -> list[bytes]:
            found = [one for part in made.get() for one in part]
            return [found[number % len(found)] for number in range(count)]

        yield wait


def photographs(seed: int, count: int, end: float) -> list[bytes]:
    """Return `count` photograph-like JPEGs, or as many as are made by the time `end`, but at least one."""
    from tests.support.images import jpeg, photograph

    random, made = np.random.default_rng(seed), list[bytes]()
    while len(made) < count and (not made or time.monotonic() < end):
        grain = random.normal(0, GRAIN, (*SIDES, 1))
        made.append(jpeg(np.clip(photograph(random, *SIDES) + grain, 0, 255).astype(np.uint8), QUALITY))
    return made


def written(folder: Path, encoded: list[bytes], findings: Findings) -> Shards:
    """Return the photographs as shards in `folder`."""
    from pipeline.datasets.shards import Shards, ShardWriter, read_part, write_index

    numbers = range(-(-len(encoded) // PER_SHARD))
    for number in numbers:
        with ShardWriter(folder, "train", number) as shard:
            for place, one in enumerate(encoded[number * PER_SHARD : (number + 1) * PER_SHARD]):
                shard.add(record(number * PER_SHARD + place, one), one)
    parts = [read_part(folder, "train", number) for number in numbers]
    write_index(folder, "train", iter([part for part in parts if part is not None]))
    kilobytes, different = np.mean([len(one) for one in encoded]) / 1e3, len(set(encoded))
    findings.say(
        f"{len(encoded):,} JPEGs ({different:,} different) of {SIDES[1]} x {SIDES[0]}, {kilobytes:.0f} kB on average, "
        "in shards just written: all reading is from the page cache, not from a disk. Each image's SHA-256 is checked."
    )
    return Shards(folder, "train")


def record(number: int, encoded: bytes) -> Any:
    """Return the row of an image."""
    from pipeline.datasets.shards import ImageRecord

    digest = hashlib.sha256(encoded).digest()
    return ImageRecord(
        f"{number}", number % CLASSES, *SIDES, np.empty((0, 4)), 0, 0, digest, len(encoded), digest, "", False, "", "",
        np.zeros(3), np.zeros((3, 3)),
    )  # fmt: skip


# The loader


def ways(size: Size) -> dict[str, tuple[int | None, float | None]]:
    """Return the ways of decoding: a GPU, with DALI alone, or none, and the JPEG engines' share of a batch."""
    cores = len(os.sched_getaffinity(0))
    how = "" if has_dali() else ", without DALI"
    found: dict[str, tuple[int | None, float | None]] = {f"{cores} CPU threads{how}": (None, None)}
    if size.device.type == "cuda" and has_dali():
        for load in (0.0, 0.65, 1.0):
            found[f"GPU, hw_decoder_load {load:g}"] = (size.device.index, load)
    return found


def stream(shards: Shards, size: Size, gpu: int | None) -> Iterator[Any]:
    """Return the training stream with S between 256 and 512 for a crop of 224."""
    plan = StreamConfig(0, size.batch, size.crop, (size.crop * 8 // 7, size.crop * 16 // 7))
    threads, decoder = len(os.sched_getaffinity(0)), decoder_in_use("auto")
    return training_stream(shards, plan, threads=threads, gpu=gpu, decoder=decoder)


def time_loader(shards: Shards, size: Size, findings: Findings) -> None:
    """Time the stream when nobody trains, in each way, beside what A and D take."""
    needs, source = needed(findings)
    findings.say(f"What the nets take when they never wait, in images/s: A {needs['A']:,.0f}, D {needs['D']:,.0f} "
                 f"({source}).")  # fmt: skip
    table = findings.table("the stream alone, decoded by", "images/s", "of what A takes", "of what D takes")
    rates = {}
    for name, (gpu, load) in ways(size).items():
        with decoder_load(load):
            rates[name] = rate = loading_rate(stream(shards, size, gpu), size)
        table.row(name, f"{rate:,.0f}", *(f"{rate / needs[net]:.0%}" for net in ("A", "D")))
        findings.figure(f"loader, images per second: {name}", rate)
    for net in ("A", "D"):
        best = max(rates.values()) / needs[net]
        findings.aim(f"the loader's best rate over what {net} takes", best, 1.0)


def needed(findings: Findings) -> tuple[dict[str, float], str]:
    """Return the images/s of training A and D, and where they are from: part 2 if it has run, or an estimate."""
    try:
        figures = json.loads((findings.path.parent / "part-2.json").read_text())["figures"]
        return {net: float(figures[f"images_per_second_{net}"]) for net in EXPECTED}, "measured by part 2"
    except (OSError, ValueError, KeyError):
        return EXPECTED, "an estimate for an H100, because part 2 has not measured them here"


def loading_rate(batches: Iterator[Any], size: Size) -> float:
    """Return the images/s at which batches arrive on the device, after a warm-up."""
    for _ in range(4):
        use(next(batches), size)
    synchronise(size.device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1.8 * size.seconds:
        use(next(batches), size)
        count += 1
    synchronise(size.device)
    return count * size.batch / (time.perf_counter() - started)


def use(batch: Any, size: Size) -> None:
    """Bring a batch to the device as a step does, and read all its pixels."""
    batch.to(size.device).pixels.sum()


# Training on it


def train_on(ours: Any, shards: Shards, size: Size, started: float, findings: Findings) -> None:
    """Train D on the stream, and on one batch again and again, for some seconds each."""
    table = findings.table("D in bfloat16, compiled, images decoded by", "trained, images/s", "waits for images")
    waits = {}
    for name, (gpu, load) in ways(size).items():
        if late(started, f"training on images decoded by {name}", findings):
            break
        with decoder_load(load):
            rows = ours.fit(stream(shards, size, gpu), 2 if size.smoke else 14, 3).rows[1:]  # the first warms up
        rate, waited = (statistics.mean(getattr(row, what) for row in rows) for what in ("images_per_second", "waited"))
        waits[name] = waited
        table.row(name, f"{rate:,.0f}", f"{waited:.1f} %")
        findings.figure(f"D on the stream, images per second: {name}", rate)
        findings.figure(f"D on the stream, per cent waiting: {name}", waited)
        gc.collect()  # the pipeline's memory
    if waits:
        best = min(waits, key=lambda name: waits[name])
        findings.aim(f"D waits for images, decoded by {best}", waits[best], WAITING, False, " %")


# Whole images


def time_whole(shards: Shards, size: Size, started: float, findings: Findings) -> None:
    """Time the decoding of whole images for scoring."""
    table = findings.table("whole images for scoring, decoded by", "Q", "images/s")
    for name, (gpu, load) in ways(size).items():
        for scale in (256, 384):
            if load in (0.0, 1.0) or late(started, f"whole images at {scale} by {name}", findings):
                continue
            pixels, threads = scale * size.crop // 224, len(os.sched_getaffinity(0))
            with decoder_load(load):
                batch, decoder = 2 if size.smoke else 64, decoder_in_use("auto")
                batches = rescaled_batches(shards, pixels, batch, threads, gpu, decoder=decoder)
                rate = whole_rate(batches, size, table, name, scale)
            findings.figure(f"whole images per second at {scale}: {name}", rate)


def whole_rate(batches: Iterator[Any], size: Size, table: Rows, name: str, scale: int) -> float:
    """Return the images/s at which whole images arrive on the device, after a warm-up."""
    next(batches).pixels.to(size.device)
    synchronise(size.device)
    begun, count = time.perf_counter(), 0
    for pixels, ids in batches:
        pixels.to(size.device).sum()
        count += len(ids)
        if time.perf_counter() - begun > size.seconds:
            break
    synchronise(size.device)
    rate = count / (time.perf_counter() - begun)
    table.row(name, str(scale), f"{rate:,.0f}")
    return rate


def late(started: float, what: str, findings: Findings) -> bool:
    """Return whether there is no time left for something more, and say so."""
    if time.monotonic() - started < LATEST:
        return False
    findings.say(f"Left out for lack of time: {what}.")
    return True
