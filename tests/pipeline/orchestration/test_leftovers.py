"""What `vgg-repro clean` lists: prepared images that no data set of params.yaml is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.experiment.params import UnlabelledSet
from pipeline.experiment.paths import CLASSIFICATION, DataSet, features, shards_root
from pipeline.experiment.validation import load
from pipeline.orchestration import leftovers
from tests.support import ROOT


def test_the_images_of_every_data_set_of_params_yaml_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load(ROOT / "params.yaml")
    params = params.model_copy(update={"test_sets": {"ilsvrc-test": UnlabelledSet(path="somewhere")}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGG_REPRO_SHARDS", raising=False)
    for part in ("_checkpoints", "_cache"):
        monkeypatch.setattr(leftovers, part, lambda *_: [])
    for data_set in (CLASSIFICATION, *map(DataSet, (*params.datasets, "ilsvrc-test"))):
        (shards_root() / f"of-{data_set.name}").mkdir(parents=True)
        data_set.folder.mkdir(parents=True, exist_ok=True)
        data_set.shards_record.write_text(f"of-{data_set.name} hash\n")
    (shards_root() / "of-nobody").mkdir()
    assert [one.path.name for one in leftovers.leftovers(params)] == ["of-nobody"]


def test_a_data_set_that_params_yaml_lost_is_removed_without_its_owners_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    for part in ("_checkpoints", "_shards", "_cache"):
        monkeypatch.setattr(leftovers, part, lambda *_: [])
    kept = []
    for name in ("scenes", "voc2007", "caltech101"):
        data_set = DataSet(name)
        data_set.folder.mkdir(parents=True)
        made = [data_set.fingerprint, data_set.facts("mini"), data_set.examples, features(name, "D-jitter")]
        for path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(500))
        kept += made if name == "scenes" else []
    kept.append(DataSet("voc2007").folder / "VOCtest_06-Nov-2007.tar")
    (tmp_path / "data" / "photographs").mkdir()
    kept.append(tmp_path / "data" / "photographs" / "a.jpg")
    for path in kept[-2:]:
        path.write_bytes(b"mine")
    found = leftovers.leftovers(params)
    assert [(one.kind, one.path.name, one.size) for one in found] == [
        ("sets", "caltech101", 2000),
        ("sets", "voc2007", 2000),
    ]
    for one in found:
        leftovers.remove(one)
    assert sorted(path.resolve() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        path.resolve() for path in kept
    )
    assert not DataSet("caltech101").folder.exists() and not leftovers.leftovers(params)
