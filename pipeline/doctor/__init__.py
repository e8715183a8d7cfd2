"""The checks of `vgg-repro doctor` in their order, each a function that yields findings."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.doctor import cluster, data, gpu, machine, software, tracking
from pipeline.doctor.base import INSTALL, DoctorContext, Finding, restore_command
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import PARAMS
from pipeline.experiment.validation import load
from pipeline.system.checkout import BrokenCheckout

CHECKS = (
    software.packages, software.torch, software.dali, gpu.gpu, tracking.repository, tracking.cache,
    tracking.lost_results, machine.memory, machine.disk, data.images, data.shards, data.training,
    cluster.cluster,
)  # fmt: skip


def findings() -> Iterator[Finding]:
    """Yield the findings of the parameters and of all checks."""
    params, finding = _params()
    yield finding
    context = DoctorContext(params)
    for check in CHECKS:
        yield from _safely(check, context)


def _safely(check: Callable[[DoctorContext], Iterator[Finding]], context: DoctorContext) -> Iterator[Finding]:
    """Yield the findings of a check; report an unexpected exception as a finding."""
    try:
        yield from check(context)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        says = f"the check itself failed with {type(error).__name__}: {error} ({where})"
        yield Finding(check.__name__, "failure", says, INSTALL)


def _params() -> tuple[Params | None, Finding]:
    """Return the parameters, or None if they are invalid, and the finding about them."""
    try:
        params = load()
    except BrokenCheckout as failure:
        return None, Finding("params.yaml", "failure", *failure.problem)
    except Failure as problem:
        fix = f"git diff {PARAMS}    # and fix it there" if PARAMS.exists() else restore_command(PARAMS)
        return None, Finding("params.yaml", "failure", str(problem), fix)
    return params, Finding("params.yaml", "ok", f"valid, profile {params.profile}, {len(params.runs)} runs")
