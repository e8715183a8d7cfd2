"""Values written into params.yaml: just these change, odd ones are quoted, wrong ones leave it alone."""

from __future__ import annotations

import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import yaml
from pictures import ROOT

from pipeline.edit import set_values
from pipeline.errors import UsageError
from pipeline.params import load

DATA = ("profiles", "mini", "data")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the repository's params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def test_only_the_values_change_and_comments_stay(path: Path) -> None:
    before = path.read_text().splitlines()
    assert set_values({"source": "imagefolder", "path": "/photographs"}, DATA, path)
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split(" #")[0].strip() for _, new in changed] == ["source: imagefolder", "path: /photographs"]
    assert [new.partition("#")[2] for _, new in changed] == [old.partition("#")[2] for old, _ in changed]


def test_what_is_there_already_changes_nothing(path: Path) -> None:
    set_values({"path": "/a b"}, DATA, path)
    before = path.stat().st_mtime_ns
    assert not set_values({"path": "/a b", "source": "digits"}, DATA, path)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "value",
    ["null", "true", "5", "1e3", "2015-04-10", "", " ", "a # b", "#a", "a: b", "{a}", "[a", "'", '"', "\\", "~", "~/x",
     "été/雪", "a\nb", "a\tb", "- a", "*a", "&a", "!a", "%a", "@a", "`a", "a,b", "x: y # z",
     "-", "?", "- ", "a ", "|", ">", "...", "---", "a:", ":a", "=", "<<"],
)  # fmt: skip
def test_any_path_is_read_back_as_it_was(path: Path, value: str) -> None:
    set_values({"path": value}, DATA, path)
    assert yaml.safe_load(path.read_text())["profiles"]["mini"]["data"]["path"] == value
    set_values({"path": "plain"}, DATA, path)
    assert yaml.safe_load(path.read_text()) == {**yaml.safe_load((ROOT / "params.yaml").read_text())} | {
        "profiles": yaml.safe_load(path.read_text())["profiles"]
    }


def test_random_paths_are_read_back_as_they_were(path: Path, rng: np.random.Generator, seed: int) -> None:
    letters = [*string.printable.replace("\x0b", "").replace("\x0c", ""), *"é雪ß🙂"]
    for _ in range(60):
        value = "".join(rng.choice(letters, int(rng.integers(1, 12))))
        set_values({"path": value}, DATA, path)
        assert load(path).chosen.data.path == value, repr(value)


def test_what_would_be_wrong_is_refused_and_nothing_is_written(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(UsageError, match=r"params\.yaml: profiles\.mini\.data\.path is missing"):
        set_values({"source": "imagefolder"}, DATA, path)
    with pytest.raises(UsageError, match=r"data\.source"):
        set_values({"source": "imagefoldr"}, DATA, path)
    with pytest.raises(UsageError, match=r"has no profiles\.mini\.data\.place"):
        set_values({"place": "here"}, DATA, path)
    assert path.read_text() == before
    assert [one.name for one in path.parent.iterdir()] == ["params.yaml"], "nothing is left beside it"


def test_a_file_without_the_key_is_explained(path: Path) -> None:
    path.write_text("profile: mini\n")
    with pytest.raises(UsageError, match="write it there by hand"):
        set_values({"path": "x"}, DATA, path)
