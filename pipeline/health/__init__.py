"""What `vgg-repro doctor` looks at: the checks in their order, each a function that yields findings."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import Failure
from pipeline.health import cache, data, disk, gpu, machine, software, tracking
from pipeline.health.base import INSTALL, Check, Finding, Here, SkippedError, at_home
from pipeline.health.child import probe
from pipeline.params import Params, load
from pipeline.paths import PARAMS

QUICK: tuple[Check, ...] = (
    software.python, software.packages, software.versions, software.program, data.images, data.shards, data.nets,
    tracking.git, tracking.dvc, tracking.conflicts, tracking.graph, tracking.locks, cache.cache, machine.memory,
    machine.shared_memory, machine.limits,
)  # fmt: skip
SLOW: tuple[Check, ...] = (
    software.torch,
    gpu.gpu,
    gpu.dali,
    gpu.precision,
    disk.disk,
)  # ask torch, which is begun first


def findings(md5: bool = False) -> Iterator[Finding]:
    """All that the checks find out; with `md5` the archives' check sums too, which takes as long as reading them."""
    params, said = _params()
    yield said
    here = Here(params, probe("torch", json.dumps(_sizes(params))), probe("dali", "cpu"))
    try:
        for check in (*QUICK, *SLOW, *([data.md5] if md5 else [])):
            yield from _safely(check, here)
    finally:
        here.torch.end()
        here.dali.end()


def _safely(check: Check, here: Here) -> Iterator[Finding]:
    """The findings of a check; one that cannot be made, or that ends unexpectedly, is a finding itself."""
    what = check.__name__.replace("_", " ")
    try:
        yield from check(here)
    except SkippedError as reason:
        yield Finding(what, "warning", f"skipped: {reason}")
    except Exception as error:
        yield _unexpected(what, error)


def _unexpected(what: str, error: Exception) -> Finding:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return Finding(what, "failure", f"the check itself ended with {type(error).__name__}: {error} ({where})", INSTALL)


def _params() -> tuple[Params | None, Finding]:
    """The parameters, and what is to be said of them."""
    try:
        params = load()
    except Failure as problem:
        return None, Finding("params.yaml", "failure", str(problem), _mend())
    except Exception as error:
        return None, _unexpected("params.yaml", error)
    return params, Finding("params.yaml", "ok", f"valid, profile {params.profile}, {len(params.runs)} runs")


def _mend() -> str:
    if PARAMS.exists():
        return f"edit {PARAMS} at that place; `git diff {PARAMS}` shows what was changed"
    return at_home() or f"git checkout -- {PARAMS}"


def _sizes(params: Params | None) -> dict[str, float]:
    """What the number of weights depends on; the paper's sizes if the profile's are not known."""
    if params is None:
        return {"classes": 1000, "crop": 224, "width": 1.0, "fc": 4096}
    net = params.chosen.net
    return {"classes": disk.counts(params)[1], "crop": net.crop, "width": float(net.width_ratio), "fc": net.fc}
