"""DVC's graph: its stages, what each needs, and what the next `dvc repro` would do with each, and why.

Nothing is run or written, and no lock is taken, because other processes may be at work: DVC's own lock is only read.

The run cache is queried by private functions of DVC: hence pyproject.toml pins DVC to one minor version.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import psutil

from pipeline.datasets.sources import missing, seen_from_outside
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, LOCKFILE, shards_root
from pipeline.experiment.targets import everything
from pipeline.system.atomic_files import json_text
from pipeline.system.checkout import check
from pipeline.system.differences import differences
from pipeline.system.locks import flock_held

Needs = Mapping[str, frozenset[str]]  # a stage to the stages that it needs first
What = Literal["done", "cached", "run"]
LOOKS = "fingerprint"  # the stage that DVC runs every time
PREPARE = "prepare"
IMPORT = "import@"
NEVER = "never run with profile"
MISSING = "is missing"
NAMED = 3  # at most this many of the stages that a stage waits for are named
IN_USE = Path(".dvc/tmp/rwlock")  # DVC's list of the files that each DVC process reads and writes
DVCS_LOCK = Path(".dvc/tmp/lock")  # DVC holds it while it writes dvc.lock, not while a stage runs
TRIES = 20  # attempts at reading a lock file that changes during each of them
PAUSE, STILL = 0.1, 10.0  # seconds between checks of the lock's holder, and without a change until it is ignored
Written = tuple[int, int, int] | None
T = TypeVar("T")
ALWAYS = "runs every time"  # the reason for stages without inputs


class StageForecast(NamedTuple):
    """The forecast of what the next `dvc repro` would do with a stage."""

    stage: str
    needs: frozenset[str]
    what: What  # do nothing; take its outputs from the cache; run it
    why: str  # what has changed, or which earlier stage runs


def needs(targets: Sequence[str]) -> Needs:
    """Return the stages that `targets` resolve to (by default all but imports), each with those that it needs first.

    Raise UsageError for a target that DVC does not know.
    """
    return _in_repo(
        targets, lambda repo, stages: {stage.addressing: _upstream(repo.index.graph, stage) for stage in stages}
    )


def forecasts(targets: Sequence[str], params: Params) -> list[StageForecast]:
    """Return a forecast for each stage that `targets` resolve to, in the order of a run. Raise UsageError as `needs`.

    A stage whose inputs have not changed is assumed to make the same outputs again.
    """

    def look(repo: Any, stages: list[Any]) -> list[StageForecast]:
        makers = {str(out): stage.addressing for stage in stages for out in stage.outs}
        foresight = _Foresight(repo, params, makers)
        return [
            StageForecast(stage.addressing, _upstream(repo.index.graph, stage), *foresight.forecast(stage))
            for stage in stages
        ]

    return _in_repo(targets, look)


def outdated(params: Params) -> dict[str, str]:
    """Return the stages whose recorded results were made with other parameters or inputs than now, in order.

    Each comes with the stage that has changed, itself or an earlier one, and the change. A result that is only
    missing, as in a fresh clone, is not outdated. Without DVC's folder nothing is recorded, so nothing is outdated.
    """
    if not Path(".dvc").is_dir():
        return {}

    def look(repo: Any, stages: list[Any]) -> dict[str, str]:
        foresight = _Foresight(repo, params, {str(out): stage.addressing for stage in stages for out in stage.outs})
        reasons: dict[str, str] = {}
        for stage in stages:
            foresight.forecast(stage)
            own = [] if _never(stage) else [text for text in foresight.changes if not text.endswith(MISSING)]
            after = sorted(_upstream(repo.index.graph, stage) & reasons.keys())
            if own or after:
                reasons[stage.addressing] = f"{stage.addressing}: {'; '.join(own)}" if own else reasons[after[0]]
        return reasons

    return _in_repo(everything(params), look)


def lost_from_cache(params: Params) -> str:
    """Return what has been lost from DVC's cache though it is in the working folder, and the command that puts it back.

    Return an empty string if nothing has been lost. `dvc commit` takes only results that are as dvc.lock has them, and
    refuses to go on at a stage that has changed: if there is one, the command names the other stages.
    """

    def look(repo: Any, stages: list[Any]) -> str:
        lost = [stage for stage in stages if any(map(_is_lost, stage.outs))]
        if not lost or at_work():  # a DVC at work caches a stage's outputs after it has written them
            return ""
        blocked = any(stage not in lost and not stage.is_callback and _has_changed(stage) for stage in stages)
        names = "".join(f" {stage.addressing}" for stage in lost if blocked)
        return (
            f"the results of {len(lost)} stage(s) are in the working folder but not in DVC's cache, and DVC would "
            f"compute them again. Nothing has to run: dvc commit{names} puts them back (without -f, which would take "
            "outdated results too)"
        )

    return _in_repo(everything(params), look)


def _has_changed(stage: Any) -> bool:
    return _never(stage) or any(part.status() for part in (*stage.deps, *stage.outs))


def _is_lost(out: Any) -> bool:
    in_use = out.use_cache and out.hash_info and out.changed_cache()
    return bool(in_use and out.exists and not out.changed_checksum())


def at_work() -> str:
    """Return the command and process of a DVC that is at work in this repository; an empty string if there is none."""
    try:
        uses = json.loads(IN_USE.read_text())
    except (OSError, ValueError):
        return ""
    readers = (reader for of_file in uses.get("read", {}).values() for reader in of_file)
    for holder in (*uses.get("write", {}).values(), *readers):
        if psutil.pid_exists(holder["pid"]):
            return f"{holder['cmd']}, process {holder['pid']}"
    return ""


def _in_repo(targets: Sequence[str], look: Callable[[Any, list[Any]], T]) -> T:
    """Return `look` of DVC's repository and the stages that `targets` resolve to. Raise UsageError if DVC refuses.

    Raise BrokenCheckout if git and DVC cannot work in this folder.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    check()
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # on a terminal it shows a bar for each file that it looks at
    try:
        with Repo() as repo:
            return look(repo, _between_writes(repo, targets))
    except DvcException as reason:
        raise UsageError(str(reason)) from None


