"""Values written into params.yaml: just these change, odd ones are quoted, wrong ones leave it alone."""

from __future__ import annotations

import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment.params_file import set_values, with_row, write
from pipeline.experiment.validation import parse
from pipeline.system.yaml_text import parse_yaml
from tests.support import ROOT

DATA = ("profiles", "mini", "data")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the repository's params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def changes(before: str, after: str) -> list[tuple[str, str]]:
    """The lines that differ, of texts with as many lines."""
    pairs = zip(before.splitlines(keepends=True), after.splitlines(keepends=True), strict=True)
    return [(old, new) for old, new in pairs if old != new]


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_one_line_changes_and_back_again_the_file_is_the_same(path: Path, line: str) -> None:
    before = path.read_bytes().replace(b"\n", line.encode())
    path.write_bytes(before)
    assert set_values({"path": "/photographs of mine"}, DATA, path)
    ((old, new),) = changes(before.decode(), path.read_bytes().decode())
    assert new == old.replace("null", "/photographs of mine", 1), "its comment and the end of the line stay"
    assert set_values({"path": None}, DATA, path)
    assert path.read_bytes() == before


def test_what_is_there_already_changes_nothing(path: Path) -> None:
    set_values({"path": "/a b"}, DATA, path)
    before = path.stat().st_mtime_ns
    assert not set_values({"path": "/a b", "source": "characters"}, DATA, path)
    assert path.stat().st_mtime_ns == before


def test_a_file_in_another_layout_keeps_its_meaning(path: Path) -> None:
    values = parse_yaml(path.read_text())
    path.write_text(yaml.safe_dump(values, sort_keys=False, indent=4))
    assert set_values({"path": "/a"}, DATA, path)
    values["profiles"]["mini"]["data"]["path"] = "/a"
    assert parse_yaml(path.read_text()) == values


def test_any_path_is_read_back_as_it_was(path: Path, rng: np.random.Generator) -> None:
    letters = [*string.printable.replace("\x0b", "").replace("\x0c", ""), *"é雪ß🙂"]
    odd = ["null", "true", "yes", "5", "1e3", "0o7", "1:30", "2015-04-10", "", " ", "a # b", "#a", "a: b", "{a}", "[a",
           "~", "a\nb", "- a", "*a", "&a", "!a", "%a", "@a", "a ", "|", "...", "---", "=", "<<"]  # fmt: skip
    for value in [*odd, *("".join(rng.choice(letters, int(rng.integers(1, 12)))) for _ in range(20))]:
        set_values({"path": value}, DATA, path)
        assert parse_yaml(path.read_text())["profiles"]["mini"]["data"]["path"] == value
    set_values({"path": None}, DATA, path)
    assert path.read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"val_share": "2"}, r"params\.yaml: profiles\.mini\.data\.val_share"),
        ({"place": "here"}, r"unknown key profiles\.mini\.data\.place"),
        ({"path": "caf\udce9"}, "is not valid UTF-8"),
    ],
)
def test_what_would_be_wrong_is_refused_and_nothing_is_written(
    path: Path, values: dict[str, str | None], message: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message):
        set_values(values, DATA, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["params.yaml"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("momentum", "momentun", "is missing"), ("weights: trained", "weights: trained\nweights: trained", "not YAML")],
)
def test_a_file_that_is_wrong_already_is_explained(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        set_values({"path": "x"}, DATA, path)


def test_rows_are_added_and_changed_a_line_each(path: Path) -> None:
    text = path.read_text()
    rows: dict[str, dict[str, Any]] = {
        "D-jitter": {"file": "/a b/D: 16.caffemodel", "range": 255, "mean": [103.939, 116.779, 123.68]},
        "E-jitter": {"file": "yes", "channels": "BGR", "std": [1e-5, 1.0, 0.225]},
    }
    for count, (name, values) in enumerate(rows.items(), 1):
        write(with_row("imports", name, values, path), path)
        lines = path.read_text().splitlines()
        at = lines.index("imports:")
        assert [line for n, line in enumerate(lines) if not at < n <= at + count] == [
            "imports:" if line == "imports: {}" else line for line in text.splitlines()
        ]
        assert lines[at + count].startswith(f"  {name}: {{file: ")
    assert parse_yaml(path.read_text())["imports"] == rows

    before = path.read_text()
    after = with_row("imports", "D-jitter", {"file": "/elsewhere"}, path)
    assert [new for _, new in changes(before, after)] == ["  D-jitter: {file: /elsewhere}\n"]
    assert path.read_text() == before, "nothing is written yet"
    assert parse(after.encode(), path).imports["E-jitter"].channels == "BGR"
    with pytest.raises(UsageError, match="channels"):
        with_row("imports", "E-jitter", {"file": "x", "channels": "GBR"}, path)


HAND = {  # rows as people write them, and what becomes of them when D-jitter's is written
    "imports:\n  E-jitter: {file: e.pt} # mine\n  # the end\n": (
        "imports:\n  E-jitter: {file: e.pt} # mine\n  D-jitter: {file: d.pt}\n  # the end\n"
    ),
    "imports:\n  E-jitter: {file: e.pt} # mine\n": (
        "imports:\n  E-jitter: {file: e.pt} # mine\n  D-jitter: {file: d.pt}\n"
    ),
    "imports: # whose\n  C-384: {file: 'c.pt'} # C\n  # was another\n  D-jitter: {file: old.pt} # D\n": (
        "imports: # whose\n  C-384: {file: 'c.pt'} # C\n  # was another\n  D-jitter: {file: d.pt} # D\n"
    ),
    "imports:\n  D-jitter:\n    file: old.pt\n    mean: [1.0, 2.0, 3.0]\n  E-jitter:\n    file: e.pt\n": (
        "imports:\n  D-jitter: {file: d.pt}\n  E-jitter:\n    file: e.pt\n"
    ),
    "imports: {E-jitter: {file: e.pt}} # one\n": "imports: {E-jitter: {file: e.pt}, D-jitter: {file: d.pt}} # one\n",
}


@pytest.mark.parametrize("space", ["", "\n"])
@pytest.mark.parametrize("rows", HAND)
def test_a_row_goes_among_those_written_by_hand(path: Path, rows: str, space: str) -> None:
    text = path.read_text()
    path.write_text(text.replace("imports: {}\n\n", rows + space))
    assert with_row("imports", "D-jitter", {"file": "d.pt"}, path) == text.replace(
        "imports: {}\n\n", HAND[rows] + space
    )
