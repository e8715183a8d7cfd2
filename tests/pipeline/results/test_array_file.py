"""Files of arrays that are broken in any way are named with what makes them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline.errors import Failure
from pipeline.experiment.paths import posteriors
from pipeline.results.array_file import arrays_in
from pipeline.results.filters import read_filters
from pipeline.results.illustrations import _images
from pipeline.results.ranks import read_ranks
from pipeline.results.scores import Scores
from tests.support.images import repository_params


def unknown_packing(data: bytes) -> bytes:
    """A file whose directory names a way of packing that there is not."""
    place = data.index(b"PK\x01\x02") + 10
    return data[:place] + b"\x63\x00" + data[place + 2 :]


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "rubbish": lambda _: b"rubbish" * 99,
    "zeros inside": lambda data: data[:200] + bytes(200) + data[400:],
    "unknown packing": unknown_packing,
    "another name": lambda data: data.replace(b"values", b"volues"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "filters": read_filters,
    "illustrations": lambda path: _images(path, "m"),
    "ranks": lambda path: read_ranks(path, "dvc repro table4"),
}


def written(path: Path, harm: str) -> Path:
    """A file of an array, damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, values=np.arange(99))
    path.write_bytes(HARMS[harm](path.read_bytes()))
    return path


@pytest.mark.parametrize("harm", HARMS)
def test_a_broken_file_is_named_with_its_fix(harm: str, tmp_path: Path) -> None:
    path = written(tmp_path / "arrays.npz", harm)
    with (
        pytest.raises(Failure, match=r"arrays\.npz cannot be read \(.*\); delete it"),
        arrays_in(path, "delete it") as arrays,
    ):
        assert arrays["values"].sum()


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_broken_file(reader: str, harm: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"a\.npz cannot be read .*(dvc|vgg-repro) "):
        READERS[reader](written(tmp_path / "a.npz", harm))


@pytest.mark.parametrize("harm", HARMS)
def test_a_broken_file_of_posteriors_is_named(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = repository_params(tmp_path)
    written(posteriors("A-256", "dense"), harm)
    with pytest.raises(Failure, match=r"cannot be read .* vgg-repro score dense A-256"):
        Scores(params, Mock()).array("A-256", "dense", "256")
