"""DVC's graph: its stages, what each needs, and what the next `dvc repro` would do with each, and why.

Nothing is locked, run or written: others may be at work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.errors import Failure, UsageError
from pipeline.files import json_text
from pipeline.params import Params
from pipeline.paths import FINGERPRINT, facts, shards_root
from pipeline.prepare import seen_from_outside, shards_key
from pipeline.sources import missing

Needs = Mapping[str, frozenset[str]]  # a stage to the stages it needs first
What = Literal["done", "cached", "run"]
LOOKS = "fingerprint"  # the stage that DVC runs each time
PREPARE = "prepare"
NAMED = 3  # stages named at the most, of those that a stage waits for
ALWAYS = "it runs each time"  # as stages without inputs do


class Fate(NamedTuple):
    """What the next `dvc repro` would do with a stage."""

    stage: str
    needs: frozenset[str]
    what: What  # nothing; take its outputs from the cache; run it
    why: str  # what has changed, or which stage before it runs


def needs(targets: Sequence[str]) -> Needs:
    """The stages that `targets` (all, if there are none) come down to, each with those it needs first.

    UsageError for a target that DVC does not know.
    """
    with _repo() as repo:
        graph = repo.index.graph
        return {one.addressing: _upstream(graph, one) for one in _ordered(repo, targets)}


def fates(targets: Sequence[str], params: Params) -> list[Fate]:
    """What would become of each stage that `targets` come down to, in the order of a run. UsageError as for `needs`.

    A stage whose inputs are as they were is taken to make again what it made then.
    """
    with _repo() as repo:
        stages = _ordered(repo, targets)
        makers = {str(out): stage.addressing for stage in stages for out in stage.outs}
        outputs: dict[str, Any] = {}  # path to the hash that it will have once its stage is up to date
        found = []
        for stage in stages:
            unknown = {makers[str(dep)] for dep in stage.deps if str(dep) in makers and str(dep) not in outputs}
            if unknown:
                own = _changed_inputs(stage, outputs, makers) if not _never(stage) else []
                fate: tuple[What, str] = "run", "; ".join([f"after {_some(sorted(unknown))}", *own])
            else:
                fate = _look(params, outputs) if stage.addressing == LOOKS else _fate(repo, stage, outputs)
            if stage.addressing == PREPARE and fate[0] == "run" and str(FINGERPRINT) in outputs:
                fate = "run", fate[1] + _prepared(params, outputs)
            found.append(Fate(stage.addressing, _upstream(repo.index.graph, stage), *fate))
        return found


@contextmanager
def _repo() -> Iterator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except DvcException as reason:
        raise UsageError(str(reason)) from None


def _ordered(repo: Any, targets: Sequence[str]) -> list[Any]:
    """DVC's stages that `targets` come down to, each behind those it needs."""
    from dvc.repo.reproduce import collect_stages, plan_repro

    stages: list[Any] = plan_repro(repo.index.graph, collect_stages(repo, list(targets) or ["dvc.yaml"]))
    return stages


def _upstream(graph: Any, stage: Any) -> frozenset[str]:
    return frozenset(one.addressing for one in graph.successors(stage))


def _fate(repo: Any, stage: Any, outputs: dict[str, Any]) -> tuple[What, str]:
    """What would become of a stage all of whose inputs are known; its outputs' hashes go to `outputs` if they are."""
    changed = ["never run here"] if _never(stage) else _changed_inputs(stage, outputs)
    if stage.is_callback:
        return "run", ALWAYS
    unchanged = not changed
    if unchanged:
        outputs.update({str(one): one.hash_info for one in stage.outs})
        changed = _changed_outputs(stage)
        if not changed:
            return "done", ""
    cached = _cached(repo, stage, outputs, unchanged)
    if cached is None:
        return "run", "; ".join(changed)
    outputs.update({str(one): one.hash_info for one in cached.outs})
    return "cached", "; ".join(changed)


def _look(params: Params, outputs: dict[str, Any]) -> tuple[What, str]:
    """What the stage that looks at the source would find; the hash of what it would write goes to `outputs`."""
    from dvc_data.hashfile.hash_info import HashInfo

    if lacking := missing(params.chosen):
        return "run", lacking
    try:
        text = json_text(seen_from_outside(params))
    except Failure as reason:
        return "run", str(reason)
    outputs[str(FINGERPRINT)] = HashInfo("md5", hashlib.md5(text.encode()).hexdigest())
    if not FINGERPRINT.exists():
        return "run", "looks whether the images have changed"
    known = FINGERPRINT.read_text()
    if known == text:
        return "done", ""
    return "run", f"the images have changed: {_listed(_values(known), json.loads(text))}"


