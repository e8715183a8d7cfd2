"""The list of published files: every row with its source, torchvision's own names among them, and how it is asked."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.published import known_files

DIGITS = {"sha256": 64, "sha1": 40}


def test_every_file_on_the_list_has_a_source_and_a_hash_of_its_kind() -> None:
    for known in known_files.all_known():
        assert known.source and known.what and known.net in ("A", "B", "D", "E")
        assert re.fullmatch(r"[0-9a-f]+", known.hash) and 8 <= len(known.hash) <= DIGITS[known.algorithm]


def test_torchvisions_names_are_on_it() -> None:
    names = {known.what: (known.net, known.hash) for known in known_files.all_known()}
    assert names["torchvision's vgg16-397923af.pth"] == ("D", "397923af")
    assert {net for net, _ in names.values()} == {"A", "B", "D", "E"}


def test_without_torchvision_its_files_are_unknown_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [known for known in known_files.all_known() if not known.what.startswith("torchvision's")]
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # an import raises ModuleNotFoundError
    assert list(known_files.all_known()) == listed
    assert capsys.readouterr().out.startswith("warning: torchvision's own files are not recognised, because it")


def test_a_file_is_hashed_as_hashlib_does(tmp_path: Path, rng: np.random.Generator) -> None:
    content = rng.bytes(int(rng.integers(0, 3 * known_files.BLOCK)))
    (tmp_path / "file").write_bytes(content)
    wanted = {"sha256": hashlib.sha256(content).hexdigest(), "sha1": hashlib.sha1(content).hexdigest()}
    assert known_files.hashes([tmp_path / "file"]) == wanted


def test_a_file_is_recognised_by_its_hash_alone() -> None:
    for known in known_files.all_known():
        rest = "0" * (DIGITS[known.algorithm] - len(known.hash))
        others = {name: "f" * digits for name, digits in DIGITS.items()}
        assert known_files.recognised(others) is None
        assert known_files.recognised(others | {known.algorithm: known.hash + rest}) == known


@pytest.mark.parametrize("algorithm", DIGITS)
def test_a_hash_that_differs_in_its_last_listed_digit_is_another_file(algorithm: str) -> None:
    known = next(known for known in known_files.all_known() if known.algorithm == algorithm)
    changed = known.hash[:-1] + ("0" if known.hash[-1] != "0" else "1")
    digests = {name: "f" * digits for name, digits in DIGITS.items()}
    assert known_files.recognised(digests | {algorithm: changed.ljust(DIGITS[algorithm], "e")}) is None
