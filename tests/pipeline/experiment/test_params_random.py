"""Random edits of params.yaml: each is either right or explained, with its place, and never a traceback."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment.modes import MODES, scales_of
from pipeline.experiment.paper_tables import rows
from pipeline.experiment.validation import load
from tests.support import ROOT

TEXT = (ROOT / "params.yaml").read_text()
VALUES = yaml.safe_load(TEXT)
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**30, -0.5, 0.5, 1.0, float("nan"), float("inf"), "", "x", "1e-2", "3/0", "D-384",
    "random-A", "[1]", "${runs}", "\u00e9", [], [1], [1, 2], [2, 1], [1, 2, 3], [[]], {}, {"a": 1}, {1: 2},
    {None: None}, datetime.date(2015, 4, 10), b"bytes",
]  # fmt: skip
EDITS = 80


def places(values: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested values."""
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else []
    for key in keys:
        yield (*at, key)
        yield from places(values[key], (*at, key))


def edited(random: np.random.Generator) -> tuple[Any, str]:
    """The file's values with one to three random edits, and what was done."""
    values, done = copy.deepcopy(VALUES), []
    for _ in range(int(random.integers(1, 4))):
        *above, key = list(places(values))[int(random.integers(len(list(places(values)))))]
        parent = values
        for step in above:
            parent = parent[step]
        kind = int(random.integers(5))
        odd = copy.deepcopy(ODD[int(random.integers(len(ODD)))])
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[misspelt(str(key), random)] = parent.pop(key)
        elif kind == 2 and isinstance(parent, dict):
            parent[f"{key}s"] = odd
        elif kind == 3:  # something from elsewhere in the file
            other: Any = VALUES
            for step in list(places(VALUES))[int(random.integers(len(list(places(VALUES)))))]:
                other = other[step]
            parent[key] = copy.deepcopy(other)
        else:
            parent[key] = odd
        done.append(f"{kind} at {(*above, key)}")
    return values, "; ".join(done)


def misspelt(word: str, random: np.random.Generator) -> str:
    """A word with two letters exchanged or one left out."""
    at = int(random.integers(max(len(word) - 1, 1)))
    return (
        word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :] if at % 2 else word[:at] + word[at + 1 :]
    )


def read(path: Path, text: str | bytes) -> str:
    """What `load` says of a file with `text`; empty if it is right, and then the grid can be laid out."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        params = load(path)
    except UsageError as error:
        return str(error)
    for run in params.runs.values():
        for mode in MODES:
            assert min(scales_of(run, mode)) > 0
    for table in (3, 4, 5, 6, 7):
        with suppress(UsageError):  # a grid without a run that the table names
            rows(f"table{table}", params)
    assert params.active.net.crop >= 32
    return ""


def test_random_edits_of_values_are_right_or_explained(tmp_path: Path, rng: np.random.Generator, seed: int) -> None:
    wrong = 0
    for number in range(EDITS):
        values, done = edited(rng)
        try:
            message = read(tmp_path / f"{number}.yaml", yaml.safe_dump(values, sort_keys=False))
        except Exception as error:
            pytest.fail(f"{type(error).__name__} after {done}: {error}")
        if message:
            wrong += 1
            assert all(line.startswith(str(tmp_path / f"{number}.yaml")) for line in message.splitlines()), (
                done,
                message,
            )
    assert wrong > EDITS / 4, "most edits do harm"


def test_random_edits_of_the_text_are_right_or_explained(tmp_path: Path, rng: np.random.Generator, seed: int) -> None:
    wrong = 0
    for number in range(EDITS):
        data = bytearray(TEXT.encode())
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(data)))
            what = int(rng.integers(4))
            if what == 0:
                del data[at : at + int(rng.integers(1, 40))]
            elif what == 1:
                data[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 4)), dtype=np.uint8))
            elif what == 2:
                data[at : at + 1] = rng.choice(list("{}[]:#&*!|>'\"%@`,-?\t\n ")).encode()
            else:
                data[at:at] = data[int(rng.integers(len(data))) :][:60]
        try:
            wrong += bool(read(tmp_path / f"{number}.yaml", bytes(data)))
        except Exception as error:
            (tmp_path / "bad.yaml").write_bytes(data)
            pytest.fail(f"{type(error).__name__}: {error} in {tmp_path / 'bad.yaml'}")
    assert wrong > EDITS / 4


def test_each_key_of_the_top_gone_is_named(tmp_path: Path) -> None:
    for key in ("runs", "profiles", "method", "crops", "centre", "profile"):
        values = {name: value for name, value in VALUES.items() if name != key}
        assert f"{key} is missing" in read(tmp_path / "params.yaml", yaml.safe_dump(values))


def test_a_file_of_something_else_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for text in ("", "[]", "profile", "null", "{}", "\x00", b"\xff\xfe\x00"):
        assert read(path, text).startswith(str(path)), text
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match=r"params\.yaml"):
        load(path)


def test_a_value_out_of_range_is_named_with_its_place(tmp_path: Path) -> None:
    for block, key, value in (
        ("train", "seed", 2**63),
        ("train", "momentum", float("nan")),
        ("train", "weight_decay", float("inf")),
        ("train", "threads", 10**9),
        ("prepare", "max_aspect", float("inf")),
        ("prepare", "max_unreadable", 1.5),
        ("prepare", "processes", 0),
        ("prepare", "shared", "both"),
        ("prepare", "upright", "yes"),
        ("data", "val_share", 0.0),
        ("data", "path", 5),
    ):
        values = copy.deepcopy(VALUES)
        values["profiles"][VALUES["profile"]][block][key] = value
        message = read(tmp_path / "params.yaml", yaml.safe_dump(values))
        assert f"profiles.{VALUES['profile']}.{block}.{key} is {value!r}" in message


def test_a_misspelt_key_is_named_with_the_nearest_right_one(tmp_path: Path, rng: np.random.Generator) -> None:
    """Keys of four letters and more, one letter gone: the right one is the first guess."""
    profile = VALUES["profiles"][VALUES["profile"]]
    blocks = {"data": profile["data"], "prepare": profile["prepare"], "net": profile["net"], "train": profile["train"]}
    for block, keys in blocks.items():
        for key in (key for key in keys if len(key) > 5):
            at = int(rng.integers(1, len(key)))
            values = copy.deepcopy(VALUES)
            inside = values["profiles"][VALUES["profile"]][block]
            inside[key[:at] + key[at + 1 :]] = inside.pop(key)
            message = read(tmp_path / f"{block}-{key}.yaml", yaml.safe_dump(values))
            assert f"unknown key profiles.{VALUES['profile']}.{block}.{key[:at] + key[at + 1 :]}. " in message
            assert f"Did you mean {key}?" in message, message
