"""What `vgg-repro clean` lists: prepared images that no data set of params.yaml is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.experiment.params import UnlabelledSet
from pipeline.experiment.paths import CLASSIFICATION, DataSet, shards_root
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
