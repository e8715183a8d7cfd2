"""DVC's graph: its stages, what each needs, and what the next `dvc repro` would do with each, and why.

Nothing is run or written, and no lock is kept, for others may be at work: DVC's own is only looked at.

The run cache is asked by functions that DVC keeps private: hence pyproject.toml holds DVC to one minor version.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pipeline.datasets.sources import missing, seen_from_outside
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from pipeline.system.atomic_files import json_text
from pipeline.system.locks import holder

Needs = Mapping[str, frozenset[str]]  # a stage to the stages it needs first
What = Literal["done", "cached", "run"]
LOOKS = "fingerprint"  # the stage that DVC runs each time
PREPARE = "prepare"
IMPORT = "import@"
NEVER = "never run with profile"
NAMED = 3  # stages named at the most, of those that a stage waits for
LOCKFILE = Path("dvc.lock")
DVCS_LOCK = Path(".dvc/tmp/lock")  # which DVC holds while it writes that, not while a stage runs
TRIES = 20  # of reading a lock file that is written each time
PAUSE, STILL = 0.1, 10.0  # seconds between looks at who holds the lock; and without a change until it does not matter
Written = tuple[int, int, int] | None
T = TypeVar("T")
ALWAYS = "it runs each time"  # as stages without inputs do


class StageForecast(NamedTuple):
    """What the next `dvc repro` would do with a stage."""

    stage: str
    needs: frozenset[str]
    what: What  # nothing; take its outputs from the cache; run it
    why: str  # what has changed, or which stage before it runs


def needs(targets: Sequence[str]) -> Needs:
    """The stages that `targets` (all but imports, if there are none) come down to, each with those it needs first.

    UsageError for a target that DVC does not know.
    """

    return _in_repo(targets, lambda repo, stages: {one.addressing: _upstream(repo.index.graph, one) for one in stages})


def forecasts(targets: Sequence[str], params: Params) -> list[StageForecast]:
    """What would become of each stage that `targets` come down to, in the order of a run. UsageError as for `needs`.

    A stage whose inputs are as they were is taken to make again what it made then.
    """

    def look(repo: Any, stages: list[Any]) -> list[StageForecast]:
        makers = {str(out): stage.addressing for stage in stages for out in stage.outs}
        foresight = _Foresight(repo, params, makers)
        return [
            StageForecast(stage.addressing, _upstream(repo.index.graph, stage), *foresight.forecast(stage))
            for stage in stages
        ]

    return _in_repo(targets, look)


def _in_repo(targets: Sequence[str], look: Callable[[Any, list[Any]], T]) -> T:
    """What `look` makes of DVC's repository and the stages that `targets` come down to."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return look(repo, _between_writes(repo, targets))
    except DvcException as reason:
        raise UsageError(str(reason)) from None