def _between_writes(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Return the stages, read together with a complete dvc.lock. Raise Failure if it changes during each attempt.

    DVC writes the file in place, and a part of it may parse. But DVC holds its own lock meanwhile: what was read is
    complete if that lock was free at some moment and the file has not changed since.
    """
    for _ in range(TRIES):
        before = _settled()
        try:
            stages = _ordered(repo, targets)
        except Exception:  # DVC raises various errors for half a file
            if _written() == before:
                raise
        else:
            if _written() == before:
                return stages
        repo._reset()
    raise Failure(f"{LOCKFILE} has changed {TRIES} times while it was read: try again when fewer DVC processes run")


def _settled() -> Written:
    """Wait until nobody can be writing dvc.lock. Return its state, as `_written` does.

    A DVC that holds its lock for long, such as `dvc pull`, does not write all the time: after STILL seconds without a
    change of the file, nobody is writing it.
    """
    before, since = _written(), time.monotonic()
    while flock_held(DVCS_LOCK) and time.monotonic() < since + STILL:
        time.sleep(PAUSE)
        if (now := _written()) != before:
            before, since = now, time.monotonic()
    return before


def _written() -> Written:
    """Return when dvc.lock was last written, in nanoseconds, its size in bytes and its inode; None if it is missing."""
    try:
        stat = LOCKFILE.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _ordered(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Return DVC's stages that `targets` resolve to, each after those that it needs, otherwise in dvc.yaml's order."""
    from dvc.repo.reproduce import plan_repro
    from networkx import lexicographical_topological_sort

    graph = repo.index.graph
    wanted = plan_repro(graph, _collected(repo, targets))
    if not targets:  # published nets that were imported wait until they are scored
        wanted = [stage for stage in wanted if not stage.addressing.startswith(IMPORT)]
    place = {stage: number for number, stage in enumerate(repo.index.stages)}
    return list(lexicographical_topological_sort(graph.subgraph(wanted).reverse(), key=place.__getitem__))


def _collected(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Return the stages that `targets` name, by default those of dvc.yaml. DVC would read the file once a target."""
    named = {stage.addressing: stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"}
    if not targets:
        return list(named.values())
    of_targets = ([named[name]] if name in named else repo.stage.collect(name) for name in targets)
    return list(dict.fromkeys(stage for stages in of_targets for stage in stages))


def _upstream(graph: Any, stage: Any) -> frozenset[str]:
    return frozenset(needed.addressing for needed in graph.successors(stage))


@dataclass
class _Foresight:
    """A forecaster that goes through the stages in the order of a run and tracks what each will have made."""

    repo: Any
    params: Params
    makers: Mapping[str, str]  # path to the stage that makes it
    outputs: dict[str, Any] = field(default_factory=dict)  # path to the hash that it will have; no entry if unknown
    unchanged: set[str] = field(default_factory=set)  # the stages whose outputs stay or are made again
    changes: list[str] = field(default_factory=list)  # of the inputs of the stage that was looked at last
    parameters: dict[str, Any] = field(default_factory=dict)  # path of a parameter file to its content, read once

    def forecast(self, stage: Any) -> tuple[What, str]:
        """Return what `dvc repro` would do with the next stage, and why."""
        self.changes = []
        paths = list(map(str, stage.deps))
        unknown = {self.makers[path] for path in paths if path in self.makers and path not in self.outputs}
        unknown |= {self.makers[inside] for path in paths for inside in self._inside(path)} - self.unchanged
        if unknown:
            own = [] if _never(stage) else self._changed_inputs(stage)
            forecast: tuple[What, str] = "run", "; ".join([f"after {_first_names(sorted(unknown))}", *own])
        elif stage.addressing == LOOKS:
            return self._look()
        else:
            forecast = self._ready(stage)
        if stage.addressing == PREPARE and forecast[0] == "run" and str(CLASSIFICATION.fingerprint) in self.outputs:
            return "run", forecast[1] + self._prepared()
        return forecast

    def _inside(self, folder: str) -> list[str]:
        """Return the files that stages make in `folder`, on which a stage depends as a whole."""
        return [path for path in self.makers if path.startswith(f"{folder}/")]

    def _missing_parts(self, folder: str) -> set[str]:
        """Return the stages that make what is missing in `folder`."""
        return {self.makers[inside] for inside in self._inside(folder) if not Path(inside).exists()}

    def _ready(self, stage: Any) -> tuple[What, str]:
        """Return the forecast of a stage whose inputs are all known."""
        if stage.is_callback:
            return "run", ALWAYS
        changed = ["never run here"] if _never(stage) else self._changed_inputs(stage)
        unchanged = not changed
        if unchanged:
            self._set_outputs(stage)
            self.unchanged.add(stage.addressing)
            changed = _changed_outputs(stage)
            if not changed:
                return "done", ""
        cached = self._from_lock(stage) if unchanged else self._from_run_cache(stage)
        if cached is None or not cached.outs_cached():
            return "run", "; ".join(changed)
        self._set_outputs(cached)
        return "cached", "; ".join(changed)

    def _set_outputs(self, stage: Any) -> None:
        self.outputs.update({str(out): out.hash_info for out in stage.outs})

    def _look(self) -> tuple[What, str]:
        """Return the forecast of the stage that looks at the source every time."""
        if lacking := missing(self.params.active):
            return "run", lacking
        try:
            text = json_text(seen_from_outside(self.params))
        except Failure as reason:
            return "run", str(reason)
        self.outputs[str(CLASSIFICATION.fingerprint)] = _md5(text.encode())
        if not CLASSIFICATION.fingerprint.exists():
            return "run", "checks whether the images have changed"
        previous = CLASSIFICATION.fingerprint.read_text()
        if previous == text:
            return "done", ""
        return "run", f"the images have changed: {_listed(_values(previous), json.loads(text))}"

    def _prepared(self) -> str:
        """Return a note if the shards exist already, for example another clone's, else an empty string.

        Record the hashes of what is made of them, which are known then.
        """
        from pipeline.datasets.dataset_key import shards_key
        from pipeline.datasets.prepare import read_prepared

        try:
            facts = read_prepared(shards_root() / shards_key(self.params))
        except (Failure, OSError):
            return ""
        made = {
            CLASSIFICATION.statistics: facts.statistics.as_dict(),
            CLASSIFICATION.facts(self.params.profile): facts.as_dict(),
        }
        self.outputs |= {str(path): _md5(json_text(values).encode()) for path, values in made.items()}
        return "; its shards exist already"

    def _changed_inputs(self, stage: Any) -> list[str]:
        """Return which of a stage's command, parameters and files have changed, in words."""
        changes = self.changes = ["its command has changed"] if stage.cmd_changed else []
        for dep in sorted(stage.deps, key=lambda dep: not hasattr(dep, "params")):
            path = str(dep)
            if hasattr(dep, "params"):
                changes += _changed_values(dep.hash_info.value or {}, self._values(dep))
                if changes and changes[-1].startswith(NEVER):
                    self.changes = changes[-1:]  # it explains all other changes
                    return self.changes
            elif missing_parts := self._missing_parts(path):
                if not missing_parts <= self.unchanged:
                    changes.append(f"a part of {path} {MISSING}")
            elif path in self.outputs or path not in self.makers:
                current = self.outputs.get(path) or (dep.get_hash() if dep.exists else None)
                if current != dep.hash_info:
                    changes.append(f"{path} {MISSING if current is None else 'has changed'}")
        return changes

    def _values(self, dep: Any) -> dict[str, Any]:
        """Return the values of a stage's parameters, as `dep.read_params` does, which reads the file each time."""
        from dvc.utils.serialize import load_path

        if dep.fs_path not in self.parameters:
            self.parameters[dep.fs_path] = load_path(dep.fs_path, dep.fs) if dep.exists else {}
        return dict(_found(self.parameters[dep.fs_path], dep.params))

    def _from_lock(self, stage: Any) -> Any:
        """Return the stage as DVC's lock file has it, which DVC consults if no input has changed."""
        from dvc.stage.serialize import to_single_stage_lockfile

        return self.repo.stage_cache._create_stage(to_single_stage_lockfile(stage), wdir=stage.wdir)

    def _from_run_cache(self, stage: Any) -> Any:
        """Return the stage as DVC's run cache has it for these inputs; None if there is no entry."""
        from dvc.stage.cache import _get_cache_hash
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc_data.hashfile.hash_info import HashInfo

        cache = self.repo.stage_cache
        for dep in stage.deps:
            if str(dep) in self.outputs:
                dep.hash_info = self.outputs[str(dep)]
                dep.hash_name = dep.hash_info.name  # old DVC versions' name if the lock file lacks the path
                dep.meta.md5 = None  # the old hash, which DVC would take for the new one
            elif self._missing_parts(str(dep)):
                continue  # they will be made again as recorded: the folder keeps its hash
            elif not dep.exists:
                return None
            elif hasattr(dep, "params") and len(values := self._values(dep)) == len(dep.params):
                dep.hash_info = HashInfo(dep.hash_name, values)  # type: ignore[arg-type]
            else:
                dep.save()  # of parameters that are missing this is DVC's error
        key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
        entries = sorted((Path(cache.cache_dir) / key[:2] / key).glob("*"), key=lambda path: path.stat().st_mtime)
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


def _first_names(names: Sequence[str]) -> str:
    """Return up to NAMED names; of more, the first ones and the number of the rest."""
    rest = [f"{len(names) - NAMED + 1} more"] if len(names) > NAMED else []
    return ", ".join([*names[: NAMED - len(rest)], *rest])


def _never(stage: Any) -> bool:
    return not any(out.hash_info for out in stage.outs)


def _changed_outputs(stage: Any) -> list[str]:
    words = {"deleted": "is missing", "not in cache": "is not in the cache"}
    if all(not out.exists and (not out.use_cache or out.changed_cache()) for out in stage.outs):
        return ["not computed here"]
    return [f"{path} {words.get(state, 'has changed')}" for out in stage.outs for path, state in out.status().items()]


def _found(values: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield each of the dotted `names` that is in `values`, with its value."""
    for name in names:
        value = values
        for key in name.split("."):
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            yield name, value


def _changed_values(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return which parameters have changed, with their old and new values."""
    new = sorted(set(now) - set(old))
    profiles = {_profile(key) for key in new} - {_profile(key) for key in old} - {""}
    if profiles:
        return [f"{NEVER} {', '.join(sorted(profiles))}"]
    changes = [f"{key} is new" for key in new if ".recipes." not in key]  # the run's row has another recipe then
    for key in sorted(set(old) & set(now)):
        changes += [f"{key}{text}" for text in differences(old[key], now[key])]
    return changes


def _profile(key: str) -> str:
    """Return the profile whose parameter `key` is; an empty string if it is none's."""
    return key.split(".")[1] if key.startswith("profiles.") else ""


def _listed(old: Any, now: Any) -> str:
    return ", ".join(text.lstrip(".: ") for text in differences(old, now))
