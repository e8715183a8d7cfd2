"""Stage train: one run of the grid, resumable at any step (section 3.1)."""

from __future__ import annotations

import csv
import io
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pipeline.cluster.job_folder import keep_results
from pipeline.datasets.facts import Statistics, read_statistics
from pipeline.errors import Failure
from pipeline.experiment.modes import single_scale
from pipeline.experiment.params import Params
from pipeline.experiment.paths import checkpoints, history, summary, weights
from pipeline.experiment.run_names import train_stage
from pipeline.orchestration.heartbeat import LOCK, identity, old_checkpoints, stalled_run
from pipeline.results.provenance import record_provenance
from pipeline.system.atomic_files import sha256, write_json, write_text
from pipeline.system.devices import in_use
from pipeline.system.locks import alone
from pipeline.system.progress import duration, gigabytes
from stages.common import save_tensors, weights_of
from stages.distributed import shared
from stages.trainer import Trainer
from vgg.distributed import Ranks
from vgg.errors import error_of_rate, top_k
from vgg.stalling import has_stalled

COLUMNS = ("step", "epoch", "loss", "learning_rate", "top1", "topk")  # of the history: what does not change by itself
FLOATS = ("loss", "learning_rate", "top1", "topk")  # columns rounded to six digits


def main(params: Params, name: str) -> None:
    """Train the run `name` from its checkpoint, or from its initial weights, to its finished weights.

    The parameters set the number of processes, which affects rounding only.
    """
    params = params.for_run(name)
    shared(params, params.active.training, f"train {name}", _train, name)


def _train(params: Params, name: str, where: torch.device, ranks: Ranks) -> None:
    """Do this process's part of `main`. Only the first process holds the lock and writes."""
    batch = params.active.training.batch
    if ranks.size > batch:
        raise Failure(f"{ranks.size} processes are more than the {batch} images of a batch")
    statistics = read_statistics()
    folder = checkpoints(name, identity(params, name, statistics))
    with alone(folder / LOCK, f"training {name}") if ranks.first else nullcontext():
        trainer = Trainer(params, name, statistics, where, folder, ranks)
        trainer.begin()
        if ranks.first:
            _name_old(name, folder, trainer.decoder)
        trainer.train()
        if ranks.first:
            _write(params, name, statistics, trainer, trainer.seconds)
            keep_results()
            shutil.rmtree(folder, ignore_errors=True)  # while the lock in it is held


def _name_old(name: str, folder: Path, decoder: str) -> None:
    """Print the run's old checkpoints, all but that in `folder`, from which training continues."""
    for old in old_checkpoints({name: folder}):
        if old.run == name:
            other = f" (decoded by {old.decoder}, not {decoder})" if old.decoder != decoder else ""
            print(
                f"{name}: the checkpoint in {old.folder} ({gigabytes(old.size)}) belongs to other parameters or data"
                f"{other} and may be deleted, unless you set those back"
            )


def _write(params: Params, name: str, statistics: Statistics, trainer: Trainer, seconds: float) -> None:
    """Write the finished weights, the history and the summary."""
    state, run = trainer.state, trainer.run
    save_tensors(weights(name), {"net": run.net, "weights": weights_of(trainer.net)})
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows({**asdict(row), **{key: f"{getattr(row, key):.6g}" for key in FLOATS}} for row in state.rows)
    write_text(history(name), text.getvalue())
    write_json(summary(name), _summary(params, name, statistics, trainer))
    waited = round(median(row.waited for row in state.rows), 2)
    rate = round(median(row.images_per_second for row in state.rows), 1)
    record_provenance(
        train_stage(name), summary(name), str(trainer.where), params.active.training.threads, seconds,
        trainer.ranks.size, trainer.decoder, images_per_second=rate, waited=waited,
    )  # fmt: skip
    if has_stalled(trainer.at_chance, len(state.rows)):
        print(trainer.stalled_words())
    print(
        f"{name}: {state.step} steps, validation error {state.rows[-1].top1:.1f} % at a centre crop, "
        f"{duration(seconds)}; {waited:.0f} % of the time was spent waiting for images"
    )


def _summary(params: Params, name: str, statistics: Statistics, trainer: Trainer) -> dict[str, Any]:
    state, run, last = trainer.state, trainer.run, trainer.state.rows[-1]
    images = len(trainer.task.val_images) - trainer.task.about.get("without_boxes", {}).get("val", 0)
    interval = error_of_rate(last.top1, images)
    return {
        "profile": params.profile,
        "run": name,
        **run.model_dump(mode="json"),
        **trainer.task.about,
        "steps": state.step,
        "epochs": len(state.rows),
        "drops": state.drops,
        "loss": last.loss,
        "stalled_epochs": trainer.at_chance,
        **({"init_stalled": True} if stalled_run(run.init) else {}),
        "centre_crop": {"test_scale": single_scale(run), "k": top_k(trainer.classes), "top1": interval.error,
                        "top1_low": interval.low, "top1_high": interval.high, "topk": last.topk, "images": images},
        "weights_sha256": sha256(weights(name)),
        "seed": params.active.training.seed,
        "precision": in_use(params.active.training.precision, trainer.where.type),
        "data": statistics.manifest,
    }  # fmt: skip
