"""A manifest in numbers: counted by hand, split by split."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.datasets.manifest import COLUMNS
from pipeline.datasets.manifest_summary import ManifestSummary, SplitSummary, Spread, read_manifest, summarise
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION

KEPT = [  # split, id, class, height, width, bytes, sha256, changed, small, warning, skipped
    ("train", "a", 0, 100, 300, 1000, "aa", "rescaled turned", "", "", ""),
    ("train", "b", 0, 80, 40, 500, "bb", "converted", "yes", "odd: bytes", ""),
    ("train", "c", 2, 200, 200, 2000, "cc", "rescaled", "", "", ""),
]
SKIPPED = [
    ("train", "d", 1, "", "", 10, "dd", "", "", "", "broken: truncated"),
    ("val", "e", "", "", "", "", "", "", "", "", "an empty file"),
    ("train", "f", "", "", "", "", "", "", "", "", "broken: no header"),
]


def summary(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: tuple[object, ...]) -> ManifestSummary:
    """The summary of a manifest with these rows."""
    monkeypatch.chdir(folder)
    CLASSIFICATION.manifest.parent.mkdir(parents=True)
    with CLASSIFICATION.manifest.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return summarise(read_manifest())


def test_each_split_is_counted_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = summary(tmp_path, monkeypatch, *KEPT, *SKIPPED)
    assert found.splits["train"] == SplitSummary(
        images=3, skipped=2, classes={0: 2, 2: 1}, per_class=Spread(1, 1.5, 2), shorter=Spread(40, 100, 200),
        longer=Spread(80, 200, 300), aspect=Spread(1, 2, 3), small=1, rescaled=2, turned=1, converted=1,
        converted_colours=0, ignored_colours=0, bytes=3500,
    )  # fmt: skip
    assert found.splits["val"] == SplitSummary(0, 1, {}, None, None, None, None, 0, 0, 0, 0, 0, 0, 0)


def test_the_most_frequent_kind_of_reason_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = summary(tmp_path, monkeypatch, *KEPT, SKIPPED[1], *SKIPPED)
    assert list(found.reasons.items()) == [("an empty file", 2), ("broken", 2)], "of equals, the one met first"
    (tmp_path / "more").mkdir()
    found = summary(tmp_path / "more", monkeypatch, SKIPPED[1], SKIPPED[0], SKIPPED[2])
    assert list(found.reasons.items()) == [("broken", 2), ("an empty file", 1)]


def test_images_to_look_at_are_named_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = summary(tmp_path, monkeypatch, *KEPT, *SKIPPED)
    assert found.skipped == [("d", "broken: truncated"), ("e", "an empty file"), ("f", "broken: no header")]
    assert found.doubtful == [("b", "odd: bytes")]


def test_without_a_manifest_the_command_that_makes_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="vgg-repro prepare"):
        read_manifest()
