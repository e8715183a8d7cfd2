"""The sources as one table: each is a class under its own name, and what it lacks is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.sources import SOURCES, check_source
from pipeline.errors import UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from tests.support import ROOT


def with_data(**changes: object) -> Params:
    """The repository's parameters with another block `data` in the active profile."""
    params = load(ROOT / "params.yaml")
    data = params.active.data.model_copy(update=changes)
    profile = params.active.model_copy(update={"data": data})
    return params.model_copy(update={"profiles": {**params.profiles, params.profile: profile}})


def test_each_source_is_a_row_under_its_own_name() -> None:
    assert {name: source.name for name, source in SOURCES.items()} == {name: name for name in SOURCES}


def test_each_source_opens_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, source in SOURCES.items():
        params = with_data(source=name, path="photographs")
        check_source(params)
        assert bool(source.of(params.active).missing()) == (source.place != "none")


def test_what_a_source_lacks_is_named_with_its_place() -> None:
    for changes, words in (
        ({"source": "digitz"}, "data.source: unknown source digitz. Did you mean digits?"),
        ({"source": "imagefolder"}, "data.path is missing"),
        ({"source": "digits", "digits": None}, "data.digits is missing"),
        ({"source": "characters", "characters": None}, "data.characters is missing"),
    ):
        with pytest.raises(UsageError, match=f"^params.yaml: profiles.mini.{words}"):
            check_source(with_data(**changes))
