"""What earlier runs have left behind that nothing uses now: checkpoints, data sets, and files in DVC's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Failure
from pipeline.experiment.other_sets import DESCRIBED
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, DataSet, features, shards_root
from pipeline.orchestration.status import status
from pipeline.system.checkout import check
from pipeline.system.locks import holder

KINDS: dict[str, str] = {
    "checkpoints": "of other parameters or images; no run resumes from them",
    "partial": "interrupted preparations; the same preparation would resume from its shards",
    "shards": "prepared images other than the current ones; another clone or profile may use them",
    "sets": "labels and features of data sets that params.yaml does not have; DVC's cache may have copies",
    "cache": "DVC's copies of results that neither params.yaml nor an experiment of DVC's needs; without them, going "
    "back to earlier parameters computes again",
}


class Leftover(NamedTuple):
    """Files that nothing uses now."""

    kind: str  # of KINDS
    path: Path  # a folder; of the cache and of a data set not all in it is left behind
    size: int  # bytes
    files: tuple[Path, ...] = ()  # of a data set


def leftovers(params: Params) -> list[Leftover]:
    """Return everything that is left behind. What a process works on now is not."""
    return [*_checkpoints(params), *_shards(params), *_sets(params), *_cache()]


def remove(leftover: Leftover) -> None:
    """Delete what is left behind. Raise Failure if somebody uses it by now."""
    if leftover.kind == "cache":
        _collect_garbage()
        return
    if leftover.kind == "sets":
        for file in leftover.files:
            file.unlink(missing_ok=True)
        if leftover.path.is_dir() and not any(leftover.path.iterdir()):  # people may keep their images there
            leftover.path.rmdir()
        return
    if _in_use(leftover.path):
        raise Failure(f"{leftover.path} is in use now")
    shutil.rmtree(leftover.path)


def _checkpoints(params: Params) -> Iterator[Leftover]:
    for checkpoint in status(params).old:
        yield Leftover("checkpoints", checkpoint.folder, checkpoint.size)


def _shards(params: Params) -> Iterator[Leftover]:
    others = (DataSet(name) for name in (*params.datasets, *params.test_sets))
    current = {data_set.shards.resolve() for data_set in (CLASSIFICATION, *others)}
    for folder in sorted(shards_root().glob("*/")):
        if folder.resolve() not in current and not _in_use(folder):
            kind = "partial" if folder.suffix == ".partial" else "shards"
            yield Leftover(kind, folder, size_of([folder]))


def _sets(params: Params) -> Iterator[Leftover]:
    """Yield the small files and the features of each data set that params.yaml does not have."""
    present = {CLASSIFICATION.name, *params.datasets, *params.test_sets}
    for folder in sorted(CLASSIFICATION.folder.parent.glob("*/")):
        one = DataSet(folder.name)
        if one.name in present or not one.fingerprint.exists():
            continue
        made = [one.fingerprint, one.manifest, one.statistics, one.boxes, one.examples, one.shards_record, one.skipped]
        made += [*folder.glob("facts-*.json")]
        for run in DESCRIBED:
            made += [features(one.name, run), features(one.name, run).with_suffix(".json")]
        files = tuple(path for path in made if path.exists())
        yield Leftover("sets", folder, size_of(files), files)


def _in_use(folder: Path) -> bool:
    """Return True if a process prepares the data set in `folder`, or trains from the checkpoint there."""
    return holder(folder.with_suffix(".lock")) is not None or holder(folder / "lock") is not None


def _cache() -> Iterator[Leftover]:
    """Yield DVC's cache with the size of its files that the current dvc.lock does not name."""
    from dvc.repo import Repo

    check()
    with Repo() as repo:
        used = {str(info.value) for infos in repo.used_objs(all_experiments=True).values() for info in infos}
        folder = Path(repo.cache.local.path)
    files = [path for path in folder.glob("??/*") if path.is_file() and path.parent.name + path.name not in used]
    if files:
        yield Leftover("cache", folder, size_of(files))


def _collect_garbage() -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.gc(workspace=True, all_experiments=True, force=True)
    except DvcException as reason:
        raise Failure(f"DVC could not clean its cache: {reason}") from None


def size_of(paths: Sequence[Path]) -> int:
    """Return the bytes of files, and of the files in folders."""
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in files if file.is_file())
