"""A result's commit has a plus where anything that numbers depend on has changed since, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from clones import call

from pipeline.provenance import commit

CODE = ("vgg/nets.py", "pipeline/sources/folder.py", "stages/table.py", "params.yaml", "reports/tables.py",
        "reports/printed/table6.csv")  # fmt: skip
OTHERS = ("reports/mini/table6.json", "reports/mini/runs/A-256.csv", "reports/mini/table6.md", "README.md", "dvc.lock")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a file of each kind, all committed."""
    monkeypatch.chdir(tmp_path)
    for name in (*CODE, *OTHERS):
        write(tmp_path / name, "as committed")
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "git", "add", "--all")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    call(tmp_path, "git", *author, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def write(path: Path, text: str) -> None:
    """Write a file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", [*CODE, "reports/new.py"])
def test_changed_code_adds_a_plus(name: str, repository: Path) -> None:
    assert len(commit()) == 12
    write(repository / name, "changed")
    assert commit().endswith("+")


def test_results_and_other_files_add_none(repository: Path) -> None:
    for name in (*OTHERS, "reports/mini/table7.json", "reports/mini/helper.py"):
        write(repository / name, "changed")
    assert len(commit()) == 12


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"