def _prepared(params: Params, outputs: dict[str, Any]) -> str:
    """What to say of shards that are there already, another clone's say; the facts' hash goes to `outputs`."""
    from dvc_data.hashfile.hash_info import HashInfo

    there = shards_root() / shards_key(params) / "facts.json"
    if not there.exists():
        return ""
    outputs[str(facts(params.profile))] = HashInfo("md5", hashlib.md5(there.read_bytes()).hexdigest())
    return "; its shards are there already"


def _values(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _some(names: Sequence[str]) -> str:
    """Two or three names, or two and how many more."""
    more = [f"{len(names) - NAMED + 1} more"] if len(names) > NAMED else []
    return ", ".join([*names[: NAMED - len(more)], *more])


def _never(stage: Any) -> bool:
    return not any(out.hash_info for out in stage.outs)


def _changed_inputs(stage: Any, outputs: Mapping[str, Any], unknown: Container[str] = ()) -> list[str]:
    """Which of the command, the parameters and the files that a stage depends on have changed, in words."""
    said = ["its command has changed"] if stage.cmd_changed else []
    for dep in stage.deps:
        path = str(dep)
        if hasattr(dep, "params"):
            said += _changed_values(dep)
        elif path in outputs or path not in unknown:
            now = outputs.get(path) or (dep.get_hash() if dep.exists else None)
            said += [f"{path} is missing"] * (now is None) + [f"{path} has changed"] * (
                now not in (None, dep.hash_info)
            )
    return said


def _changed_outputs(stage: Any) -> list[str]:
    words = {"deleted": "is missing", "not in cache": "is not in the cache"}
    return [f"{path} {words.get(state, 'has changed')}" for out in stage.outs for path, state in out.status().items()]


def _changed_values(dep: Any) -> list[str]:
    """Which parameters have changed, with what they were and are."""
    known, now = dep.hash_info.value or {}, dep.read_params()
    new = sorted(set(now) - set(known))
    profiles = {key.split(".")[1] for key in new if key.startswith("profiles.")}
    said = [f"never run with profile {name}" for name in sorted(profiles)]
    said += [f"{key} is new" for key in new if not key.startswith("profiles.")]
    for key in sorted(set(known) & set(now)):
        said += [f"{key}{text}" for text in _differences(known[key], now[key])]
    return said


def _listed(known: Any, now: Any) -> str:
    return ", ".join(text.lstrip(".: ") for text in _differences(known, now))


def _differences(known: Any, now: Any) -> Iterator[str]:
    """Where two nested values differ, as .key: old, now new."""
    if isinstance(known, Mapping) and isinstance(now, Mapping):
        for key in sorted({*known, *now}):
            yield from (f".{key}{text}" for text in _differences(known.get(key), now.get(key)))
    elif known != now:
        yield f": {_word(known)}, now {_word(now)}"


def _word(value: Any) -> str:
    return "nothing" if value is None else f"{value!s:.40}"


def _cached(repo: Any, stage: Any, outputs: Mapping[str, Any], unchanged: bool) -> Any:
    """DVC's stage as its cache has it for these inputs; none if it has not, or not all of its outputs."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    if unchanged:  # then DVC asks its lock file, not its run cache
        found = repo.stage_cache._create_stage(to_single_stage_lockfile(stage), wdir=stage.wdir)
        return found if found.outs_cached() else None
    for dep in stage.deps:
        if str(dep) in outputs:
            dep.hash_info = outputs[str(dep)]
            dep.meta.md5 = None  # the old one, which would be taken for it
        elif not dep.exists:
            return None
        else:
            dep.save()
    key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
    entries = sorted((Path(repo.stage_cache.cache_dir) / key[:2] / key).glob("*"), key=lambda one: one.stat().st_mtime)
    entry = repo.stage_cache._load_cache(key, entries[-1].name) if entries else None
    found = repo.stage_cache._create_stage(entry, wdir=stage.wdir) if entry else None
    return found if found and found.outs_cached() else None