def _between_writes(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Read the stages, and with them dvc.lock, when it is whole; Failure if it changes each time.

    DVC writes it in place, and a part of it can be one that parses. But it holds its own lock meanwhile: what was read
    is whole if nobody held that at a time since when the file has not changed.
    """
    for _ in range(TRIES):
        before = _settled()
        try:
            stages = _ordered(repo, targets)
        except Exception:  # whatever DVC makes of half a file
            if _written() == before:
                raise
        else:
            if _written() == before:
                return stages
        repo._reset()
    raise Failure(f"{LOCKFILE} has changed {TRIES} times while it was read: ask again when less DVC is at work here")


def _settled() -> Written:
    """Wait until nobody can be writing dvc.lock; return when it was last written.

    A DVC that holds its lock for long, such as `dvc pull`, does not write all the time: none writes for STILL seconds
    without a change of the file.
    """
    before, since = _written(), time.monotonic()
    while holder(DVCS_LOCK) and time.monotonic() < since + STILL:
        time.sleep(PAUSE)
        if (now := _written()) != before:
            before, since = now, time.monotonic()
    return before


def _written() -> Written:
    """When dvc.lock was last written, and how much of it."""
    try:
        about = LOCKFILE.stat()
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _ordered(repo: Any, targets: Sequence[str]) -> list[Any]:
    """DVC's stages that `targets` come down to, each behind those it needs, else in dvc.yaml's order."""
    from dvc.repo.reproduce import collect_stages, plan_repro
    from networkx import lexicographical_topological_sort

    graph = repo.index.graph
    wanted = plan_repro(graph, collect_stages(repo, list(targets) or ["dvc.yaml"]))
    if not targets:  # published nets that were imported once wait until they are scored
        wanted = [stage for stage in wanted if not stage.addressing.startswith(IMPORT)]
    place = {stage: number for number, stage in enumerate(repo.index.stages)}
    return list(lexicographical_topological_sort(graph.subgraph(wanted).reverse(), key=place.__getitem__))


def _upstream(graph: Any, stage: Any) -> frozenset[str]:
    return frozenset(one.addressing for one in graph.successors(stage))


@dataclass
class _Foresight:
    """Goes through the stages in the order of a run, and knows what each will have made."""

    repo: Any
    params: Params
    makers: Mapping[str, str]  # path to the stage that makes it
    outputs: dict[str, Any] = field(default_factory=dict)  # path to the hash that it will have; none if nobody knows

    def forecast(self, stage: Any) -> tuple[What, str]:
        """What would become of the next stage, and why."""
        unknown = {
            self.makers[path] for path in map(str, stage.deps) if path in self.makers and path not in self.outputs
        }
        if unknown:
            own = [] if _never(stage) else self._changed_inputs(stage)
            forecast: tuple[What, str] = "run", "; ".join([f"after {_some(sorted(unknown))}", *own])
        elif stage.addressing == LOOKS:
            return self._look()
        else:
            forecast = self._ready(stage)
        if stage.addressing == PREPARE and forecast[0] == "run" and str(CLASSIFICATION.fingerprint) in self.outputs:
            return "run", forecast[1] + self._prepared()
        return forecast

    def _ready(self, stage: Any) -> tuple[What, str]:
        """A stage all of whose inputs are known."""
        if stage.is_callback:
            return "run", ALWAYS
        changed = ["never run here"] if _never(stage) else self._changed_inputs(stage)
        unchanged = not changed
        if unchanged:
            self._makes(stage)
            changed = _changed_outputs(stage)
            if not changed:
                return "done", ""
        cached = self._from_lock(stage) if unchanged else self._from_run_cache(stage)
        if cached is None or not cached.outs_cached():
            return "run", "; ".join(changed)
        self._makes(cached)
        return "cached", "; ".join(changed)

    def _makes(self, stage: Any) -> None:
        self.outputs.update({str(one): one.hash_info for one in stage.outs})

    def _look(self) -> tuple[What, str]:
        """The stage that looks at the source each time."""
        if lacking := missing(self.params.active):
            return "run", lacking
        try:
            text = json_text(seen_from_outside(self.params))
        except Failure as reason:
            return "run", str(reason)
        self.outputs[str(CLASSIFICATION.fingerprint)] = _md5(text.encode())
        if not CLASSIFICATION.fingerprint.exists():
            return "run", "looks whether the images have changed"
        known = CLASSIFICATION.fingerprint.read_text()
        if known == text:
            return "done", ""
        return "run", f"the images have changed: {_listed(_values(known), json.loads(text))}"

    def _prepared(self) -> str:
        """What to say of shards that are there already, another clone's say; what is made of them is then known."""
        from pipeline.datasets.dataset_key import shards_key
        from pipeline.datasets.prepare import read_prepared

        try:
            found = read_prepared(shards_root() / shards_key(self.params))
        except (Failure, OSError):
            return ""
        made = {
            CLASSIFICATION.statistics: found.statistics.as_dict(),
            CLASSIFICATION.facts(self.params.profile): found.as_dict(),
        }
        self.outputs |= {str(path): _md5(json_text(values).encode()) for path, values in made.items()}
        return "; its shards are there already"

    def _changed_inputs(self, stage: Any) -> list[str]:
        """Which of the command, the parameters and the files that a stage depends on have changed, in words."""
        said = ["its command has changed"] if stage.cmd_changed else []
        for dep in sorted(stage.deps, key=lambda one: not hasattr(one, "params")):
            path = str(dep)
            if hasattr(dep, "params"):
                said += _changed_values(dep)
                if said and said[-1].startswith(NEVER):
                    return said[-1:]  # which explains all else
            elif path in self.outputs or path not in self.makers:
                now = self.outputs.get(path) or (dep.get_hash() if dep.exists else None)
                if now != dep.hash_info:
                    said.append(f"{path} {'is missing' if now is None else 'has changed'}")
        return said

    def _from_lock(self, stage: Any) -> Any:
        """The stage as DVC's lock file has it, which DVC asks where no input has changed."""
        from dvc.stage.serialize import to_single_stage_lockfile

        return self.repo.stage_cache._create_stage(to_single_stage_lockfile(stage), wdir=stage.wdir)

    def _from_run_cache(self, stage: Any) -> Any:
        """The stage as DVC's run cache has it for these inputs; none if it has not."""
        from dvc.stage.cache import _get_cache_hash
        from dvc.stage.serialize import to_single_stage_lockfile

        cache = self.repo.stage_cache
        for dep in stage.deps:
            if str(dep) in self.outputs:
                dep.hash_info = self.outputs[str(dep)]
                dep.hash_name = dep.hash_info.name  # that of old DVC versions where the lock file lacks the path
                dep.meta.md5 = None  # the old one, which would be taken for it
            elif not dep.exists:
                return None
            else:
                dep.save()
        key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
        entries = sorted((Path(cache.cache_dir) / key[:2] / key).glob("*"), key=lambda one: one.stat().st_mtime)
        entry = cache._load_cache(key, entries[-1].name) if entries else None
        return cache._create_stage(entry, wdir=stage.wdir) if entry else None


def _md5(content: bytes) -> Any:
    from dvc_data.hashfile.hash_info import HashInfo

    return HashInfo("md5", hashlib.md5(content).hexdigest())


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


def _changed_outputs(stage: Any) -> list[str]:
    words = {"deleted": "is missing", "not in cache": "is not in the cache"}
    return [f"{path} {words.get(state, 'has changed')}" for out in stage.outs for path, state in out.status().items()]


def _changed_values(dep: Any) -> list[str]:
    """Which parameters have changed, with what they were and are."""
    known, now = dep.hash_info.value or {}, dep.read_params()
    new = sorted(set(now) - set(known))
    profiles = {key.split(".")[1] for key in new if key.startswith("profiles.")}
    if profiles:
        return [f"{NEVER} {', '.join(sorted(profiles))}"]
    said = [f"{key} is new" for key in new]
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
