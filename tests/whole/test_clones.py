"""Two clones with one DVC cache and one folder of images and shards: each takes from the cache what the other made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.system.atomic_files import sha256
from tests.support.clones import call, executed, tiny_clone
from tests.support.ilsvrc_files import make
from tests.support.images import run_seed

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones that share archives, shards and cache; their archives' folders have different names."""
    archives = make(np.random.default_rng(run_seed())).archives(tmp_path / "archives")
    (tmp_path / "elsewhere").symlink_to(archives)
    clones = (tiny_clone(tmp_path / "one"), tiny_clone(tmp_path / "two"))
    for folder, path in zip(clones, (archives, tmp_path / "elsewhere"), strict=True):
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params["profiles"]["mini"]["data"] |= {"source": "ilsvrc2012", "path": str(path), "limit": None}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        call(folder, "dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    return clones


def shared(folder: Path, *words: str) -> str:
    """What a command prints in a clone whose shards lie beside it."""
    return call(folder, *words, VGG_REPRO_SHARDS=str(folder.parent / "shards"))


def test_each_clone_takes_from_the_cache_what_the_other_made(pair: tuple[Path, Path]) -> None:
    one, two = pair
    trained = executed(shared(one, "dvc", "repro", "shallow"))
    assert {"prepare", "train@A-256", "train@B-256", "train@shallow-256", "centre@B-256"} <= trained
    planned = shared(two, "vgg-repro", "plan", "shallow")
    assert "train@B-256" in planned and "to train" not in planned
    shards = {path: path.stat().st_mtime_ns for path in (one.parent / "shards").rglob("*")}
    assert executed(shared(two, "dvc", "repro", "shallow")) == {"fingerprint", "prepare", "shallow"}, (
        "the path is another one, and a table takes seconds"
    )
    assert {path: path.stat().st_mtime_ns for path in (one.parent / "shards").rglob("*.bin")}.items() <= shards.items()
    assert sha256(two / "weights/trained/B-256.pt") == sha256(one / "weights/trained/B-256.pt")

    assert "train@C-256" in executed(shared(two, "dvc", "repro", "train@C-256"))
    assert executed(shared(one, "dvc", "repro", "train@C-256")) == {"fingerprint"}
    assert sha256(two / "weights/trained/C-256.pt") == sha256(one / "weights/trained/C-256.pt")
