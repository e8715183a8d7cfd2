"""The first layer's filters of one net, small enough for git: `report` copies them where the weights are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import filters, weights
from pipeline.results.array_file import arrays_in
from pipeline.results.tables import read_table
from pipeline.system.atomic_files import sha256, whole

RUNS = ("D-jitter", "D-384", "D-256", "A-256")  # the filters of the first that is there are shown
FIRST = "conv1_1.weight"  # its name in a file of weights


@dataclass(frozen=True)
class Filters:
    """The first layer's filters of a run."""

    run: str
    weights: str  # hash of the file that they are from
    values: NDArray[np.float32]  # (filters, RGB, height, width)


def collect_filters(params: Params) -> None:
    """Copy the filters of the first of RUNS from whose weights Table 3 was computed; else leave an earlier copy.

    A damaged copy is replaced.
    """
    scored = read_table(params.profile, "table3").get("weights", {})
    target = filters(params.profile)
    try:
        known = read_filters(target)
    except Failure:
        known = None
    for run in RUNS:
        path = weights(run, params.weights)
        if known and scored.get(run) == known.weights:
            return
        if run in scored and path.exists() and sha256(path) == scored[run]:
            _write(Filters(run, scored[run], _first_layer(path)), target)
            return


def _first_layer(path: Path) -> NDArray[np.float32]:
    import torch

    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return np.array(stored["weights"][FIRST].float().numpy())


def _write(values: Filters, path: Path) -> None:
    with whole(path) as file:
        np.savez(
            file, allow_pickle=False, run=np.array(values.run), weights=np.array(values.weights), values=values.values
        )


def read_filters(path: Path) -> Filters | None:
    """Return the filters at `path`; None if there are none. Raise Failure if the file is broken."""
    if not path.exists():
        return None
    with arrays_in(path, "delete it, then: vgg-repro report") as arrays:
        return Filters(str(arrays["run"]), str(arrays["weights"]), arrays["values"])
